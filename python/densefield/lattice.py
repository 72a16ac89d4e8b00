"""The permutohedral lattice: Gaussian filtering of values at points of any dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from densefield import _densefield
from densefield._arrays import FloatArray, as_flag, as_floats_in_place, as_precision, with_last_axis
from densefield._devices import Device, check_device
from densefield._place import Home, Place, place_of


class LatticeSize(NamedTuple):
    """Size of one kernel's lattice."""

    num_points: int
    num_vertices: int
    dim: int
    nbytes: int


class PermutohedralLattice:
    """Fast approximate Gaussian filter for points in a d-dimensional feature space.

    ``out[i] = sum_j exp(-0.5 * |f_i - f_j|**2) * values[j]``, approximately, in time that
    grows with the number of points and not with its square.

    Parameters
    ----------
    features : (N, d) array of float
        Where each point lies, in units of the kernel's standard deviation; 1 to 32 dimensions.
    check_finite : bool, default True
        Refuse NaN and infinity here; otherwise the build refuses them.
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where it lives and filters; NumPy's arrays are copied
        there and back. Unless given, where the features are: those on a GPU stay there, and so do
        values and results.

    Attributes
    ----------
    num_points, num_vertices, dim : int
        N, the number of lattice vertices M, and d.
    nbytes : int
        Memory of the tables.
    dtype : dtype
        float64 if the features are float64, else float32: the type of all results.

    Raises
    ------
    TypeError, ValueError
        If the features are not a table of finite real numbers, or lie more than 2^30 lattice
        cells (about as many standard deviations) from 0.

    Notes
    -----
    Without normalisation the result is not on the scale of the exact sum (maths §3): divide
    by the filtered field of ones. Building costs O(N d^2), filtering O((N + M) d) per
    channel. A lattice never changes and may be used by several threads at once. The same
    input gives the same bits on any number of threads.

    References
    ----------
    Adams, Baek and Davis 2010, "Fast high-dimensional filtering using the permutohedral
    lattice".

    Examples
    --------
    >>> import numpy as np
    >>> lattice = PermutohedralLattice(np.array([[0.0], [0.1], [9.0]]))
    >>> smooth = lattice.filter([1.0, 0.0, 0.0]) / lattice.filter(np.ones(3))
    >>> smooth.round(2)
    array([0.51, 0.5 , 0.  ])
    """

    def __init__(
        self,
        features: npt.ArrayLike,
        *,
        check_finite: bool = True,
        device: Device | None = None,
    ) -> None:
        where = check_device(device)
        with place_of(where, {"features": features}) as place:
            given = place.take("features", features)
            self._build(
                place, where, as_floats_in_place("features", given, check_finite=check_finite)
            )

    def _build(self, place: Place, device: str | None, table: FloatArray) -> None:
        if table.ndim != 2 or table.shape[1] == 0:
            raise ValueError(
                f"features must have shape (N, d) with d of 1 or more, got {table.shape}; "
                f"give one-dimensional features as array[:, None]"
            )
        if table.shape[1] > _densefield.max_dim:
            raise ValueError(
                f"features must have 1 to {_densefield.max_dim} dimensions, got {table.shape[1]}; "
                f"reduce them, for example by a projection"
            )
        if table.shape[0] == 0:
            raise ValueError("features must hold at least one point, got shape (0, d)")
        self.dtype = table.dtype
        double = table.dtype == np.float64
        kind = _densefield.PointLatticeF64 if double else _densefield.PointLatticeF32
        self._home = Home(place, device)
        with place.models_on(device):
            self._core = kind(table)

    @property
    def num_points(self) -> int:
        """Number of points N."""
        return self._core.num_points

    @property
    def num_vertices(self) -> int:
        """Number of lattice vertices M."""
        return self._core.num_vertices

    @property
    def dim(self) -> int:
        """Number of feature dimensions d."""
        return self._core.dim

    @property
    def nbytes(self) -> int:
        """Bytes that the tables take."""
        return self._core.nbytes

    def __repr__(self) -> str:
        return (
            f"PermutohedralLattice(num_points={self.num_points}, "
            f"num_vertices={self.num_vertices}, dim={self.dim}, dtype={self.dtype})"
        )

    def splat(self, values: npt.ArrayLike, *, check_finite: bool = True) -> FloatArray:
        """Spread the values of points over the vertices around them, maths §4 step 5.

        Parameters
        ----------
        values : (N, C) or (N,) array of float
            What is filtered.
        check_finite : bool, default True
            Refuse NaN and infinity.

        Returns
        -------
        (M, C) or (M,) ndarray

        Raises
        ------
        TypeError, ValueError
            If the values are not finite real numbers, or not N rows.
        """
        with self._home.place_of(values=values) as place:
            given = self._points("values", place.take("values", values), check_finite)
            return self._step(place, given, self.num_vertices, self._core.splat)

    def blur(
        self, vertices: npt.ArrayLike, *, reverse: bool = False, check_finite: bool = True
    ) -> FloatArray:
        """Blur values on the vertices along all lattice directions, maths §4 step 6.

        Parameters
        ----------
        vertices : (M, C) or (M,) array of float
            Values on the vertices, in the order of `splat`.
        reverse : bool, default False
            Take the directions in reverse order: the transpose.
        check_finite : bool, default True
            Refuse NaN and infinity.

        Returns
        -------
        (M, C) or (M,) ndarray

        Raises
        ------
        TypeError, ValueError
            If the values are not finite real numbers, or not M rows.
        """
        is_reverse = as_flag("reverse", reverse)
        with self._home.place_of(vertices=vertices) as place:
            given = self._vertices(place.take("vertices", vertices), check_finite)
            return self._step(place, given, self.num_vertices, self._core.blur, is_reverse)

    def slice(self, vertices: npt.ArrayLike, *, check_finite: bool = True) -> FloatArray:
        """Interpolate values on the vertices at the points, maths §4 step 7.

        Parameters
        ----------
        vertices : (M, C) or (M,) array of float
            Values on the vertices, in the order of `splat`.
        check_finite : bool, default True
            Refuse NaN and infinity.

        Returns
        -------
        (N, C) or (N,) ndarray
            Scaled by ``1 / (1 + 2**-d)``.

        Raises
        ------
        TypeError, ValueError
            If the values are not finite real numbers, or not M rows.
        """
        with self._home.place_of(vertices=vertices) as place:
            given = self._vertices(place.take("vertices", vertices), check_finite)
            return self._step(place, given, self.num_points, self._core.slice)

    def filter(
        self, values: npt.ArrayLike, *, transpose: bool = False, check_finite: bool = True
    ) -> FloatArray:
        """Splat, blur and slice: the whole filter.

        Parameters
        ----------
        values : (N, C) or (N,) array of float
            What is filtered.
        transpose : bool, default False
            Apply the transpose. The lattice filter is not symmetric where vertices are
            missing; gradients need this.
        check_finite : bool, default True
            Refuse NaN and infinity.

        Returns
        -------
        (N, C) or (N,) ndarray

        Raises
        ------
        TypeError, ValueError
            If the values are not finite real numbers, or not N rows.
        """
        is_transpose = as_flag("transpose", transpose)
        with self._home.place_of(values=values) as place:
            given = self._points("values", place.take("values", values), check_finite)
            return self._step(place, given, self.num_points, self._core.filter, is_transpose)

    def vjp(
        self, values: npt.ArrayLike, grad_out: npt.ArrayLike, *, check_finite: bool = True
    ) -> tuple[FloatArray, FloatArray]:
        """Gradients of ``L = sum(grad_out * filter(values))`` by the values and the features.

        Parameters
        ----------
        values : (N, C) or (N,) array of float
            What is filtered.
        grad_out : array of float
            Gradient dL/dout by the filter's result, in the shape of the values.
        check_finite : bool, default True
            Refuse NaN and infinity.

        Returns
        -------
        grad_values : ndarray, shape of the values
            ``filter(grad_out, transpose=True)``.
        grad_features : (N, d) ndarray
            Exact for the lattice as it is, almost everywhere: where no point crosses the
            border of its simplex, maths §6.

        Raises
        ------
        TypeError, ValueError
            If an array does not hold finite real numbers or has the wrong shape.

        Notes
        -----
        Costs two filters and O(N d C) for the features.

        Examples
        --------
        >>> import numpy as np
        >>> lattice = PermutohedralLattice(np.array([[0.0], [0.9]]))
        >>> grad_values, grad_features = lattice.vjp([1.0, 0.0], [0.0, 1.0])
        >>> bool(grad_features[0, 0] > 0 > grad_features[1, 0])
        True
        """
        with self._home.place_of(values=values, grad_out=grad_out) as place:
            given = self._points("values", place.take("values", values), check_finite)
            grad = self._points("grad_out", place.take("grad_out", grad_out), check_finite)
            if grad.shape != given.shape:
                raise ValueError(
                    f"grad_out must have the shape of the values, {given.shape}, got {grad.shape}"
                )
            grad_values = place.empty(given.shape, self.dtype)
            grad_features = place.zeros((self.num_points, self.dim), self.dtype)
            self._core.reverse(
                _as_table(given), _as_table(grad), _as_table(grad_values), grad_features
            )
            return place.given_back(grad_values), place.given_back(grad_features)

    def diagonal(self) -> FloatArray:
        """Return what each point's own value contributes to its result, (N,).

        Exact where all vertices between the corners of the point's simplex exist, maths §4. In
        host memory, wherever the lattice lives.
        """
        return self._core.diagonal()

    def _step(
        self, place: Place, given: FloatArray, rows: int, step: Callable[..., None], *flags: bool
    ) -> FloatArray:
        """Return what a step of the core makes of a table, as many rows as there come out."""
        result = place.empty((rows, *given.shape[1:]), self.dtype)
        step(_as_table(given), *flags, _as_table(result))
        return place.given_back(result)

    def _points(self, name: str, values: npt.ArrayLike, check_finite: bool) -> FloatArray:
        return self._checked(name, values, self.num_points, "num_points", check_finite)

    def _vertices(self, values: npt.ArrayLike, check_finite: bool) -> FloatArray:
        return self._checked("vertices", values, self.num_vertices, "num_vertices", check_finite)

    def _checked(
        self, name: str, values: npt.ArrayLike, rows: int, meaning: str, check_finite: bool
    ) -> FloatArray:
        array = as_floats_in_place(name, values, check_finite=check_finite)
        if array.ndim not in (1, 2) or array.shape[0] != rows:
            raise ValueError(
                f"{name} must have shape ({rows}, C) or ({rows},) for {meaning} = {rows}, "
                f"got {array.shape}; channels come last, transpose the values if they are first"
            )
        return as_precision(name, array, self.dtype)


def _as_table(array: FloatArray) -> FloatArray:
    return array if array.ndim == 2 else with_last_axis(array)
