"""Two labels take a way of their own, one number per node: it must agree with the general one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import densefield as df

Array = npt.NDArray[np.floating[Any]]

# Grids of 1 to 3 axes, with extents that no tile or vector divides.
SHAPES: list[tuple[int, ...]] = [(37,), (35, 41), (5, 9, 7)]

COMPATIBILITIES: dict[str, Any] = {
    "potts": df.Potts(),
    "equal": np.array([-1.5, -1.5]),
    "unequal": np.array([-1.0, -2.0]),
    "matrix": np.array([[0.3, 1.1], [0.7, -0.4]]),
}


def make_problem(shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    unary = rng.normal(size=(2, *shape)).astype(dtype)
    image = rng.uniform(0, 255, size=(*shape, 3)).astype(dtype)
    return unary, image


def make_kernels() -> list[Any]:
    return [
        df.Gaussian(sigma_space=3, weight=1.5),
        df.Gaussian(sigma_space=1, weight=0.5),
        df.Gaussian(sigma_space=2, weight=0.7, method="lattice"),
        df.Bilateral(sigma_space=8, sigma_color=60, weight=2),
    ]


def infer_in_general(crf: df.DenseCRF, unary: Array, image: Array) -> Array:
    """Return the marginals of an inference that keeps them, which no short way can."""
    return crf.infer(unary, image, callback=lambda iteration, q: None)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("compatibility", COMPATIBILITIES)
@pytest.mark.usefixtures("backend")
def test_agrees_with_the_general_way(compatibility: str, shape: tuple[int, ...]) -> None:
    unary, image = make_problem(shape, np.float64)
    crf = df.DenseCRF(make_kernels(), compatibility=COMPATIBILITIES[compatibility], iterations=4)
    q = crf.infer(unary, image)
    # Five sums of some hundred terms one after the other: some 1e-15 each.
    np.testing.assert_allclose(q, infer_in_general(crf, unary, image), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("normalization", ["none", "before", "after"])
@pytest.mark.usefixtures("backend")
def test_agrees_in_every_normalization(normalization: Any) -> None:
    unary, image = make_problem((35, 41), np.float64)
    crf = df.DenseCRF(
        [df.Bilateral(sigma_space=8, sigma_color=60, weight=0.1)],
        compatibility=COMPATIBILITIES["matrix"],
        normalization=normalization,
        iterations=3,
    )
    q = crf.infer(unary, image)
    np.testing.assert_allclose(q, infer_in_general(crf, unary, image), rtol=1e-11, atol=1e-14)


@pytest.mark.usefixtures("backend")
def test_float32_is_near_float64() -> None:
    unary, image = make_problem((35, 41), np.float64)
    crf = df.DenseCRF(make_kernels(), iterations=5)
    q32 = crf.infer(unary.astype(np.float32), image.astype(np.float32))
    assert q32.dtype == np.float32
    np.testing.assert_allclose(q32, crf.infer(unary, image), atol=2e-5)  # 1e-7 times the energies


@pytest.mark.usefixtures("backend")
def test_the_smaller_marginal_keeps_its_precision() -> None:
    unary = np.zeros((2, 3, 4))
    unary[1] = 40.0
    q = df.DenseCRF([df.Gaussian(sigma_space=1, weight=0)], iterations=1).infer(unary)
    np.testing.assert_allclose(q[1], np.exp(-40.0), rtol=1e-12)  # 1 - q[0] would be 0


@pytest.mark.usefixtures("backend")
def test_any_strides_and_label_axis() -> None:
    unary, image = make_problem((35, 41), np.float32)
    crf = df.DenseCRF(make_kernels(), iterations=3)
    expected = crf.infer(unary, image)
    last = crf.infer(np.moveaxis(unary, 0, -1), image, label_axis=-1)
    np.testing.assert_array_equal(np.moveaxis(last, -1, 0), expected)
    reversed_twice = unary[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    np.testing.assert_array_equal(crf.infer(reversed_twice, image), expected)


def test_same_bits_on_any_number_of_threads() -> None:
    unary, image = make_problem((70, 300), np.float32)
    crf = df.DenseCRF(make_kernels(), iterations=3)
    results = []
    for count in (1, 2, 3):
        with df.num_threads(count):
            results.append(crf.infer(unary, image))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def test_a_compatibility_of_three_labels_is_refused() -> None:
    unary, image = make_problem((5, 6), np.float32)
    crf = df.DenseCRF([df.Gaussian(sigma_space=1)], compatibility=np.ones(3))
    with pytest.raises(ValueError, match="compatibility"):
        crf.infer(unary, image)
