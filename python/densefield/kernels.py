"""Kernels of the pairwise energy: which nodes of a field talk to each other, and how much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from densefield._arrays import FloatArray, as_floats_in_place, as_number, as_sigma
from densefield._place import place_of
from densefield.compatibility import Checked, CompatibilityLike, check_compatibility

Normalization: TypeAlias = Literal["none", "before", "after", "symmetric"]


def check_normalization(value: str) -> Normalization:
    """Return the mode of maths §3, or raise ValueError with the modes there are."""
    if not isinstance(value, str):
        raise TypeError(
            f"normalization must be a string, one of "
            f"{', '.join(map(repr, get_args(Normalization)))}, got {type(value).__name__}"
        )
    for mode in get_args(Normalization):
        if value == mode:
            checked: Normalization = mode
            return checked
    raise ValueError(
        f"normalization must be one of {', '.join(map(repr, get_args(Normalization)))}, "
        f"got {value!r}"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """What all kernels share; use `Gaussian`, `Bilateral` or `Features`.

    Parameters
    ----------
    weight : float
        The kernel's weight w in the pairwise energy (`compat` in older packages).
    compatibility : Potts or array, optional
        Label compatibility of this kernel alone; by default the model's.
    normalization : {"none", "before", "after", "symmetric"}, optional
        Normalisation of this kernel alone; by default the model's.
    """

    weight: float = 1.0
    compatibility: CompatibilityLike | None = None
    normalization: Normalization | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_number("weight", self.weight))
        if self.normalization is not None:
            check_normalization(self.normalization)
        if self.compatibility is not None:
            object.__setattr__(self, "compatibility", check_compatibility(self.compatibility))

    def _identity(self) -> tuple[Any, ...]:
        """Return what makes a kernel equal to another: its type and all its arguments."""
        values = (getattr(self, field.name) for field in fields(self))
        return type(self), *(
            (v.shape, v.dtype.str, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    @property
    def checked_compatibility(self) -> Checked | None:
        """The kernel's own compatibility as Potts or array, None for the model's."""
        return None if self.compatibility is None else check_compatibility(self.compatibility)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian(Kernel):
    """Spatial Gaussian kernel: nearby nodes want the same label.

    ``k(i, j) = exp(-0.5 * |p_i - p_j|**2 / sigma_space**2)`` for positions p in grid steps.

    Parameters
    ----------
    sigma_space : float or sequence of float
        Standard deviation in grid steps, theta_gamma of the paper (`sxy` in older packages):
        one number, or one per grid axis in the order of the array's axes.
    method : {"grid", "lattice"}, default "grid"
        How it is computed. "grid": separably on the grid itself, within 0.3 % of the exact
        sum and faster. "lattice": on a permutohedral lattice as older packages do, for their
        numbers. Grids of more than 4 axes always take the lattice.
    weight : float, default 1
        Weight of the kernel (`compat` in older packages).
    compatibility, normalization : optional
        For this kernel alone; by default the model's.

    Raises
    ------
    TypeError, ValueError
        If a standard deviation is not a finite number above 0, the weight not finite, or the
        method unknown.

    References
    ----------
    Krähenbühl and Koltun 2011, equation 3, second term.

    Examples
    --------
    >>> Gaussian(sigma_space=3, weight=3).sigma_space
    (3.0,)
    """

    sigma_space: float | Sequence[float]
    method: Literal["grid", "lattice"] = "grid"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sigma_space", as_sigma("sigma_space", self.sigma_space))
        if self.method not in ("grid", "lattice"):
            raise ValueError(f"method must be 'grid' or 'lattice', got {self.method!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Bilateral(Kernel):
    """Appearance kernel: nearby nodes of similar colour want the same label.

    ``k(i, j) = exp(-0.5 * |p_i - p_j|**2 / sigma_space**2
    - 0.5 * |I_i - I_j|**2 / sigma_color**2)`` for positions p and image values I.

    Parameters
    ----------
    sigma_space : float or sequence of float, or None
        Standard deviation in grid steps, theta_alpha of the paper (`sxy` in older packages):
        one number, or one per grid axis in the order of the array's axes. None leaves the
        position out: image values alone, wherever they are.
    sigma_color : float or sequence of float
        Standard deviation in the image's own units, theta_beta (`srgb` in older packages):
        one number, or one per channel. Images of type uint8 have values 0 to 255.
    weight : float, default 1
        Weight of the kernel (`compat` in older packages).
    compatibility, normalization : optional
        For this kernel alone; by default the model's.

    Raises
    ------
    TypeError, ValueError
        If a standard deviation is not a finite number above 0, or the weight not finite.

    References
    ----------
    Krähenbühl and Koltun 2011, equation 3, first term.

    Examples
    --------
    >>> Bilateral(sigma_space=67, sigma_color=(3, 3, 3), weight=4).sigma_color
    (3.0, 3.0, 3.0)
    """

    sigma_space: float | Sequence[float] | None
    sigma_color: float | Sequence[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_space is not None:
            object.__setattr__(self, "sigma_space", as_sigma("sigma_space", self.sigma_space))
        object.__setattr__(self, "sigma_color", as_sigma("sigma_color", self.sigma_color))


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Features(Kernel):
    """Gaussian kernel on feature vectors of your own: depth, normals, embeddings, coordinates.

    ``k(i, j) = exp(-0.5 * |f_i - f_j|**2)`` for the features f as given.

    Parameters
    ----------
    array : (N, d) or (*grid, d) array of float
        One feature vector per node, divided by its standard deviations: 1 to 32 dimensions. On a
        GPU, the arrays of an inference must be there too.
        The approximation depends a little on the order of the dimensions.
    weight : float, default 1
        Weight of the kernel.
    compatibility, normalization : optional
        For this kernel alone; by default the model's.
    check_finite : bool, default True
        Look for NaN and infinity now; the core looks again when it builds its tables.

    Raises
    ------
    TypeError, ValueError
        If the array does not hold finite real numbers or has fewer than two axes.

    Examples
    --------
    >>> Features([[0.0, 0.0], [0.5, 1.0]], weight=2).array.shape
    (2, 2)
    """

    array: FloatArray

    def __init__(
        self,
        array: npt.ArrayLike,
        *,
        weight: float = 1.0,
        compatibility: CompatibilityLike | None = None,
        normalization: Normalization | None = None,
        check_finite: bool = True,
    ) -> None:
        with place_of(None, {"features": array}) as place:
            given = place.take("features", array)
            checked = as_floats_in_place("features", given, check_finite=check_finite)
        if checked.ndim < 2:
            raise ValueError(
                f"features must have shape (N, d) or (*grid, d), got {checked.shape}; "
                f"give one-dimensional features as array[:, None]"
            )
        object.__setattr__(self, "array", checked)
        super().__init__(weight=weight, compatibility=compatibility, normalization=normalization)

    def __repr__(self) -> str:
        return f"Features(<{np.shape(self.array)} array>, weight={self.weight})"


def check_kernels(kernels: Sequence[Kernel]) -> tuple[Kernel, ...]:
    """Return the kernels of a model as a tuple, or raise TypeError."""
    if isinstance(kernels, Kernel):
        raise TypeError("kernels must be a sequence of kernels, got one; write [kernel]")
    if not isinstance(kernels, Iterable):
        raise TypeError(
            f"kernels must be a sequence of kernels, got {type(kernels).__name__}; "
            f"for a model without any write []"
        )
    checked = tuple(kernels)
    for kernel in checked:
        if not isinstance(kernel, Gaussian | Bilateral | Features):
            raise TypeError(
                f"kernels must be Gaussian, Bilateral or Features, got {type(kernel).__name__}"
            )
    return checked
