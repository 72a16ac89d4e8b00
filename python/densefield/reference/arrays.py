"""Array types and the shape checks of the reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


def as_matrix(name: str, array: ArrayLike, *, axes: str) -> Float64Array:
    """Return ``array`` as float64 with two axes, or say what is wrong with it."""
    matrix = np.asarray(array, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(
            f"{name} must have shape {axes}, got {matrix.shape}; reshape it to two axes"
        )
    return matrix


def as_features(features: ArrayLike) -> Float64Array:
    """Return features (N, d) in float64, finite and with at least one dimension."""
    matrix = as_matrix("features", features, axes="(N, d)")
    if matrix.shape[1] == 0:
        raise ValueError(
            f"features must have at least one dimension, got shape {matrix.shape}; "
            f"give one column per dimension"
        )
    num_bad = int(np.count_nonzero(~np.isfinite(matrix)))
    if num_bad:
        raise ValueError(
            f"features must be finite, got {num_bad} NaN or infinite numbers; replace them first"
        )
    return matrix


def as_rows(name: str, array: ArrayLike, *, num_rows: int) -> Float64Array:
    """Return ``array`` as a float64 matrix with ``num_rows`` rows."""
    matrix = as_matrix(name, array, axes=f"({num_rows}, C)")
    if matrix.shape[0] != num_rows:
        raise ValueError(
            f"{name} must have {num_rows} rows, got shape {matrix.shape}; "
            f"give one row per point (or per vertex), channels last"
        )
    return matrix
