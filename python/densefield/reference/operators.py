"""Kernel operators and their normalisation: maths §3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Float64Array, as_rows
from .exact import exact_kernel_matrix
from .lattice import Lattice
from .window import WindowShape, window_kernel_matrix

Apply = Callable[[Float64Array], Float64Array]
Normalization = Literal["none", "before", "after", "symmetric"]

NORMALIZATION_MODES: tuple[str, ...] = get_args(Normalization)

# Powers of D on the left and on the right of K.
NORM_POWERS: dict[str, tuple[float, float]] = {
    "none": (0.0, 0.0),
    "before": (0.0, -1.0),
    "after": (-1.0, 0.0),
    "symmetric": (-0.5, -0.5),
}

_NORM_EPSILON = 1e-20  # keeps an isolated point's norm away from 0, maths §3


class Operator(NamedTuple):
    """A linear map of (N, C) values, with what the inference needs of it."""

    apply: Apply
    diagonal: Float64Array  # (N,)
    apply_transpose: Apply


def kernel_norm(apply: Apply, num_points: int) -> Float64Array:
    """Compute the diagonal of D, the kernel applied to ones, (N,)."""
    return apply(np.ones((num_points, 1)))[:, 0] + _NORM_EPSILON


def normalize(
    kernel: ArrayLike | Apply,
    *,
    mode: Normalization = "symmetric",
    diagonal: ArrayLike | None = None,
    transpose: Apply | None = None,
) -> Operator:
    """Wrap a kernel K in one of the four normalisations.

    With n = K 1 and D = diag(n + 1e-20): ``none`` K, ``before`` K D^-1, ``after`` D^-1 K,
    ``symmetric`` D^-1/2 K D^-1/2.

    Parameters
    ----------
    kernel : (N, N) array or callable
        The kernel; a callable maps (N, C) to (N, C).
    mode : {"none", "before", "after", "symmetric"}
        Where D enters. The transpose swaps ``before`` and ``after`` and keeps D.
    diagonal : (N,) array, optional
        K_ii; needed with a callable, read off a matrix.
    transpose : callable, optional
        K^T as a callable; without it a callable counts as symmetric.

    Returns
    -------
    Operator
    """
    if mode not in NORMALIZATION_MODES:
        raise ValueError(f"mode must be one of {NORMALIZATION_MODES}, got {mode!r}")
    if callable(kernel):
        if diagonal is None:
            raise ValueError("diagonal must be given with a callable kernel, got None; pass K_ii")
        plain, adjoint = kernel, transpose or kernel
        kernel_diagonal = np.asarray(diagonal, dtype=np.float64)
    else:
        matrix = np.asarray(kernel, dtype=np.float64)
        plain, adjoint = _multiply_by(matrix), _multiply_by(matrix.T)
        kernel_diagonal = np.diagonal(matrix).copy()
    num_points = len(kernel_diagonal)
    norm = kernel_norm(plain, num_points)
    power_left, power_right = NORM_POWERS[mode]
    left, right = norm[:, None] ** power_left, norm[:, None] ** power_right

    def apply(values: Float64Array) -> Float64Array:
        return left * plain(right * as_rows("values", values, num_rows=num_points))

    def apply_transpose(values: Float64Array) -> Float64Array:
        return right * adjoint(left * as_rows("values", values, num_rows=num_points))

    return Operator(apply, kernel_diagonal * (left * right)[:, 0], apply_transpose)


def exact_operator(features: ArrayLike, *, mode: Normalization = "symmetric") -> Operator:
    """Make the normalised operator of the exact Gaussian sum; (N, N) in memory."""
    return normalize(exact_kernel_matrix(features), mode=mode)


def window_operator(
    features: ArrayLike,
    *,
    shape: Sequence[int],
    filter_size: int,
    window: WindowShape = "square",
    mode: Normalization = "symmetric",
) -> Operator:
    """Make the normalised operator of the sum cut to a window; (N, N) in memory."""
    matrix = window_kernel_matrix(features, shape=shape, filter_size=filter_size, window=window)
    return normalize(matrix, mode=mode)


def lattice_operator(
    features: ArrayLike, *, mode: Normalization = "symmetric", exact_diagonal: bool = False
) -> Operator:
    """Make the normalised operator of the permutohedral lattice.

    The diagonal is that of the formula, or with ``exact_diagonal`` that of the definition,
    which costs O(N M d).
    """
    lattice = Lattice(features)
    return normalize(
        lattice.filter,
        mode=mode,
        diagonal=lattice.diagonal() if exact_diagonal else lattice.diagonal_formula(),
        transpose=lambda values: lattice.filter(values, transpose=True),
    )


def _multiply_by(matrix: Float64Array) -> Apply:
    return lambda values: matrix @ values
