"""The Gaussian kernel cut to a window of the grid, as an operator."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from densefield import _densefield
from densefield._arrays import (
    FloatArray,
    as_count,
    as_floats_in_place,
    as_precision,
    channels_first,
    own_copy,
)
from densefield._devices import Device, check_device
from densefield._place import Home, Place, place_of
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
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where it lives and filters; NumPy's arrays are copied
        there and back. Unless given, where the features are: those on a GPU stay there, and so do
        values and results.

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
        with place_of(where, {"features": features}) as place:
            given = place.take("features", features)
            values = as_floats_in_place("features", given, check_finite=check_finite)
            self._build(place, where, values, mode)

    def _build(
        self, place: Place, device: str | None, values: FloatArray, normalization: str
    ) -> None:
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
        self._home = Home(place, device)
        if math.prod(self.grid):
            double = self.dtype == np.float64
            term = _densefield.WindowTermF64 if double else _densefield.WindowTermF32
            model = _densefield.ConvModelF64 if double else _densefield.ConvModelF32
            # A copy, because the gradient looks at the features again.
            table = channels_first(own_copy("features", values), -1)
            self._term = term([], table, [1.0] * values.shape[-1], normalization, 1.0)
            with place.models_on(device):
                self._core = model(
                    [*self.grid], self.shape, self.filter_size, 1, [], False, [[self._term]], False
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
        """Weight of every node in its own sum, in the shape of the grid; in host memory."""
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
        with self._home.place_of(values=values, grad_out=grad_out) as place:
            given, upstream = (
                self._checked(name, place.take(name, array), check_finite)
                for name, array in (("values", values), ("grad_out", grad_out))
            )
            if given.shape != upstream.shape:
                raise ValueError(
                    f"grad_out must have the shape of the values, {given.shape}, "
                    f"got {upstream.shape}"
                )
            grad_values = place.empty(given.shape, self.dtype)
            grad_features = place.zeros((*self.grid, self._dim), self.dtype)
            if self._core is not None and given.size:
                self._core.reverse(
                    0,
                    channels_first(given, -1),
                    channels_first(upstream, -1),
                    channels_first(grad_values, -1),
                    self._term,
                    channels_first(grad_features, -1),
                )
            return place.given_back(grad_values), place.given_back(grad_features)

    def _filter(self, values: npt.ArrayLike, transpose: bool, check_finite: bool) -> FloatArray:
        with self._home.place_of(values=values) as place:
            given = self._checked("values", place.take("values", values), check_finite)
            out = place.empty(given.shape, self.dtype)
            if self._core is not None and given.size:
                self._core.apply(0, channels_first(given, -1), transpose, channels_first(out, -1))
            return place.given_back(out)

    def _checked(self, name: str, values: npt.ArrayLike, check_finite: bool) -> FloatArray:
        given = as_floats_in_place(name, values, check_finite=check_finite)
        if given.ndim != len(self.grid) + 1 or given.shape[:-1] != self.grid:
            raise ValueError(
                f"{name} must have shape (*grid, C) for the grid {self.grid} of the features, "
                f"got {given.shape}; move channels to the end with numpy.moveaxis"
            )
        return as_precision(name, given, self.dtype)
