"""The Gaussian sum over all pairs, maths §1: O(N**2) time, bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Float64Array, as_features, as_rows

_PAIRS_PER_BLOCK = 1 << 21  # 16 MiB of float64 for the kernel of one block of rows


def exact_kernel_matrix(features: ArrayLike) -> Float64Array:
    """Gaussian kernel of all pairs of points.

    ``K[i, j] = exp(-0.5 * |f_i - f_j|**2)``, maths §1.

    Parameters
    ----------
    features : (N, d) array of float
        Where each point lies, in units of the kernel's standard deviation.

    Returns
    -------
    (N, N) ndarray of float64
    """
    points = as_features(features)
    return _kernel_rows(points, points)


def exact_filter(values: ArrayLike, features: ArrayLike) -> Float64Array:
    """Gaussian filter in feature space, computed exactly.

    ``out[i] = sum_j exp(-0.5 * |f_i - f_j|**2) * values[j]``, the sum that lattice and window
    approximate.

    Parameters
    ----------
    values : (N, C) array of float
        What is filtered.
    features : (N, d) array of float
        Where each point lies, in units of the kernel's standard deviation.

    Returns
    -------
    (N, C) ndarray of float64

    Raises
    ------
    ValueError
        If the two arrays disagree on N, or a feature is not finite.

    Notes
    -----
    O(N**2 (d + C)) time; a block of rows of the kernel at a time is in memory.

    Examples
    --------
    >>> exact_filter([[1.0], [0.0]], [[0.0], [1.0]]).round(3)
    array([[1.   ],
           [0.607]])
    """
    points = as_features(features)
    signal = as_rows("values", values, num_rows=len(points))
    out = np.empty_like(signal)
    for block in _blocks(len(points)):
        out[block] = _kernel_rows(points[block], points) @ signal
    return out


def exact_filter_vjp(
    values: ArrayLike, features: ArrayLike, grad_out: ArrayLike
) -> tuple[Float64Array, Float64Array]:
    """Differentiate ``sum(grad_out * exact_filter(values, features))``.

    Parameters
    ----------
    values, grad_out : (N, C) arrays of float
        Input of the filter, and the gradient arriving at its output.
    features : (N, d) array of float
        Where each point lies, in units of the kernel's standard deviation.

    Returns
    -------
    grad_values : (N, C) ndarray of float64
        ``K g``: the kernel is symmetric.
    grad_features : (N, d) ndarray of float64
        ``-sum_j K_ij (g_i.v_j + v_i.g_j) (f_i - f_j)``.
    """
    points = as_features(features)
    signal = as_rows("values", values, num_rows=len(points))
    upstream = as_rows("grad_out", grad_out, num_rows=len(points))
    grad_features = np.empty_like(points)
    for block in _blocks(len(points)):
        pair = _kernel_rows(points[block], points)
        pair *= upstream[block] @ signal.T + signal[block] @ upstream.T
        for axis, position in enumerate(points.T):
            difference = position[block, None] - position[None, :]
            grad_features[block, axis] = -(pair * difference).sum(axis=1)
    return exact_filter(upstream, points), grad_features


def _blocks(num_points: int) -> Iterator[slice]:
    size = max(1, _PAIRS_PER_BLOCK // max(1, num_points))
    for start in range(0, num_points, size):
        yield slice(start, start + size)


def _kernel_rows(rows: Float64Array, columns: Float64Array) -> Float64Array:
    # Differences first: |a|**2 + |b|**2 - 2 a.b loses every digit far from the origin.
    squared = np.zeros((len(rows), len(columns)))
    for row_axis, column_axis in zip(rows.T, columns.T, strict=True):
        squared += (row_axis[:, None] - column_axis[None, :]) ** 2
    return np.asarray(np.exp(-0.5 * squared))
