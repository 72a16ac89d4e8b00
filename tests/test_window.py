"""The window kernel equals the exact truncated sum, as an operator and normalised."""

import numpy as np
import pytest

import densefield as df
from densefield import reference

# float64 sums of up to 441 terms round to about 1e-14 of their size; float32 weights and sums
# to some 1e-6.
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}
MODES = ("none", "before", "after", "symmetric")
GRIDS = [
    ((9, 13), 3, "square", 5),
    ((9, 13), 5, "square", 16),
    ((19, 23), 7, "square", 21),
    ((25, 26), 11, "square", 4),
    ((24, 40), 21, "square", 3),
    ((4, 5), 11, "square", 3),
    ((1, 1), 7, "square", 2),
    ((1, 1), 2, "diamond", 1),
    ((1, 17), 5, "square", 30),
    ((30,), 9, "square", 150),
    ((5, 6, 7), 5, "square", 9),
    ((9, 13), 3, "diamond", 5),
    ((12, 20), 6, "diamond", 17),
    ((4, 3, 5), 4, "diamond", 8),
]


def make_case(grid, num_channels, dtype, seed=3):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(*grid, 4)).astype(dtype)
    return features, rng.normal(size=(*grid, num_channels)).astype(dtype)


def reference_operator(features, filter_size, window, mode):
    grid = features.shape[:-1]
    table = features.reshape(-1, features.shape[-1]).astype(np.float64)
    return reference.window_operator(
        table, shape=grid, filter_size=filter_size, window=window, mode=mode
    )


def relative_error(result, expected):
    return np.abs(result - expected.reshape(result.shape)).max() / np.abs(expected).max()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("grid", "filter_size", "window", "num_channels"), GRIDS)
def test_filter_equals_the_exact_sum(grid, filter_size, window, num_channels, mode, dtype):
    features, values = make_case(grid, num_channels, dtype)
    kernel = df.WindowKernel(features, filter_size, window, normalization=mode)
    expected = reference_operator(features, filter_size, window, mode)
    table = values.reshape(-1, num_channels).astype(np.float64)
    assert relative_error(kernel.apply(values), expected.apply(table)) < TOLERANCE[dtype]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("grid", "filter_size", "window", "num_channels"), GRIDS)
def test_diagonal_equals_the_exact_one(grid, filter_size, window, num_channels, mode):
    features, _ = make_case(grid, num_channels, np.float64)
    kernel = df.WindowKernel(features, filter_size, window, normalization=mode)
    expected = reference_operator(features, filter_size, window, mode).diagonal
    assert relative_error(kernel.diagonal(), expected) < 1e-12


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", ["square", "diamond"])
def test_transpose_is_the_adjoint(window, mode):
    features, x = make_case((13, 21), 5, np.float64)
    y = make_case((13, 21), 5, np.float64, seed=4)[1]
    kernel = df.WindowKernel(features, 5, window, normalization=mode)
    left, right = np.vdot(kernel.apply(x), y), np.vdot(x, kernel.apply_transpose(y))
    assert left == pytest.approx(right, rel=1e-12)  # float64 sums of 1e5 terms


def test_one_sided_normalisation_is_not_symmetric():
    features, x = make_case((13, 21), 5, np.float64)
    kernel = df.WindowKernel(features, 5, normalization="after")
    assert np.abs(kernel.apply(x) - kernel.apply_transpose(x)).max() > 1e-3


def test_normalising_after_keeps_a_constant():
    features, _ = make_case((13, 21), 5, np.float64)
    ones = np.ones((13, 21, 2))
    result = df.WindowKernel(features, 7, normalization="after").apply(ones)
    np.testing.assert_allclose(result, ones, rtol=1e-13)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_all_levels_agree(dtype):
    features, values = make_case((19, 23), 21, dtype)
    before = df.system_info()["simd"]
    results = []
    try:
        for level in df.system_info()["simd_available"]:
            df._densefield.set_simd_level(level)
            results.append(df.WindowKernel(features, 7).apply(values))
    finally:
        df._densefield.set_simd_level(before)
    for result in results[1:]:
        # Levels differ in whether products are rounded before they are added.
        np.testing.assert_allclose(result, results[0], rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("num_labels", [1, 2, 8, 9, 21, 33, 150])
def test_threads_give_the_same_bits(num_labels):
    features, values = make_case((70, 300), num_labels, np.float32)
    results = []
    for threads in (1, 2, 5):
        with df.num_threads(threads):
            results.append(df.WindowKernel(features, 5, normalization="symmetric").apply(values))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_strided_values_are_read_and_not_written():
    features, values = make_case((9, 13), 6, np.float64)
    kernel = df.WindowKernel(features[::-1], 3)
    reversed_values = values[::-1, :, ::2]
    kept = values.copy()
    expected = df.WindowKernel(features[::-1].copy(), 3).apply(reversed_values.copy())
    np.testing.assert_array_equal(kernel.apply(reversed_values), expected)
    np.testing.assert_array_equal(values, kept)


def test_features_a_million_sigmas_apart_do_not_mix():
    features = np.arange(12.0)[:, None] * 1e6
    values = np.arange(12.0)[:, None]
    np.testing.assert_array_equal(df.WindowKernel(features, 5).apply(values), values)


@pytest.mark.parametrize("shape", [(0, 4, 2), (4, 0, 2)])
def test_an_empty_grid_is_accepted(shape):
    kernel = df.WindowKernel(np.zeros(shape), 3)
    assert kernel.apply(np.zeros((*shape[:-1], 5))).shape == (*shape[:-1], 5)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"filter_size": 4}, ValueError, "filter_size of a square window must be odd.*got 4"),
        ({"filter_size": 0}, ValueError, "filter_size must be 1 or more, got 0"),
        ({"filter_size": 3.0}, TypeError, "filter_size must be an integer"),
        ({"shape": "round"}, ValueError, "shape must be 'square' or 'diamond', got 'round'"),
        ({"shape": 3}, TypeError, "shape must be 'square' or 'diamond', got int"),
        ({"normalization": "left"}, ValueError, "normalization must be one of"),
        ({"features": np.zeros((3, 3, 0))}, ValueError, "features must have shape"),
        ({"features": np.zeros(3)}, ValueError, "features must have shape"),
        ({"features": np.zeros((2, 2, 2, 2, 1))}, ValueError, "grid of 1 to 3 dimensions"),
        ({"features": np.full((3, 3, 1), np.nan)}, ValueError, "9 NaN or infinite"),
        ({"features": np.zeros((3, 1), complex)}, TypeError, "features must hold real"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        df.WindowKernel(**{"features": np.zeros((3, 3, 1)), **arguments})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.zeros((3, 4)), r"values must have shape \(\*grid, C\)"),
        (np.zeros((4, 3, 2)), r"values must have shape \(\*grid, C\)"),
        (np.full((3, 4, 1), np.inf), "12 NaN or infinite"),
    ],
)
def test_bad_values_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        df.WindowKernel(np.zeros((3, 4, 1)), 3).apply(values)


def test_a_table_beyond_memory_is_refused_with_its_size():
    features = np.broadcast_to(np.zeros(1, np.float32), (1 << 22, 1))
    with pytest.raises(MemoryError, match="not enough memory"):
        df.WindowKernel(features, 2**31 - 1, check_finite=False)
