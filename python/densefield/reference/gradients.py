"""Derivatives, step by step: normalised kernel, softmax, compatibility, features.

Every ``*_vjp`` takes the gradient that arrives at an output and returns those of the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Float64Array, as_rows
from .kernels import Kernel
from .mean_field import potts
from .operators import NORM_POWERS, Normalization, kernel_norm, normalize


class NormalizedKernel:
    """A kernel in one of the four normalisations, with its derivative: maths §3.

    ``D^a K D^b``. D depends on the features too, and is differentiated with them.

    Parameters
    ----------
    kernel : Lattice, ExactKernel or WindowKernel
        K.
    mode : {"none", "before", "after", "symmetric"}
        Where D enters.
    """

    def __init__(self, kernel: Kernel, *, mode: Normalization = "symmetric") -> None:
        self.kernel = kernel
        self.operator = normalize(
            kernel.filter,
            mode=mode,
            diagonal=kernel.diagonal_formula(),
            transpose=lambda values: kernel.filter(values, transpose=True),
        )
        self._norm = kernel_norm(kernel.filter, kernel.num_points)
        self._powers = NORM_POWERS[mode]

    def vjp(
        self, values: ArrayLike, grad_out: ArrayLike, *, exclude_self: bool = False
    ) -> tuple[Float64Array, Float64Array]:
        """Differentiate ``sum(grad_out * operator.apply(values))``.

        Parameters
        ----------
        values, grad_out : (N, C) arrays of float
            Input of the operator, and the gradient arriving at its output.
        exclude_self : bool
            The output is that without the diagonal: ``apply(values) - diagonal * values``.

        Returns
        -------
        grad_values : (N, C) ndarray of float64
        grad_features : (N, d) ndarray of float64
        """
        signal = as_rows("values", values, num_rows=self.kernel.num_points)
        upstream = as_rows("grad_out", grad_out, num_rows=self.kernel.num_points)
        left, right = (self._norm**power for power in self._powers)
        # out = left * K (right * v)
        inner, grad_features = self.kernel.filter_vjp(
            right[:, None] * signal, left[:, None] * upstream
        )
        grad_values = right[:, None] * inner
        grad_left = (upstream * self.kernel.filter(right[:, None] * signal)).sum(axis=1)
        grad_right = (inner * signal).sum(axis=1)
        if exclude_self:
            # out -= left * K_ii * right * v
            own = self.kernel.diagonal_formula()
            grad_own = -(upstream * signal).sum(axis=1)
            grad_values -= (left * own * right)[:, None] * upstream
            grad_features += self.kernel.diagonal_vjp(grad_own * left * right)
            grad_left += grad_own * own * right
            grad_right += grad_own * own * left
        return grad_values, grad_features + self._norm_vjp(grad_left, grad_right)

    def _norm_vjp(self, grad_left: Float64Array, grad_right: Float64Array) -> Float64Array:
        """Differentiate D^a and D^b, D = K 1, for the features."""
        power_left, power_right = self._powers
        grad_norm = power_left * self._norm ** (power_left - 1.0) * grad_left
        grad_norm += power_right * self._norm ** (power_right - 1.0) * grad_right
        ones = np.ones((self.kernel.num_points, 1))
        return self.kernel.filter_vjp(ones, grad_norm[:, None])[1]


def softmax_vjp(marginals: ArrayLike, grad_marginals: ArrayLike, *, axis: int = 0) -> Float64Array:
    """Differentiate ``sum(grad_marginals * softmax(z))`` for z, given the softmax: maths §6."""
    q = np.asarray(marginals, dtype=np.float64)
    upstream = np.asarray(grad_marginals, dtype=np.float64)
    return np.asarray(q * (upstream - (upstream * q).sum(axis=axis, keepdims=True)))


def compatibility_matrix(compatibility: ArrayLike, num_labels: int) -> Float64Array:
    """Matrix mu (C, C) of a number (the weight of Potts), of a diagonal (C,), or of itself."""
    form = np.asarray(compatibility, dtype=np.float64)
    if form.ndim == 0:
        return float(form) * potts(num_labels)
    return np.diag(form) if form.ndim == 1 else form


def compatibility_vjp(
    weight: float, compatibility: ArrayLike, grad_matrix: ArrayLike
) -> tuple[float, Float64Array]:
    """Differentiate ``sum(grad_matrix * A)``, A = weight * mu.

    Parameters
    ----------
    weight : float
        w of the kernel.
    compatibility : number or (C,) or (C, C) array
        Potts weight, diagonal or matrix.
    grad_matrix : (C, C) array of float
        The gradient arriving at A.

    Returns
    -------
    grad_weight : float
    grad_compatibility : ndarray of float64, shape of `compatibility`
    """
    upstream = np.asarray(grad_matrix, dtype=np.float64)
    form = np.asarray(compatibility, dtype=np.float64)
    grad_weight = float(np.sum(upstream * compatibility_matrix(form, len(upstream))))
    if form.ndim == 0:
        return grad_weight, np.asarray(weight * np.sum(upstream * potts(len(upstream))))
    return grad_weight, weight * (np.diagonal(upstream) if form.ndim == 1 else upstream)


class FeatureGradients(NamedTuple):
    """Gradients of `bilateral_features`: every standard deviation has one of its own."""

    image: Float64Array  # (*grid, channels)
    sigma_space: Float64Array  # one per axis, x first
    sigma_color: Float64Array  # one per channel


def bilateral_features_vjp(
    features: ArrayLike,
    grad_features: ArrayLike,
    *,
    shape: Sequence[int],
    sigma_space: float | Sequence[float],
    sigma_color: float | Sequence[float] = 1.0,
) -> FeatureGradients:
    """Differentiate ``sum(grad_features * bilateral_features(image))``.

    ``f = x / sigma``, so ``grad_x = grad_f / sigma`` and ``grad_sigma = -sum grad_f f / sigma``.
    For features that are positions alone (`grid_positions`) there are no channels.

    Parameters
    ----------
    features, grad_features : (N, d) arrays of float
        The features, and the gradient arriving at them.
    shape : sequence of ints
        The grid.
    sigma_space, sigma_color : float or sequence of floats
        As given to `bilateral_features`. Where one number serves several columns its gradient is
        the sum of theirs.

    Returns
    -------
    FeatureGradients
    """
    points = np.asarray(features, dtype=np.float64)
    upstream = np.asarray(grad_features, dtype=np.float64)
    num_axes, num_channels = len(shape), points.shape[1] - len(shape)
    space = np.broadcast_to(np.asarray(sigma_space, dtype=np.float64), num_axes)
    color = np.broadcast_to(np.asarray(sigma_color, dtype=np.float64), num_channels)
    grad_sigma = -(upstream * points).sum(axis=0) / np.concatenate([space, color])
    grad_image = upstream[:, num_axes:] / color
    return FeatureGradients(
        grad_image.reshape(*shape, num_channels), grad_sigma[:num_axes], grad_sigma[num_axes:]
    )
