"""The permutohedral lattice against the NumPy lattice, and what must hold for any points."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import densefield as df
from densefield import reference

Array = NDArray[Any]
pytestmark = pytest.mark.usefixtures("backend")

DIMENSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20)
CHANNELS = (1, 2, 3, 8, 9, 21, 33, 150)

# float64 rounds to 1e-16 and float32 to 6e-8; sums of some 100 terms, weights of some 20.
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}


@cache
def random_points(dim: int, num_points: int = 80, dtype: type = np.float64) -> Array:
    return np.random.default_rng(dim).normal(size=(num_points, dim)).astype(dtype)


@cache
def random_values(channels: int, num_points: int = 80, dtype: type = np.float64) -> Array:
    return np.random.default_rng(channels).random((num_points, channels)).astype(dtype)


@cache
def reference_lattice(dim: int, num_points: int = 80, dtype: type = np.float64) -> Any:
    return reference.Lattice(random_points(dim, num_points, dtype))


def relative_error(result: Array, expected: Array) -> float:
    return float(np.abs(result - expected).max() / np.abs(expected).max())


# Values


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("dim", DIMENSIONS)
def test_filter_of_any_dimension_is_that_of_the_reference(dim: int, dtype: type) -> None:
    values = random_values(3, dtype=dtype)
    result = df.PermutohedralLattice(random_points(dim, dtype=dtype)).filter(values)
    assert result.dtype == dtype
    expected = reference_lattice(dim, dtype=dtype).filter(values)
    assert relative_error(result, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dim", [2, 5])
def test_filter_of_any_number_of_channels_is_that_of_the_reference(
    dim: int, channels: int, dtype: type
) -> None:
    values = random_values(channels, dtype=dtype)
    result = df.PermutohedralLattice(random_points(dim, dtype=dtype)).filter(values)
    expected = reference_lattice(dim, dtype=dtype).filter(values)
    assert relative_error(result, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_transposed_filter_is_that_of_the_reference(dim: int) -> None:
    values = random_values(3)
    result = df.PermutohedralLattice(random_points(dim)).filter(values, transpose=True)
    expected = reference_lattice(dim).filter(values, transpose=True)
    assert relative_error(result, expected) < 1e-12  # as TOLERANCE


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_lattice_has_the_vertices_of_the_reference(dim: int) -> None:
    lattice = df.PermutohedralLattice(random_points(dim))
    expected = reference_lattice(dim)
    assert (lattice.num_points, lattice.num_vertices, lattice.dim) == (
        expected.num_points,
        expected.num_vertices,
        dim,
    )


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_diagonal_is_the_formula(dim: int) -> None:
    result = df.PermutohedralLattice(random_points(dim)).diagonal()
    expected = reference_lattice(dim).diagonal_formula()
    assert relative_error(result, expected) < 1e-12  # as TOLERANCE


@pytest.mark.parametrize("num_points", [3000, 20_000])
def test_many_blocks_of_points_give_the_filter_of_the_reference(num_points: int) -> None:
    values = random_values(4, num_points)
    result = df.PermutohedralLattice(random_points(3, num_points)).filter(values)
    expected = reference_lattice(3, num_points).filter(values)
    assert relative_error(result, expected) < 1e-12  # as TOLERANCE


# Exact sums


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_normalised_filter_is_near_the_exact_gaussian_average(dim: int) -> None:
    rng = np.random.default_rng(dim)
    points = rng.normal(size=(2000, dim))
    values = 2 + np.sin(points[:, :1])  # smooth, as the fields that are filtered in practice
    lattice = df.PermutohedralLattice(points)
    result = lattice.filter(values) / lattice.filter(np.ones((2000, 1)))
    expected = reference.exact_filter(values, points) / reference.exact_filter(
        np.ones((2000, 1)), points
    )
    error = np.linalg.norm(result - expected) / np.linalg.norm(expected)
    assert error < 0.06  # what the method is known to miss by, maths §3


# The transpose


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_transpose_is_the_adjoint(dim: int) -> None:
    lattice = df.PermutohedralLattice(random_points(dim))
    x, y = random_values(3), random_values(2)[:, [0, 1, 0]]
    left = float(np.vdot(lattice.filter(x), y))
    right = float(np.vdot(x, lattice.filter(y, transpose=True)))
    assert left == pytest.approx(right, rel=1e-12)  # float64 sums of 240 terms


def test_transpose_differs_where_vertices_are_missing() -> None:
    lattice = df.PermutohedralLattice(random_points(5))
    values = random_values(3)
    assert relative_error(lattice.filter(values), lattice.filter(values, transpose=True)) > 1e-3


def test_reversed_blur_is_the_adjoint_of_the_blur() -> None:
    lattice = df.PermutohedralLattice(random_points(5))
    rng = np.random.default_rng(0)
    x, y = rng.random((2, lattice.num_vertices))
    left = float(np.vdot(lattice.blur(x), y))
    right = float(np.vdot(x, lattice.blur(y, reverse=True)))
    assert left == pytest.approx(right, rel=1e-12)  # float64 sums of some 400 terms


def test_slice_is_the_scaled_adjoint_of_splat() -> None:
    lattice = df.PermutohedralLattice(random_points(4))
    values = random_values(1)[:, 0]
    vertices = np.random.default_rng(0).random(lattice.num_vertices)
    left = float(np.vdot(lattice.splat(values), vertices)) / (1 + 2.0**-4)
    right = float(np.vdot(values, lattice.slice(vertices)))
    assert left == pytest.approx(right, rel=1e-12)  # float64 sums of 80 terms


# Steps


@pytest.mark.parametrize("dim", [1, 3, 5, 9])
def test_splat_blur_and_slice_make_the_filter(dim: int) -> None:
    lattice = df.PermutohedralLattice(random_points(dim))
    values = random_values(9)
    result = lattice.slice(lattice.blur(lattice.splat(values)))
    assert relative_error(result, lattice.filter(values)) < 1e-14  # the same sums


def test_splat_loses_nothing() -> None:
    values = random_values(3)
    splatted = df.PermutohedralLattice(random_points(5)).splat(values)
    np.testing.assert_allclose(splatted.sum(0), values.sum(0), rtol=1e-13)  # 80 terms


def test_slice_of_a_constant_is_the_constant_times_its_scale() -> None:
    lattice = df.PermutohedralLattice(random_points(5))
    result = lattice.slice(np.ones(lattice.num_vertices))
    np.testing.assert_allclose(result, 1 / (1 + 2.0**-5), rtol=1e-14)  # weights sum to 1


def test_one_dimensional_values_give_one_dimensional_results() -> None:
    lattice = df.PermutohedralLattice(random_points(2))
    values = random_values(1)
    np.testing.assert_array_equal(lattice.filter(values[:, 0]), lattice.filter(values)[:, 0])


def test_no_channels_give_no_channels() -> None:
    lattice = df.PermutohedralLattice(random_points(2))
    assert lattice.filter(np.zeros((80, 0))).shape == (80, 0)


# Invariants


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_constant_in_constant_out_after_normalisation(dim: int) -> None:
    lattice = df.PermutohedralLattice(random_points(dim))
    result = lattice.filter(np.full(80, 7.0)) / lattice.filter(np.ones(80))
    np.testing.assert_allclose(result, 7.0, rtol=1e-13)  # the same sums, scaled


def test_order_of_the_points_does_not_matter() -> None:
    points, values = random_points(3, 20_000), random_values(2, 20_000)
    order = np.random.default_rng(1).permutation(20_000)
    result = df.PermutohedralLattice(points[order]).filter(values[order])
    expected = df.PermutohedralLattice(points).filter(values)[order]
    assert relative_error(result, expected) < 1e-12  # the same sums in another order


@pytest.mark.parametrize("dim", [1, 2, 5, 20])
def test_one_point_keeps_the_share_of_the_diagonal(dim: int) -> None:
    lattice = df.PermutohedralLattice(random_points(dim, 1))
    expected = reference_lattice(dim, 1).filter(np.array([[3.0]]))[0]
    np.testing.assert_allclose(lattice.filter([3.0]), expected, rtol=1e-13)  # one product
    assert lattice.num_vertices == dim + 1


@pytest.mark.parametrize("dim", [1, 2, 5, 20])
def test_equal_points_all_get_the_sum(dim: int) -> None:
    lattice = df.PermutohedralLattice(np.repeat(random_points(dim, 1), 50, axis=0))
    values = random_values(3, 50)
    expected = reference_lattice(dim, 1).filter(values.sum(0, keepdims=True))
    np.testing.assert_allclose(
        lattice.filter(values), np.repeat(expected, 50, axis=0), rtol=1e-12
    )  # 50 terms


def test_points_far_apart_do_not_see_each_other() -> None:
    points = 1000.0 * np.arange(30)[:, None] * np.ones(3)
    lattice = df.PermutohedralLattice(points)
    alone = np.stack([df.PermutohedralLattice(p[None]).filter([1.0]) for p in points])[:, 0]
    # The diagonal of each: one product.
    np.testing.assert_allclose(lattice.filter(np.ones(30)), alone, rtol=1e-13)


# Range


@pytest.mark.parametrize("far", [1e5, 1e6])
@pytest.mark.parametrize("dim", [1, 3, 5, 8])
def test_float32_features_far_from_zero_keep_their_simplex(dim: int, far: float) -> None:
    points = (random_points(dim) + far * (1 + np.arange(dim) % 2)).astype(np.float32)
    values = random_values(3, dtype=np.float32)
    lattice = df.PermutohedralLattice(points)
    expected = reference.Lattice(points.astype(np.float64))
    assert lattice.num_vertices == expected.num_vertices
    # Far points are embedded in float64: only values, weights and sums are rounded.
    assert relative_error(lattice.filter(values), expected.filter(values)) < 1e-5


def test_float32_features_of_a_thousand_sigma_lose_four_digits_at_most() -> None:
    points = (random_points(3, 20_000) + 1e3).astype(np.float32)
    ones = np.ones((20_000, 1), np.float32)
    expected = reference.Lattice(points.astype(np.float64)).filter(ones)
    # Embedded in float32: a unit of the last place of 1e3 is 6e-5, times a few for the sums.
    assert relative_error(df.PermutohedralLattice(points).filter(ones), expected) < 1e-3


def test_features_spread_over_a_million_sigma_do_not_collide() -> None:
    points = np.random.default_rng(3).uniform(-1e6, 1e6, size=(500, 5))
    lattice = df.PermutohedralLattice(points)
    assert lattice.num_vertices == reference.Lattice(points).num_vertices


@pytest.mark.parametrize("dim", [21, 32])
def test_wide_keys_tell_vertices_apart(dim: int) -> None:
    points = np.random.default_rng(4).uniform(-1e6, 1e6, size=(40, dim))
    values = random_values(2, 40)
    lattice, expected = df.PermutohedralLattice(points), reference.Lattice(points)
    assert lattice.num_vertices == expected.num_vertices
    # Features of 1e6 leave weights of 1e-10.
    assert relative_error(lattice.filter(values), expected.filter(values)) < 1e-8


@pytest.mark.parametrize("num_vertices", [16_383, 32_767])
def test_a_number_of_vertices_just_below_a_power_of_two(num_vertices: int) -> None:
    # In one dimension a unit of y is s_0 = sqrt(2/3) * 2 / sqrt(2); a cell is 1 in
    # y - y' terms: points in the middle of M - 1 neighbouring cells touch M vertices.
    cell = 1 / (2 * np.sqrt(2.0 / 3.0) / np.sqrt(2.0))
    points = cell * (np.arange(num_vertices - 1) + 0.5)[:, None]
    lattice, expected = df.PermutohedralLattice(points), reference.Lattice(points)
    assert lattice.num_vertices == expected.num_vertices == num_vertices
    values = random_values(2, num_vertices - 1)
    # Positions of 1e4 leave weights of 1e-12.
    assert relative_error(lattice.filter(values), expected.filter(values)) < 1e-11


# Bits and memory


def test_results_have_the_same_bits_from_run_to_run() -> None:
    points, values = random_points(3, 20_000), random_values(2, 20_000)
    first, second = (df.PermutohedralLattice(points).filter(values) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_have_the_same_bits_on_any_number_of_threads(dtype: type) -> None:
    points, values = random_points(3, 20_000, dtype), random_values(2, 20_000, dtype)
    results = []
    for threads in (1, 2, 5):
        with df.num_threads(threads):
            results.append(df.PermutohedralLattice(points).filter(values))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def test_nbytes_counts_at_least_the_weights() -> None:
    lattice = df.PermutohedralLattice(random_points(5))
    assert lattice.nbytes >= 80 * 6 * 8


def test_more_dimensions_than_an_int_counts_are_refused() -> None:
    features = np.broadcast_to(np.float32(0), (1, 2**32 + 5))
    with pytest.raises(ValueError, match="features must have 1 to 32 dimensions, got 4294967301"):
        df.PermutohedralLattice(features, check_finite=False)
