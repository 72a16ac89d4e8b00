"""Labels that no node is likely to have get no messages: marginals must not show it.

That labels are left out and taken back at all is tested in C++, tests/cpp/test_label_pruning.cpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import densefield as df

Array = npt.NDArray[np.floating[Any]]

# One update may be off by 6e-5 where such a label is as likely as it may be; on these fields none
# comes near that, and what is left is rounding.
MOST_DIFFERENCE = 3e-6


def infer_with_all_labels(crf: df.DenseCRF, unary: Array, image: Array) -> Array:
    """Return the marginals of an inference that keeps them, which takes all labels."""
    inference = crf.start(unary, image)
    for _ in range(crf.iterations):
        inference.step()
    return inference.q


def make_problem(num_labels: int, shape: tuple[int, ...] = (21, 23)) -> tuple[Array, Array]:
    """Return energies with three likely labels in regions of their own, and an image of them."""
    rng = np.random.default_rng(num_labels)
    likely = np.array([num_labels - 1, num_labels // 2, 1])
    nearest = np.arange(shape[-1]) * len(likely) // shape[-1]
    label = np.broadcast_to(likely[nearest], shape)
    unary = 6 + 3 * rng.random((num_labels, *shape), np.float32)
    np.put_along_axis(unary, label[None], rng.random((1, *shape), np.float32), 0)
    image = 60 * nearest[:, None] + rng.normal(0, 8, (*shape, 3))
    return unary, image.astype(np.float32)


def make_crf(compatibility: Any = None, iterations: int = 5) -> df.DenseCRF:
    kernels = [
        df.Gaussian(sigma_space=3, weight=3),
        df.Gaussian(sigma_space=2, weight=1, method="lattice"),
        df.Bilateral(sigma_space=30, sigma_color=13, weight=6),
    ]
    mu = df.Potts() if compatibility is None else compatibility
    return df.DenseCRF(kernels, compatibility=mu, iterations=iterations)


@pytest.mark.parametrize("num_labels", [9, 16, 21, 40, 150])
@pytest.mark.parametrize("iterations", [1, 2, 6])
@pytest.mark.usefixtures("backend")
def test_marginals_are_those_of_all_labels(num_labels: int, iterations: int) -> None:
    unary, image = make_problem(num_labels)
    for compatibility in (None, -np.linspace(0.6, 1.4, num_labels)):
        crf = make_crf(compatibility, iterations)
        q = crf.infer(unary, image)
        expected = infer_with_all_labels(crf, unary, image)
        np.testing.assert_allclose(q, expected, rtol=0, atol=MOST_DIFFERENCE)
        np.testing.assert_allclose(q.sum(axis=0), 1, atol=2e-6)
        # Those of the labels that are left out too.
        np.testing.assert_allclose(q, expected, rtol=0.03, atol=1e-9)


@pytest.mark.parametrize("normalization", ["none", "before", "after"])
def test_every_normalization(normalization: Any) -> None:
    unary, image = make_problem(21)
    kernels = [df.Bilateral(sigma_space=5, sigma_color=13, weight=0.3)]
    crf = df.DenseCRF(kernels, normalization=normalization, iterations=5)
    expected = infer_with_all_labels(crf, unary, image)
    np.testing.assert_allclose(crf.infer(unary, image), expected, rtol=0, atol=MOST_DIFFERENCE)


def test_any_strides_and_label_axis() -> None:
    unary, image = make_problem(21)
    crf = make_crf()
    expected = crf.infer(unary, image)
    last = np.moveaxis(unary, 0, -1)
    for given in (last, np.ascontiguousarray(last)):
        q = crf.infer(given, image, label_axis=-1)
        np.testing.assert_array_equal(np.moveaxis(q, -1, 0), expected)
    backwards = np.ascontiguousarray(unary[::-1])[::-1]
    np.testing.assert_array_equal(crf.infer(backwards, image), expected)


def test_labels_in_any_order_have_the_same_marginals() -> None:
    unary, image = make_problem(21)
    crf = make_crf()
    order = np.random.default_rng(1).permutation(21)
    q = crf.infer(np.ascontiguousarray(unary[order]), image)
    np.testing.assert_allclose(q, crf.infer(unary, image)[order], rtol=0, atol=MOST_DIFFERENCE)


def test_same_bits_on_any_number_of_threads() -> None:
    unary, image = make_problem(21, (150, 170))
    with df.num_threads(1):
        expected = make_crf().infer(unary, image)
    for threads in (2, 5):
        with df.num_threads(threads):
            np.testing.assert_array_equal(make_crf().infer(unary, image), expected)


def test_double_precision_leaves_out_nothing() -> None:
    unary, image = make_problem(21)
    crf = make_crf()
    doubles = unary.astype(np.float64)
    np.testing.assert_array_equal(
        crf.infer(doubles, image), infer_with_all_labels(crf, doubles, image)
    )


def test_a_label_that_is_left_out_can_win() -> None:
    # Label 0 drowns label 8 at one node, until label 1 comes and takes the nodes around.
    pinned = 40.0
    unary = np.full((9, 400), pinned, np.float32)
    unary[1] = 0
    for region in range(6):
        here = slice(200 + 30 * region, 220 + 30 * region)
        unary[1, here], unary[2 + region, here] = pinned, 0
    unary[0, 60:72], unary[1, 60:72] = -np.log(0.7), -np.log(0.3)
    unary[[8, 0, 1], 66] = 0, 2, 35
    crf = df.DenseCRF([df.Gaussian(sigma_space=4, weight=20)], iterations=12)
    prepared = crf.prepare(shape=(400,))
    q = prepared.infer(unary)
    inference = prepared.start(unary)
    lowest = 1.0
    for _ in range(12):
        inference.step()
        lowest = min(lowest, float(inference.q[8].max()))
    assert lowest < 1e-4
    assert q[8, 66] > 0.9
    np.testing.assert_allclose(q, inference.q, rtol=0, atol=1e-5)
