"""Mean field, divergence and energy against the NumPy reference on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import densefield as df
from densefield import reference

Array = NDArray[Any]
pytestmark = pytest.mark.usefixtures("backend")

GRIDS = [(90,), (9, 11), (4, 5, 6)]
NORMALIZATIONS: list[Any] = ["none", "before", "after", "symmetric"]
# Other grids with sigmas of whole numbers have points on the borders of simplices: float32 and
# float64 then take different ones, and vertices that hold nothing still carry the blur.
SPACE, COLOR, WEIGHTS = 2.1, 20.0, (0.7, 1.5)
ITERATIONS = 3

# A few hundred roundings an iteration of 1e-16 and 6e-8, which strong weights spread.
TOLERANCE = {np.float64: 1e-11, np.float32: 2e-5}


def make_image(grid: tuple[int, ...], channels: int = 3) -> Array:
    rng = np.random.default_rng(len(grid))
    return rng.uniform(0, 90, size=(*grid, channels))


def make_unary(grid: tuple[int, ...], labels: int, dtype: type = np.float64) -> Array:
    return np.random.default_rng(labels).uniform(0, 3, size=(labels, *grid)).astype(dtype)


def kernels(**options: Any) -> list[Any]:
    return [
        df.Gaussian(sigma_space=SPACE, weight=WEIGHTS[0], method="lattice"),
        df.Bilateral(sigma_space=2 * SPACE, sigma_color=COLOR, weight=WEIGHTS[1], **options),
    ]


def reference_operators(image: Array, modes: tuple[Any, Any]) -> list[reference.Operator]:
    grid = image.shape[:-1]
    features = [
        reference.grid_positions(grid, sigma=SPACE),
        reference.bilateral_features(image, sigma_space=2 * SPACE, sigma_color=COLOR),
    ]
    pairs = zip(features, modes, strict=True)
    return [reference.lattice_operator(f, mode=mode) for f, mode in pairs]


def expected_marginals(
    unary: Array,
    image: Array,
    *,
    mode: Any = "symmetric",
    own_mode: Any = None,
    mu: tuple[Array, Array] | None = None,
    **options: Any,
) -> list[Array]:
    labels = len(unary)
    mu = mu or (reference.potts(labels), reference.potts(labels))
    marginals = reference.mean_field(
        unary.reshape(labels, -1),
        reference_operators(image, (mode, own_mode or mode)),
        [w * m for w, m in zip(WEIGHTS, mu, strict=True)],
        iterations=ITERATIONS,
        **options,
    )
    return [q.reshape(unary.shape) for q in marginals]


def largest_difference(result: Array, expected: Array) -> float:
    assert result.shape == expected.shape
    return float(np.abs(result - expected).max())


# Marginals


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("mode", NORMALIZATIONS)
@pytest.mark.parametrize("grid", GRIDS)
def test_marginals_of_every_normalisation(grid: Any, mode: Any, dtype: type) -> None:
    image, unary = make_image(grid), make_unary(grid, 4, dtype)
    crf = df.DenseCRF(kernels(), normalization=mode, iterations=ITERATIONS)
    q = crf.infer(unary, image.astype(dtype))
    assert q.dtype == dtype
    expected = expected_marginals(unary, image.astype(dtype), mode=mode)[-1]
    assert largest_difference(q, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("labels", [1, 2, 3, 8, 9, 17, 21, 33, 70, 150])
def test_marginals_of_any_number_of_labels(labels: int) -> None:
    image, unary = make_image((6, 7)), make_unary((6, 7), labels, np.float32)
    q = df.DenseCRF(kernels(), iterations=ITERATIONS).infer(unary, image.astype(np.float32))
    expected = expected_marginals(unary, image.astype(np.float32))[-1]
    assert largest_difference(q, expected) < 2e-5  # as TOLERANCE


def some_matrix(labels: int) -> Array:
    return np.random.default_rng(5).normal(scale=0.5, size=(labels, labels))


@pytest.mark.parametrize("labels", [3, 21, 40])
@pytest.mark.parametrize("form", ["potts", "vector", "matrix"])
def test_marginals_of_every_compatibility(form: str, labels: int) -> None:
    image, unary = make_image((6, 7)), make_unary((6, 7), labels)
    mu, full = {
        "potts": (df.Potts(0.5), 0.5 * reference.potts(labels)),
        "vector": (-np.diag(some_matrix(labels)), -np.diag(np.diag(some_matrix(labels)))),
        "matrix": (some_matrix(labels), some_matrix(labels)),
    }[form]
    q = df.DenseCRF(kernels(), compatibility=mu, iterations=ITERATIONS).infer(unary, image)
    expected = expected_marginals(unary, image, mu=(full, full))[-1]
    assert largest_difference(q, expected) < 1e-11  # as TOLERANCE


def test_a_kernel_may_have_its_own_compatibility_and_normalisation() -> None:
    image, unary, own = make_image((6, 7)), make_unary((6, 7), 3), some_matrix(3)
    crf = df.DenseCRF(kernels(compatibility=own, normalization="after"), iterations=ITERATIONS)
    expected = expected_marginals(unary, image, own_mode="after", mu=(reference.potts(3), own))[-1]
    assert largest_difference(crf.infer(unary, image), expected) < 1e-11  # as TOLERANCE


@pytest.mark.parametrize("labels", [3, 21])
@pytest.mark.parametrize("mode", NORMALIZATIONS)
@pytest.mark.parametrize("form", ["potts", "matrix"])
def test_marginals_without_the_self_term(mode: Any, form: str, labels: int) -> None:
    image, unary = make_image((6, 7)), make_unary((6, 7), labels)
    full = reference.potts(labels) if form == "potts" else some_matrix(labels)
    crf = df.DenseCRF(
        kernels(),
        compatibility=df.Potts() if form == "potts" else full,
        normalization=mode,
        exclude_self=True,
        iterations=ITERATIONS,
    )
    expected = expected_marginals(unary, image, mode=mode, mu=(full, full), exclude_self=True)
    assert largest_difference(crf.infer(unary, image), expected[-1]) < 1e-11  # as TOLERANCE


def test_features_kernel_is_the_kernel_of_its_features() -> None:
    image, unary = make_image((6, 7)), make_unary((6, 7), 3)
    features = reference.bilateral_features(image, sigma_space=4, sigma_color=20)
    q = df.DenseCRF([df.Features(features)]).infer(unary)
    bilateral = df.DenseCRF([df.Bilateral(sigma_space=4, sigma_color=20)]).infer(unary, image)
    assert largest_difference(q, bilateral) < 1e-11  # as TOLERANCE


def test_sigmas_per_axis_follow_the_axes_of_the_array() -> None:
    unary = make_unary((6, 7), 3)
    y, x = np.indices((6, 7))
    features = np.stack([x / 3.0, y / 1.5], axis=-1)
    q = df.DenseCRF([df.Gaussian(sigma_space=(1.5, 3.0), method="lattice")]).infer(unary)
    expected = df.DenseCRF([df.Features(features)]).infer(unary)
    assert largest_difference(q, expected) < 1e-11  # as TOLERANCE


def test_sigmas_per_channel_follow_the_channels() -> None:
    image, unary, sigmas = make_image((6, 7)), make_unary((6, 7), 3), (10.0, 20.0, 40.0)
    q = df.DenseCRF([df.Bilateral(sigma_space=4, sigma_color=sigmas)]).infer(unary, image)
    scaled = image * 20 / np.array(sigmas)
    expected = df.DenseCRF([df.Bilateral(sigma_space=4, sigma_color=20)]).infer(unary, scaled)
    assert largest_difference(q, expected) < 1e-11  # as TOLERANCE


def test_point_sets_are_inferred_as_one_dimensional_grids() -> None:
    points, unary = np.random.default_rng(0).normal(size=(50, 3)), make_unary((50,), 4)
    q = df.DenseCRF([df.Features(points, weight=2)], iterations=2).infer(unary)
    operator = reference.lattice_operator(points)
    expected = reference.mean_field(unary, [operator], [2 * reference.potts(4)], iterations=2)
    assert largest_difference(q, expected[-1]) < 1e-11  # as TOLERANCE


# Special models


def test_no_kernels_give_the_softmax() -> None:
    unary = make_unary((6, 7), 5)
    expected = reference.softmax(-unary)
    assert largest_difference(df.DenseCRF([]).infer(unary), expected) < 1e-14  # one softmax


def test_no_iterations_give_the_softmax() -> None:
    unary = make_unary((6, 7), 5)
    q = df.DenseCRF([df.Gaussian(sigma_space=2)], iterations=0).infer(unary)
    assert largest_difference(q, reference.softmax(-unary)) < 1e-14  # one softmax


def test_one_iteration_is_the_first_of_many() -> None:
    image, unary = make_image((6, 7)), make_unary((6, 7), 3)
    q = df.DenseCRF(kernels(), iterations=1).infer(unary, image)
    assert largest_difference(q, expected_marginals(unary, image)[1]) < 1e-11  # as TOLERANCE


def test_one_label_is_certain() -> None:
    q = df.DenseCRF([df.Gaussian(sigma_space=2)]).infer(make_unary((6, 7), 1))
    np.testing.assert_array_equal(q, 1)


def test_one_node_without_its_self_term_keeps_its_unary() -> None:
    unary = np.array([[1.0], [2.0]])
    q = df.DenseCRF([df.Gaussian(sigma_space=2, weight=3)], exclude_self=True).infer(unary)
    # The kernel of a single node is its diagonal: what is left of 3 rounds to 0.
    assert largest_difference(q, reference.softmax(-unary)) < 1e-14


# The spatial kernel on the grid


def grid_operator(grid: tuple[int, ...], sigma: Any, mode: Any) -> reference.Operator:
    return reference.exact_operator(reference.grid_positions(grid, sigma=sigma), mode=mode)


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("mode", NORMALIZATIONS)
@pytest.mark.parametrize("grid", [(9,), (8, 9), (4, 5, 6), (2, 3, 4, 3)])
def test_short_spatial_kernels_are_the_exact_sum(
    grid: tuple[int, ...], mode: Any, exclude_self: bool
) -> None:
    unary = make_unary(grid, 3)
    kernel = df.Gaussian(sigma_space=2.5, weight=0.7)
    crf = df.DenseCRF(
        [kernel], normalization=mode, iterations=ITERATIONS, exclude_self=exclude_self
    )
    expected = reference.mean_field(
        unary.reshape(3, -1),
        [grid_operator(grid, 2.5, mode)],
        [0.7 * reference.potts(3)],
        iterations=ITERATIONS,
        exclude_self=exclude_self,
    )
    # No node of these grids is beyond the 3.5 sigma at which the kernel is cut.
    result = crf.infer(unary).reshape(3, -1)
    assert largest_difference(result, expected[-1]) < 1e-11  # as TOLERANCE


@pytest.mark.parametrize("sigma", [2.4, 5.0, 7.6, 30.0, (3.0, 20.0)])
def test_spatial_kernels_are_near_the_exact_sum(sigma: Any) -> None:
    unary = 3 * make_unary((40, 50), 2)
    q = df.DenseCRF([df.Gaussian(sigma_space=sigma, weight=2)], iterations=1).infer(unary)
    columns = sigma[::-1] if isinstance(sigma, tuple) else sigma  # the reference takes x first
    expected = reference.mean_field(
        unary.reshape(2, -1),
        [grid_operator((40, 50), columns, "symmetric")],
        [2 * reference.potts(2)],
        iterations=1,
    )[-1]
    # A message of size 2 within 0.5 % at worst, and marginals change by a quarter of that.
    assert largest_difference(q.reshape(2, -1), expected) < 3e-3


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sigma", [1e-12, 1e6, 1e12])
def test_extreme_spatial_kernels_see_one_node_or_all(sigma: float, dtype: type) -> None:
    unary = make_unary((6, 7), 3, dtype)
    q = df.DenseCRF([df.Gaussian(sigma_space=sigma)], iterations=1).infer(unary)
    start = reference.softmax(-unary)
    mean = start.mean(axis=(1, 2), keepdims=True)
    message = start if sigma < 1 else np.broadcast_to(mean, start.shape)
    expected = reference.softmax(-unary + message)
    assert largest_difference(q, expected) < 1e-2  # the kernel's own error and more


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_marginals_sum_to_one(dtype: type) -> None:
    image, unary = make_image((20, 30)), make_unary((20, 30), 21, dtype)
    q = df.DenseCRF(kernels()).infer(unary, image)
    np.testing.assert_allclose(q.sum(0), 1, atol=8 * np.finfo(dtype).eps)  # 21 roundings


@pytest.mark.parametrize("energy", [1e4, 1e31, 3e38])
def test_huge_equal_energies_leave_labels_equal(energy: float) -> None:
    q = df.DenseCRF([]).infer(np.full((3, 4), energy, np.float32))
    np.testing.assert_allclose(q, 1 / 3, rtol=1e-6)  # one division in float32


def test_a_forbidden_label_is_not_taken() -> None:
    unary = np.zeros((3, 4, 5), np.float32)
    unary[1] = 3e38
    q = df.DenseCRF([df.Gaussian(sigma_space=1)]).infer(unary)
    assert q[1].max() < 1e-30


# Energy and divergence


@pytest.mark.parametrize("mode", NORMALIZATIONS)
@pytest.mark.parametrize("form", ["potts", "vector", "matrix"])
def test_divergence_leaves_out_the_self_terms(mode: Any, form: str) -> None:
    image, unary = make_image((6, 7)), make_unary((6, 7), 3)
    q = reference.softmax(-make_unary((6, 7), 3)[::-1])
    mu: Any = {"potts": df.Potts(), "vector": some_matrix(3)[0], "matrix": some_matrix(3)}[form]
    full = {
        "potts": reference.potts(3),
        "vector": np.diag(some_matrix(3)[0]),
        "matrix": some_matrix(3),
    }[form]
    crf = df.DenseCRF(kernels(), compatibility=mu, normalization=mode)
    expected = reference.kl_divergence(
        q.reshape(3, -1),
        unary.reshape(3, -1),
        reference_operators(image, (mode, mode)),
        [w * full for w in WEIGHTS],
        exclude_self=True,
    )
    # float64 sums of a few thousand terms
    assert crf.kl_divergence(q, unary, image) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("form", ["potts", "vector", "matrix"])
def test_energy_leaves_out_the_self_terms(form: str) -> None:
    image, unary = make_image((6, 7)), make_unary((6, 7), 3)
    labels = np.random.default_rng(1).integers(0, 3, size=(6, 7))
    mu: Any = {"potts": df.Potts(), "vector": some_matrix(3)[0], "matrix": some_matrix(3)}[form]
    full = {
        "potts": reference.potts(3),
        "vector": np.diag(some_matrix(3)[0]),
        "matrix": some_matrix(3),
    }[form]
    expected = reference.energy(
        labels.ravel(),
        unary.reshape(3, -1),
        reference_operators(image, ("symmetric", "symmetric")),
        [w * full for w in WEIGHTS],
        exclude_self=True,
    )
    result = df.DenseCRF(kernels(), compatibility=mu).energy(labels, unary, image)
    assert result == pytest.approx(expected, rel=1e-11)  # float64 sums of a few thousand terms


def test_energy_of_two_isolated_nodes_is_their_unary() -> None:
    unary = np.array([[1.0, 2.0], [4.0, 8.0]])
    crf = df.DenseCRF([df.Features([[0.0], [1000.0]], weight=5)])
    assert crf.energy([0, 1], unary) == pytest.approx(9.0, rel=1e-12)  # no pair is near


def test_updates_of_a_weak_model_lower_the_divergence() -> None:
    image, unary = make_image((6, 7)), make_unary((6, 7), 3)
    crf = df.DenseCRF([df.Bilateral(sigma_space=4, sigma_color=20)], exclude_self=True)
    inference = crf.start(unary, image)
    divergence = [inference.kl_divergence()]
    for _ in range(3):
        inference.step()
        divergence.append(inference.kl_divergence())
    assert divergence == sorted(divergence, reverse=True)
    assert divergence[-1] < divergence[0] - 0.01
