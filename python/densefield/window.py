"""The Gaussian kernel cut to a window of the grid, as an operator."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from densefield import _densefield
from densefield._arrays import FloatArray, as_count, as_float_array, as_precision, channels_first
from densefield._devices import Device, check_device, on_device
from densefield.kernels import Normalization, check_normalization

WindowShape: TypeAlias = Literal["square", "diamond"]

_MAX_AXES = 3  # of grids that windows are cut from
_MAX_FILTER_SIZE = 2**31 - 1


def check_window(filter_size: Any, shape: Any) -> tuple[int, WindowShape]:
    """Return the size and shape of a window, or raise with what is wanted."""
    if not isinstance(shape, str):
        raise TypeError(f"shape must be 'square' or 'diamond', got {type(shape).__name__}")
    if shape not in get_args(WindowShape):
        raise ValueError(f"shape must be 'square' or 'diamond', got {shape!r}")
    size = as_count("filter_size", filter_size, minimum=1, maximum=_MAX_FILTER_SIZE)
    if shape == "square" and size % 2 == 0:
        raise ValueError(
            f"filter_size of a square window must be odd, so that it has a centre, got {size}; "
            f"use {size + 1}"
        )
    checked: WindowShape = "square" if shape == "square" else "diamond"
    return size, checked


def window_radius(filter_size: int, shape: WindowShape) -> int:
    """Return how many grid steps the window reaches along an axis."""
    return filter_size // 2 if shape == "square" else filter_size


def check_window_grid(grid: tuple[int, ...]) -> None:
    """Raise unless windows can be cut from a grid of this shape."""
    if len(grid) > _MAX_AXES:
        raise ValueError(
            f"windows need a grid of 1 to {_MAX_AXES} dimensions, got {len(grid)}: {grid}; "
            f"split the grid along its first axes, or use DenseCRF"
        )


class WindowKernel:
    """Gaussian filter over the neighbours of every node of a grid, computed exactly.

    ``out[i] = sum_{j in window(i)} exp(-0.5 * |f_i - f_j|**2) * values[j]``; what lies outside
    the grid counts as 0.

    Parameters
    ----------
    features : (*grid, d) array of float
        Where each node lies, in units of the kernel's standard deviation; 1 to 3 grid axes.
        float64 is computed in float64, all else in float32.
    filter_size : int, default 7
        Side of the square window (odd), or the largest sum of steps of the diamond.
    shape : {"square", "diamond"}, default "square"
        ``|dx|, |dy| <= filter_size // 2``, or ``|dx| + |dy| <= filter_size``.
    normalization : {"none", "before", "after", "symmetric"}, default "none"
        How the kernel is normalised, maths §3.
    check_finite : bool, default True
        Refuse NaN and infinity.
    device : {"cpu", "cuda"}, optional
        Where the weights live and filter; arrays are copied there and back. The CPU unless
        given.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or value.
    MemoryError
        If the table would not fit; the text says how many bytes.

    Notes
    -----
    Building costs O(N k**2 d) and keeps one weight for each node and neighbour; a filter costs
    O(N k**2 C). Same bits on any number of threads.

    References
    ----------
    Teichmann and Cipolla 2018, "Convolutional CRFs for semantic segmentation", section 4.

    Examples
    --------
    >>> import numpy as np
    >>> kernel = WindowKernel(np.array([[0.0], [1.0], [5.0]]), filter_size=3)
    >>> kernel.apply(np.array([[1.0], [0.0], [0.0]])).round(3)
    array([[1.   ],
           [0.607],
           [0.   ]])
    """

    def __init__(
        self,
        features: npt.ArrayLike,
        filter_size: int = 7,
        shape: WindowShape = "square",
        *,
        normalization: Normalization = "none",
        check_finite: bool = True,
        device: Device | None = None,
    ) -> None:
        where = check_device(device)
        self.filter_size, self.shape = check_window(filter_size, shape)
        mode = check_normalization(normalization)
        values = as_float_array("features", features, check_finite=check_finite)
        if values.ndim < 2 or values.shape[-1] == 0:
            raise ValueError(
                f"features must have shape (*grid, d) with d of 1 or more, got {values.shape}; "
                f"give one feature per node as array[..., None]"
            )
        check_window_grid(values.shape[:-1])
        self.grid = values.shape[:-1]
        self.dtype = values.dtype
        self._dim = values.shape[-1]
        self._core = None
        if math.prod(self.grid):
            double = self.dtype == np.float64
            term = _densefield.WindowTermF64 if double else _densefield.WindowTermF32
            model = _densefield.ConvModelF64 if double else _densefield.ConvModelF32
            # A copy, because the gradient looks at the features again.
            table = channels_first(values, -1).copy()
            self._term = term([], table, [1.0] * values.shape[-1], mode, 1.0)
            with on_device(where):
                self._core = model(
                    list(self.grid), shape, self.filter_size, 1, [], [[self._term]], False
                )

    @property
    def nbytes(self) -> int:
        """Bytes of the table of weights."""
        return 0 if self._core is None else self._core.nbytes

    def apply(self, values: npt.ArrayLike, *, check_finite: bool = True) -> FloatArray:
        """Filter (*grid, C) values; NaN and infinity would spread, so they are refused."""
        return self._filter(values, False, check_finite)

    def apply_transpose(self, values: npt.ArrayLike, *, check_finite: bool = True) -> FloatArray:
        """Apply the transpose, which differs where normalisation is on one side."""
        return self._filter(values, True, check_finite)

    def diagonal(self) -> FloatArray:
        """Weight of every node in its own sum, in the shape of the grid."""
        out = np.empty((1, math.prod(self.grid)), self.dtype)
        if self._core is not None:
            self._core.diagonal(0, out)
        return out.reshape(self.grid)

    def vjp(
        self, values: npt.ArrayLike, grad_out: npt.ArrayLike, *, check_finite: bool = True
    ) -> tuple[FloatArray, FloatArray]:
        """Gradients of ``L = sum(grad_out * apply(values))`` by the values and the features.

        Parameters
        ----------
        values : (*grid, C) array of float
            What is filtered.
        grad_out : (*grid, C) array of float
            Gradient dL/dout by the filter's result.
        check_finite : bool, default True
            Refuse NaN and infinity.

        Returns
        -------
        grad_values : (*grid, C) ndarray
            ``apply_transpose(grad_out)``.
        grad_features : (*grid, d) ndarray
            Through the normalisation too.

        Raises
        ------
        TypeError, ValueError
            If an array does not hold finite real numbers or has the wrong shape.

        Notes
        -----
        Costs about three filters and twice the building. Same bits on any number of threads.

        Examples
        --------
        >>> import numpy as np
        >>> kernel = WindowKernel(np.array([[0.0], [1.0]]), filter_size=3)
        >>> grad_values, grad_features = kernel.vjp(np.eye(2)[:1].T, np.eye(2)[1:].T)
        >>> grad_features.round(3)
        array([[ 0.607],
               [-0.607]])
        """
        given, upstream = (
            self._checked(name, array, check_finite)
            for name, array in (("values", values), ("grad_out", grad_out))
        )
        if given.shape != upstream.shape:
            raise ValueError(
                f"grad_out must have the shape of the values, {given.shape}, got {upstream.shape}"
            )
        grad_values = np.empty(given.shape, self.dtype)
        grad_features = np.zeros((*self.grid, self._dim), self.dtype)
        if self._core is not None and given.size:
            self._core.reverse(
                0,
                channels_first(given, -1),
                channels_first(upstream, -1),
                channels_first(grad_values, -1),
                self._term,
                channels_first(grad_features, -1),
            )
        return grad_values, grad_features

    def _filter(self, values: npt.ArrayLike, transpose: bool, check_finite: bool) -> FloatArray:
        given = self._checked("values", values, check_finite)
        out = np.empty(given.shape, self.dtype)
        if self._core is not None and out.size:
            self._core.apply(0, channels_first(given, -1), transpose, channels_first(out, -1))
        return out

    def _checked(self, name: str, values: npt.ArrayLike, check_finite: bool) -> FloatArray:
        given = as_float_array(name, values, check_finite=check_finite)
        if given.ndim != len(self.grid) + 1 or given.shape[:-1] != self.grid:
            raise ValueError(
                f"{name} must have shape (*grid, C) for the grid {self.grid} of the features, "
                f"got {given.shape}; move channels to the end with numpy.moveaxis"
            )
        return as_precision(name, given, self.dtype)
