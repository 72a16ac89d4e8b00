"""The Gaussian sum cut to a window of the grid, maths §5 [TC18]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Float64Array, as_features, as_rows
from .exact import exact_kernel_matrix

WindowShape = Literal["square", "diamond"]
Slices = tuple[slice, ...]


def window_kernel_matrix(
    features: ArrayLike,
    *,
    shape: Sequence[int],
    filter_size: int,
    window: WindowShape = "square",
) -> Float64Array:
    """Gaussian kernel of all pairs of nodes of a grid, 0 outside the window.

    Parameters
    ----------
    features : (N, d) array of float
        Features of the nodes of the grid in C order, in units of standard deviations.
    shape : sequence of ints
        The grid; its product is N.
    filter_size : int
        k. ``"square"``: every |offset| <= (k - 1) / 2, so k is odd. ``"diamond"``: the sum of
        the |offsets| <= k.
    window : {"square", "diamond"}
        Which offsets count.

    Returns
    -------
    (N, N) ndarray of float64
    """
    points = _grid_features(features, shape)
    _check_window(filter_size, window)
    position = np.indices(tuple(shape)).reshape(len(shape), -1)
    offset = np.abs(position[:, :, None] - position[:, None, :])
    if window == "square":
        inside = offset.max(axis=0) <= filter_size // 2
    else:
        inside = offset.sum(axis=0) <= filter_size
    return np.where(inside, exact_kernel_matrix(points), 0.0)


def window_filter(
    values: ArrayLike,
    features: ArrayLike,
    *,
    shape: Sequence[int],
    filter_size: int,
    window: WindowShape = "square",
) -> Float64Array:
    """Filter with the Gaussian kernel cut to a window, one offset at a time.

    ``out[i] = sum_{j in window(i)} exp(-0.5 * |f_i - f_j|**2) * values[j]``; outside the grid
    counts as 0. The parameters are those of `window_kernel_matrix`; memory is O(N).

    Returns
    -------
    (N, C) ndarray of float64
    """
    points = _grid_features(features, shape)
    signal = as_rows("values", values, num_rows=len(points))
    grid_points = points.reshape(*shape, -1)
    grid_signal = signal.reshape(*shape, signal.shape[1])
    out = np.zeros_like(grid_signal)
    for here, there in _pairs_of_nodes(shape, filter_size, window):
        weight = _gaussian(grid_points[here] - grid_points[there])
        out[here] += weight * grid_signal[there]
    return out.reshape(signal.shape)


def window_filter_vjp(
    values: ArrayLike,
    features: ArrayLike,
    grad_out: ArrayLike,
    *,
    shape: Sequence[int],
    filter_size: int,
    window: WindowShape = "square",
) -> tuple[Float64Array, Float64Array]:
    """Differentiate ``sum(grad_out * window_filter(values, features))``: maths §5, "Gradients".

    Parameters
    ----------
    values, grad_out : (N, C) arrays of float
        Input of the filter, and the gradient arriving at its output.
    features, shape, filter_size, window
        As for `window_kernel_matrix`.

    Returns
    -------
    grad_values : (N, C) ndarray of float64
    grad_features : (N, d) ndarray of float64
    """
    points = _grid_features(features, shape)
    signal = as_rows("values", values, num_rows=len(points))
    upstream = as_rows("grad_out", grad_out, num_rows=len(points))
    grid_points = points.reshape(*shape, -1)
    grid_signal = signal.reshape(*shape, signal.shape[1])
    grid_upstream = upstream.reshape(*shape, signal.shape[1])
    grad_values, grad_features = np.zeros_like(grid_signal), np.zeros_like(grid_points)
    for here, there in _pairs_of_nodes(shape, filter_size, window):
        difference = grid_points[here] - grid_points[there]
        weight = _gaussian(difference)
        grad_values[there] += weight * grid_upstream[here]
        grad_weight = (grid_upstream[here] * grid_signal[there]).sum(axis=-1, keepdims=True)
        step = grad_weight * weight * difference
        grad_features[here] -= step
        grad_features[there] += step
    return grad_values.reshape(signal.shape), grad_features.reshape(points.shape)


def _gaussian(difference: Float64Array) -> Float64Array:
    return np.asarray(np.exp(-0.5 * (difference**2).sum(axis=-1, keepdims=True)))


def _pairs_of_nodes(
    shape: Sequence[int], filter_size: int, window: WindowShape
) -> Iterator[tuple[Slices, Slices]]:
    """Yield for each offset the nodes here and those at here + offset, both in the grid."""
    _check_window(filter_size, window)
    for offset in _window_offsets(shape, filter_size, window):
        steps = list(zip(offset, shape, strict=True))
        here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in steps)
        there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in steps)
        yield here, there


def _window_offsets(
    shape: Sequence[int], filter_size: int, window: WindowShape
) -> list[tuple[int, ...]]:
    radius = filter_size // 2 if window == "square" else filter_size
    steps = [range(-min(radius, n - 1), min(radius, n - 1) + 1) for n in shape]
    offsets = list(product(*steps))
    if window == "diamond":
        offsets = [offset for offset in offsets if sum(map(abs, offset)) <= filter_size]
    return offsets


def _check_window(filter_size: int, window: str) -> None:
    if window not in ("square", "diamond"):
        raise ValueError(f"window must be 'square' or 'diamond', got {window!r}; use 'square'")
    if filter_size < 1:
        raise ValueError(f"filter_size must be at least 1, got {filter_size}; use e.g. 7")
    if window == "square" and filter_size % 2 == 0:
        raise ValueError(
            f"filter_size of a square window must be odd, got {filter_size}; use {filter_size + 1}"
        )


def _grid_features(features: ArrayLike, shape: Sequence[int]) -> Float64Array:
    points = as_features(features)
    num_nodes = int(np.prod(shape))
    if len(points) != num_nodes:
        raise ValueError(
            f"features must have one row per node of the grid {tuple(shape)} ({num_nodes}), "
            f"got shape {points.shape}; reshape an image to (-1, channels)"
        )
    return points
