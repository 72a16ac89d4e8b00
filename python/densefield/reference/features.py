"""Feature vectors of the nodes of a grid: maths §1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


def grid_positions(
    shape: Sequence[int],
    *,
    sigma: float | Sequence[float] = 1.0,
    dtype: DTypeLike = np.float64,
) -> NDArray[np.floating]:
    """Positions of the nodes of a grid, in units of sigma.

    The columns run from the last axis to the first: (x, y) for a grid (H, W), (x, y, z) for
    a grid (Z, Y, X). The rows run in C order, the last axis fastest.

    Parameters
    ----------
    shape : sequence of D ints
        Size of each axis of the grid.
    sigma : float or sequence of D floats
        Standard deviation; a sequence is in the order of the columns, x first.
    dtype : dtype
        The division is done in this type; float32 gives what single-precision packages see.

    Returns
    -------
    (prod(shape), D) ndarray

    Examples
    --------
    >>> grid_positions((2, 3), sigma=(1.0, 2.0)).tolist()
    [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    """
    scale = _one_per_column("sigma", sigma, num_columns=len(shape), dtype=dtype)
    axes_last_first = np.indices(tuple(shape)).reshape(len(shape), -1)[::-1]
    return np.asarray(axes_last_first.T.astype(dtype) / scale)


def bilateral_features(
    image: ArrayLike,
    *,
    sigma_space: float | Sequence[float],
    sigma_color: float | Sequence[float],
    dtype: DTypeLike = np.float64,
) -> NDArray[np.floating]:
    """Position and colour of every pixel, in units of their standard deviations.

    The columns are (x, y, channel 0, channel 1, ...): the approximation by a lattice depends on
    their order.

    Parameters
    ----------
    image : (*grid, channels) array
        Colours as they are, 0..255 for an 8-bit image. A grey image needs an axis of size 1.
    sigma_space : float or sequence of floats
        theta_alpha, or one per axis, x first.
    sigma_color : float or sequence of floats
        theta_beta, or one per channel.
    dtype : dtype
        The division is done in this type.

    Returns
    -------
    (prod(grid), len(grid) + channels) ndarray

    Examples
    --------
    >>> bilateral_features([[[10.0], [30.0]]], sigma_space=2, sigma_color=10).tolist()
    [[0.0, 0.0, 1.0], [0.5, 0.0, 3.0]]
    """
    pixels = np.asarray(image)
    if pixels.ndim < 2:
        raise ValueError(
            f"image must have shape (*grid, channels), got {pixels.shape}; "
            f"add an axis of size 1 with image[..., None]"
        )
    num_channels = pixels.shape[-1]
    scale = _one_per_column("sigma_color", sigma_color, num_columns=num_channels, dtype=dtype)
    color = pixels.reshape(-1, num_channels).astype(dtype) / scale
    position = grid_positions(pixels.shape[:-1], sigma=sigma_space, dtype=dtype)
    return np.concatenate([position, color], axis=1)


def _one_per_column(
    name: str, sigma: float | Sequence[float], *, num_columns: int, dtype: DTypeLike
) -> NDArray[np.floating]:
    scale = np.asarray(sigma, dtype=dtype)
    if scale.shape not in ((), (num_columns,)):
        raise ValueError(
            f"{name} must be one number or {num_columns}, got shape {scale.shape}; "
            f"give one standard deviation per column"
        )
    if not np.all((scale > 0) & np.isfinite(scale)):
        raise ValueError(f"{name} must be positive and finite, got {sigma}; use e.g. 3.0")
    return np.broadcast_to(scale, (num_columns,))
