"""The three kernels with one interface: filter, its derivative, and the diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Float64Array, as_features
from .exact import exact_filter, exact_filter_vjp
from .window import WindowShape, window_filter, window_filter_vjp


class Kernel(Protocol):
    """A kernel K of features (N, d); `Lattice`, `ExactKernel` and `WindowKernel` are ones."""

    num_points: int
    dim: int

    def filter(self, values: ArrayLike, *, transpose: bool = False) -> Float64Array:
        """Apply K, or K^T, to (N, C) values."""

    def filter_vjp(
        self, values: ArrayLike, grad_out: ArrayLike
    ) -> tuple[Float64Array, Float64Array]:
        """Differentiate ``sum(grad_out * K values)`` for the values and the features."""

    def diagonal_formula(self) -> Float64Array:
        """Compute K_ii, (N,)."""

    def diagonal_vjp(self, grad_diagonal: ArrayLike) -> Float64Array:
        """Differentiate ``sum(grad_diagonal * K_ii)`` for the features, (N, d)."""


class ExactKernel:
    """The Gaussian sum over all pairs of points with features (N, d), maths §1."""

    def __init__(self, features: ArrayLike) -> None:
        self.features = as_features(features)
        self.num_points, self.dim = self.features.shape

    def filter(self, values: ArrayLike, *, transpose: bool = False) -> Float64Array:
        """Apply K, which is its own transpose."""
        return exact_filter(values, self.features)

    def filter_vjp(
        self, values: ArrayLike, grad_out: ArrayLike
    ) -> tuple[Float64Array, Float64Array]:
        """See `exact_filter_vjp`."""
        return exact_filter_vjp(values, self.features, grad_out)

    def diagonal_formula(self) -> Float64Array:
        """1 for every point."""
        return np.ones(self.num_points)

    def diagonal_vjp(self, grad_diagonal: ArrayLike) -> Float64Array:
        """0: the diagonal is 1 whatever the features."""
        return np.zeros_like(self.features)


class WindowKernel(ExactKernel):
    """The Gaussian sum cut to a window of the grid, maths §5; see `window_kernel_matrix`."""

    def __init__(
        self,
        features: ArrayLike,
        *,
        shape: Sequence[int],
        filter_size: int,
        window: WindowShape = "square",
    ) -> None:
        super().__init__(features)
        self.shape = tuple(shape)
        self.filter_size = filter_size
        self.window: WindowShape = window

    def filter(self, values: ArrayLike, *, transpose: bool = False) -> Float64Array:
        """Apply K, which is its own transpose."""
        return window_filter(
            values,
            self.features,
            shape=self.shape,
            filter_size=self.filter_size,
            window=self.window,
        )

    def filter_vjp(
        self, values: ArrayLike, grad_out: ArrayLike
    ) -> tuple[Float64Array, Float64Array]:
        """See `window_filter_vjp`."""
        return window_filter_vjp(
            values,
            self.features,
            grad_out,
            shape=self.shape,
            filter_size=self.filter_size,
            window=self.window,
        )
