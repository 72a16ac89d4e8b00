"""The NumPy reference against hand-made cases, brute force and the golden data."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import golden
from densefield import reference
from densefield.reference.lattice import _enclosing_simplex

Array = NDArray[Any]
DIMENSIONS = (1, 2, 3, 5, 8)


def random_points(dim: int, *, num_points: int = 60, spread: float = 1.0) -> Array:
    return np.random.default_rng(dim).normal(scale=spread, size=(num_points, dim))


def smooth_image(height: int, width: int) -> Array:
    y, x = np.mgrid[:height, :width]
    channels = [128 + 60 * np.sin(x / 9 + k) + 50 * np.cos(y / 7 - k) for k in range(3)]
    noise = np.random.default_rng(0).normal(scale=3.0, size=(height, width, 3))
    return np.asarray(np.stack(channels, axis=-1) + noise)


def points_inside_simplices(dim: int, *, num_points: int) -> Array:
    """Points that stay in their simplex when moved by much more than the difference step."""
    candidates = random_points(dim, num_points=40 * num_points)
    inside = reference.Lattice(candidates).weights.min(axis=1) > 2e-3
    chosen = candidates[inside][:num_points]
    assert len(chosen) == num_points
    return np.asarray(chosen)


def relative_error(result: Array, expected: Array) -> float:
    return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))


def test_the_reference_imports_without_the_compiled_module(tmp_path: Path) -> None:
    package = tmp_path / "densefield"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "reference").symlink_to(Path(reference.__file__).parent)
    program = "import sys; sys.path.insert(0, sys.argv[1]); from densefield import reference"
    command = [sys.executable, "-I", "-B", "-c", program, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 0


# Exact sums and windows


def test_exact_filter_in_blocks_equals_the_double_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densefield.reference.exact._PAIRS_PER_BLOCK", 70)  # 3 rows of 20
    features, values = random_points(3, num_points=20), random_points(2, num_points=20)
    expected = np.zeros((20, 2))
    for i in range(20):
        for j in range(20):
            distance = float(np.sum((features[i] - features[j]) ** 2))
            expected[i] += np.exp(-0.5 * distance) * values[j]
    # Sums of 20 terms of size 1.
    np.testing.assert_allclose(reference.exact_filter(values, features), expected, atol=1e-14)


def test_exact_kernel_keeps_its_digits_far_from_the_origin() -> None:
    near, far = np.array([[0.0], [0.5]]), np.array([[2.0**20], [2.0**20 + 0.5]])
    np.testing.assert_array_equal(
        reference.exact_kernel_matrix(far), reference.exact_kernel_matrix(near)
    )


@pytest.mark.parametrize(("window", "size", "count"), [("square", 3, 9), ("diamond", 2, 13)])
def test_window_has_the_published_number_of_nodes(window: Any, size: int, count: int) -> None:
    matrix = reference.window_kernel_matrix(
        np.zeros((63, 1)), shape=(7, 9), filter_size=size, window=window
    )
    assert matrix[3 * 9 + 4].sum() == count


@pytest.mark.parametrize(("window", "size"), [("square", 5), ("diamond", 3)])
@pytest.mark.parametrize("shape", [(6, 7), (11,), (3, 4, 5)])
def test_window_filter_equals_the_window_matrix(
    window: Any, size: int, shape: tuple[int, ...]
) -> None:
    num_nodes = int(np.prod(shape))
    features = random_points(2, num_points=num_nodes)
    values = random_points(3, num_points=num_nodes)
    matrix = reference.window_kernel_matrix(features, shape=shape, filter_size=size, window=window)
    result = reference.window_filter(values, features, shape=shape, filter_size=size, window=window)
    # The same sums of at most 60 terms in another order.
    np.testing.assert_allclose(result, matrix @ values, atol=1e-13)


def test_a_window_over_the_whole_grid_is_the_exact_sum() -> None:
    features = random_points(2, num_points=12)
    matrix = reference.window_kernel_matrix(features, shape=(3, 4), filter_size=7)
    np.testing.assert_array_equal(matrix, reference.exact_kernel_matrix(features))


# Lattice


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_weights_are_barycentric(dim: int) -> None:
    weights = reference.Lattice(random_points(dim, spread=10.0)).weights
    assert weights.min() >= -1e-14  # rounding of differences of size 10
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-13)


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_vertices_reproduce_the_elevated_point(dim: int) -> None:
    points = random_points(dim, spread=10.0)
    lattice = reference.Lattice(points)
    keys = np.column_stack([lattice.keys, -lattice.keys.sum(axis=1)])
    rebuilt = np.einsum("nk,nkj->nj", lattice.weights, keys[lattice.vertices])
    expected = points @ reference.elevation_matrix(dim).T
    # Keys reach 200 and d + 1 of them are added.
    np.testing.assert_allclose(rebuilt, expected, atol=1e-11)


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_elevation_scales_distances_by_the_variance_of_the_blur(dim: int) -> None:
    matrix = reference.elevation_matrix(dim)
    np.testing.assert_allclose(matrix.sum(axis=0), 0.0, atol=1e-13)
    expected = 2.0 / 3.0 * (dim + 1) ** 2 * np.eye(dim)
    np.testing.assert_allclose(matrix.T @ matrix, expected, atol=1e-12)


def test_rounding_is_half_to_even() -> None:
    simplex = _enclosing_simplex(np.array([[1.0, -1.0], [3.0, -3.0]]))
    assert simplex.base.tolist() == [[0, 0], [4, -4]]
    assert simplex.ranks.tolist() == [[0, 1], [1, 0]]


def test_among_ties_the_higher_index_counts_as_smaller() -> None:
    assert reference.Lattice(np.zeros((1, 3))).ranks.tolist() == [[0, 1, 2, 3]]


def test_one_point_in_one_dimension_by_hand() -> None:
    # Vertices 0 and 1, weights 1 and 0. Along the first direction u = (1, 1/2), along the
    # second u = (5/4, 1); alpha is 2/3.
    lattice = reference.Lattice([[0.0]])
    assert lattice.keys.tolist() == [[0], [1]]
    assert lattice.filter([[1.0]])[0, 0] == pytest.approx(5.0 / 6.0, rel=1e-15)


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_neighbours_are_mutual_and_one_step_apart(dim: int) -> None:
    lattice = reference.Lattice(random_points(dim))
    for direction in range(dim + 1):
        step = np.where(np.arange(dim) == direction, -dim, 1)
        ahead, behind = lattice.neighbours[direction].T
        found = np.flatnonzero(ahead >= 0)
        np.testing.assert_array_equal(lattice.keys[ahead[found]], lattice.keys[found] + step)
        np.testing.assert_array_equal(behind[ahead[found]], found)
        assert np.count_nonzero(behind >= 0) == len(found)


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_transpose_is_the_adjoint(dim: int) -> None:
    lattice = reference.Lattice(random_points(dim))
    rng = np.random.default_rng(7)
    x, y = rng.random((60, 3)), rng.random((60, 3))
    left = np.vdot(lattice.filter(x), y)
    # Float64 sums of 180 terms of one sign round to about 1e-15.
    assert left == pytest.approx(np.vdot(x, lattice.filter(y, transpose=True)), rel=1e-12)


def test_the_unnormalised_lattice_is_not_symmetric() -> None:
    lattice = reference.Lattice(random_points(5))
    matrix = lattice.filter(np.eye(60))
    assert relative_error(matrix.T, matrix) > 0.01


def test_order_of_points_does_not_matter() -> None:
    points, values = random_points(3), random_points(2)
    order = np.random.default_rng(5).permutation(60)
    shuffled = reference.Lattice(points[order]).filter(values[order])
    expected = reference.Lattice(points).filter(values)[order]
    np.testing.assert_allclose(shuffled, expected, atol=1e-13)  # sums of 60 terms of size 1


def test_far_points_keep_apart() -> None:
    # Keys of 1e6 standard deviations wrap in 16 bits and pass 2**21.
    features = np.array([[0.0, 0.0, 0.0], [1e6, -1e6, 1e6]])
    both = reference.Lattice(features).filter(np.eye(2))
    assert both[0, 1] == 0.0
    assert both[1, 0] == 0.0


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_diagonal_is_that_of_the_operator(dim: int) -> None:
    lattice = reference.Lattice(random_points(dim))
    expected = np.diagonal(lattice.filter(np.eye(60)))
    np.testing.assert_allclose(lattice.diagonal(), expected, rtol=1e-13)


def test_diagonal_formula_is_exact_where_the_lattice_is_filled() -> None:
    axis = np.arange(0.0, 10.0, 0.25)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    lattice = reference.Lattice(points)
    inner = np.all((points > 3) & (points < 7), axis=1)  # no vertex is missing within a blur
    np.testing.assert_allclose(
        lattice.diagonal()[inner], lattice.diagonal_formula()[inner], rtol=1e-14
    )
    assert np.all(lattice.diagonal() <= lattice.diagonal_formula() * (1 + 1e-14))


@pytest.mark.parametrize("dim", DIMENSIONS)
@pytest.mark.parametrize("wanted", ["values", "features"])
def test_gradients_equal_central_differences(dim: int, wanted: str) -> None:
    features = points_inside_simplices(dim, num_points=12)
    values, upstream = random_points(2, num_points=12), random_points(4, num_points=12)[:, :2]
    inputs = {"values": values, "features": features}
    gradients = reference.Lattice(features).filter_vjp(values, upstream)
    gradient = dict(zip(("values", "features"), gradients, strict=True))[wanted]
    step = 1e-5  # moves a weight by 1e-5 at most; the points are 2e-3 inside
    numeric = np.empty_like(inputs[wanted])
    for index in np.ndindex(numeric.shape):
        sides = []
        for sign in (1.0, -1.0):
            moved = {name: array.copy() for name, array in inputs.items()}
            moved[wanted][index] += sign * step
            out = reference.Lattice(moved["features"]).filter(moved["values"])
            sides.append(np.vdot(upstream, out))
        numeric[index] = (sides[0] - sides[1]) / (2 * step)
    assert np.linalg.norm(numeric) > 0.1  # a gradient of zeros has a relative error of 1
    # Quadratic in one number, so the difference is exact up to rounding: 1e-15 / 1e-5.
    assert relative_error(gradient, numeric) < 1e-8


@pytest.mark.parametrize("mode", ["before", "after", "symmetric"])
@pytest.mark.parametrize(("kind", "bound"), [("spatial", 0.02), ("bilateral", 0.08)])
def test_normalised_lattice_is_close_to_the_exact_sum(mode: Any, kind: str, bound: float) -> None:
    image = smooth_image(32, 40)
    features = {
        "spatial": reference.grid_positions((32, 40), sigma=3),
        "bilateral": reference.bilateral_features(image, sigma_space=20, sigma_color=30),
    }[kind]
    values = image.reshape(-1, 3) / 255
    result = reference.lattice_operator(features, mode=mode).apply(values)
    expected = reference.exact_operator(features, mode=mode).apply(values)
    # Measured 0.1-1.5 % in 2-D and 1-7 % in 5-D; unnormalised it is 12 % and 47 %.
    assert relative_error(result, expected) < bound


# Normalisation


def test_normalisation_after_keeps_constants() -> None:
    operator = reference.lattice_operator(random_points(5), mode="after")
    constant = np.full((60, 2), 3.5)
    np.testing.assert_allclose(operator.apply(constant), constant, rtol=1e-13)


def test_normalisation_before_keeps_sums() -> None:
    operator = reference.exact_operator(random_points(5), mode="before")
    values = np.random.default_rng(1).random((60, 2))
    np.testing.assert_allclose(operator.apply(values).sum(0), values.sum(0), rtol=1e-13)


@pytest.mark.parametrize("mode", reference.NORMALIZATION_MODES)
def test_normalised_operator_agrees_with_its_matrix(mode: Any) -> None:
    operator = reference.lattice_operator(random_points(3), mode=mode, exact_diagonal=True)
    matrix = operator.apply(np.eye(60))
    np.testing.assert_allclose(operator.diagonal, np.diagonal(matrix), rtol=1e-12)
    np.testing.assert_allclose(operator.apply_transpose(np.eye(60)), matrix.T, atol=1e-14)


def test_symmetric_normalisation_of_a_matrix_by_hand() -> None:
    operator = reference.normalize([[1.0, 3.0], [3.0, 6.0]], mode="symmetric")  # norms 4 and 9
    expected = [[1 / 4, 3 / 6], [3 / 6, 6 / 9]]
    np.testing.assert_allclose(operator.apply(np.eye(2)), expected, rtol=1e-14)


# Mean field


def two_nodes(*, exclude_self: bool) -> Array:
    """Node 0 prefers label 0 by 3 to 1, node 1 has no preference; k = 1/2, w = 4 log 2."""
    unary = np.array([[0.0, 0.0], [np.log(3.0), 0.0]])
    operator = reference.normalize([[1.0, 0.5], [0.5, 1.0]], mode="none")
    compatibility = 4 * np.log(2.0) * reference.potts(2)
    steps = reference.mean_field(
        unary, [operator], [compatibility], iterations=1, exclude_self=exclude_self
    )
    return steps[1]


def test_mean_field_of_two_nodes_without_the_self_term() -> None:
    # Node 1 hears w k (3/4 - 1/4) = log 2; node 0 hears a tie.
    expected = [[3 / 4, 2 / 3], [1 / 4, 1 / 3]]
    np.testing.assert_allclose(two_nodes(exclude_self=True), expected, rtol=1e-14)


def test_mean_field_of_two_nodes_with_the_self_term() -> None:
    # Node 0 also hears itself: w (3/4 - 1/4) = 2 log 2, so its odds rise from 3 to 12.
    expected = [[12 / 13, 2 / 3], [1 / 13, 1 / 3]]
    np.testing.assert_allclose(two_nodes(exclude_self=False), expected, rtol=1e-14)


def test_mean_field_returns_the_start_and_every_step() -> None:
    unary = random_points(3, num_points=4)  # 4 labels, 3 nodes
    steps = reference.mean_field(unary, [], [], iterations=2)
    assert len(steps) == 3
    np.testing.assert_allclose(steps[0], np.exp(-unary) / np.exp(-unary).sum(0), rtol=1e-14)


def small_crf() -> tuple[Array, list[reference.Operator], list[Array]]:
    rng = np.random.default_rng(3)
    matrices = [reference.exact_kernel_matrix(random_points(2, num_points=4)) for _ in range(2)]
    operators = [reference.normalize(matrix, mode="none") for matrix in matrices]
    free = rng.normal(size=(3, 3))
    return rng.normal(size=(3, 4)), operators, [1.5 * reference.potts(3), free + free.T]


@pytest.mark.parametrize("exclude_self", [True, False])
def test_energy_equals_the_double_sum(exclude_self: bool) -> None:
    unary, operators, compatibilities = small_crf()
    labels = np.array([2, 0, 1, 1])
    expected = sum(unary[labels[i], i] for i in range(4))
    for operator, compatibility in zip(operators, compatibilities, strict=True):
        kernel = operator.apply(np.eye(4))
        for i in range(4):
            for j in range(i):
                expected += kernel[i, j] * compatibility[labels[i], labels[j]]
            if not exclude_self:
                expected += 0.5 * kernel[i, i] * compatibility[labels[i], labels[i]]
    result = reference.energy(labels, unary, operators, compatibilities, exclude_self=exclude_self)
    assert result == pytest.approx(expected, rel=1e-13)


def test_divergence_equals_the_sum_over_all_labellings() -> None:
    unary, operators, compatibilities = small_crf()
    q = reference.softmax(random_points(4, num_points=3))
    expected = 0.0
    for labels in np.ndindex(3, 3, 3, 3):
        probability = float(np.prod(q[list(labels), range(4)]))
        energy = reference.energy(labels, unary, operators, compatibilities, exclude_self=True)
        expected += probability * (np.log(probability) + energy)
    result = reference.kl_divergence(q, unary, operators, compatibilities, exclude_self=True)
    assert result == pytest.approx(expected, rel=1e-12)


# Golden data: float32 packages with features divided in float32; measured here max |dQ| 7e-6.


def check_against_golden(marginals: Array, expected: Array) -> None:
    stored = expected.reshape(marginals.shape)
    assert np.abs(marginals - stored).max() <= 5e-5
    assert np.mean(marginals.argmax(axis=0) == stored.argmax(axis=0)) >= 0.999


@cache
def golden_operator(crop: str, kernel: golden.GoldenKernel, mode: Any) -> reference.Operator:
    image = golden.load_golden(crop)["image"]
    sigma = kernel.sigma_space
    if kernel.sigma_color is None:
        features = reference.grid_positions(image.shape[:2], sigma=sigma, dtype=np.float32)
    else:
        features = reference.bilateral_features(
            image, sigma_space=sigma, sigma_color=kernel.sigma_color, dtype=np.float32
        )
    return reference.lattice_operator(features, mode=mode)


@pytest.mark.parametrize("crop", golden.CROPS)
@pytest.mark.parametrize("key", golden.SETTINGS)
def test_marginals_and_divergence_equal_the_golden_ones(crop: str, key: str) -> None:
    stored, setting = golden.load_golden(crop), golden.SETTINGS[key]
    unary = stored["unary"].reshape(len(stored["unary"]), -1)
    operators = [golden_operator(crop, k, setting.normalization) for k in setting.kernels]
    compatibilities = golden.compatibility_matrices(setting, stored)
    steps = reference.mean_field(unary, operators, compatibilities, iterations=setting.iterations)
    check_against_golden(steps[-1], stored[key])
    divergences = [
        reference.kl_divergence(q, unary, operators, compatibilities, pairwise_factor=1.0)
        for q in steps
    ]
    # The stored sums of 73,728 terms were added in float32; measured 7e-6.
    np.testing.assert_allclose(divergences, stored[f"{key}_kl"], rtol=2e-5)


@pytest.mark.parametrize("name", [*golden.CROPS, "volume"])
def test_free_features_equal_the_golden_ones(name: str) -> None:
    stored = golden.load_golden(name)
    features, weights = zip(*golden.weighted_feature_arrays(stored), strict=True)
    unary = stored["unary"].reshape(len(stored["unary"]), -1)
    compatibilities = [weight * reference.potts(len(unary)) for weight in weights]
    operators = [reference.lattice_operator(array) for array in features]
    steps = reference.mean_field(unary, operators, compatibilities, iterations=5)
    key = "pyd_5it" if name == "volume" else "pyd_features_sym_5it"
    check_against_golden(steps[-1], stored[key])
