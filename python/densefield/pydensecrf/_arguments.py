"""Checks of arguments: all that the original takes, and clear errors where it breaks."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from densefield._arrays import as_float_array, count_non_finite

Float32Array: TypeAlias = npt.NDArray[np.float32]
Kind = TypeVar("Kind", bound=IntEnum)

# Above this a float32 no longer holds every whole number of standard deviations, and points
# that lie one apart become one.
LARGEST_FEATURE = 2.0**24
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
MOST_DIMENSIONS = 32  # of a feature vector, what the lattice is built for


def as_size(name: str, value: Any, *, minimum: int) -> int:
    """Return an int that is `minimum` or more; whole floats count, as in the original."""
    number = as_real(name, value)
    if not number.is_integer() or number < minimum:
        raise ValueError(f"{name} must be a whole number, {minimum} or more, got {value!r}")
    return int(value)


def as_real(name: str, value: Any) -> float:
    """Return a number as float: Python's, NumPy's, or an array without dimensions."""
    try:
        if isinstance(value, str | bytes) or np.ndim(value) != 0:
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None
    return number


def as_array(name: str, value: Any) -> npt.NDArray[Any]:
    """Return `numpy.asarray` of what was given, with errors that name it."""
    if value is None:
        raise TypeError(f"{name} must be an array, got None")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a plain array, got a masked one; fill it with .filled()")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array with rows of one length: {error}") from None


def as_float32(name: str, value: Any, *, ndim: int, check_finite: bool = True) -> Float32Array:
    """Return a float32 array, without a copy where it is one already."""
    wide = as_float_array(name, as_array(name, value), check_finite=False)
    if wide.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got an array of shape {wide.shape}")
    with np.errstate(over="ignore"):  # found below
        array = wide.astype(np.float32, copy=False)
    if check_finite:
        _check_finite(name, array)
    return array


def _check_finite(name: str, array: Float32Array) -> None:
    count = count_non_finite(array)
    if count:
        raise ValueError(
            f"{name} must be finite in float32, got {count} NaN or infinite values of "
            f"{array.size}; probabilities of 0 give infinite energies: clip them first, or "
            f"replace the values with numpy.nan_to_num"
        )


def as_sigmas(name: str, value: Any, count: int, per: str) -> list[np.float32]:
    """Return `count` standard deviations above 0, from one number or as many; inf is allowed."""
    if value is None or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a number or {count} numbers, got {type(value).__name__}")
    if np.ndim(value) == 0:
        entries = [value] * count
        names = [name] * count
    else:
        entries = list(value)
        names = [f"{name}[{i}]" for i in range(len(entries))]
    if len(entries) != count:
        raise ValueError(
            f"{name} must be one number or {count}, one per {per}, got {len(entries)}: {value!r}"
        )
    return [_as_sigma(n, entry) for n, entry in zip(names, entries, strict=True)]


def _as_sigma(name: str, value: Any) -> np.float32:
    number = as_real(name, value)
    with np.errstate(over="ignore", under="ignore"):
        sigma = np.float32(number)
    if not sigma > 0:  # NaN too
        raise ValueError(
            f"{name} must be a standard deviation above 0, got {value!r}; "
            f"to leave a dimension out use float('inf')"
        )
    return sigma


def check_reach(claim: str, features: Float32Array, advice: str) -> None:
    """Raise ValueError if features are too many standard deviations away from 0."""
    reach = max(-float(features.min()), float(features.max()))
    if not reach <= LARGEST_FEATURE:
        raise ValueError(
            f"{claim} within {LARGEST_FEATURE:.0f} standard deviations of 0, the most that "
            f"float32 can tell apart, got {reach:.3g}; {advice}"
        )


def as_compatibility(compat: Any, num_labels: int) -> npt.NDArray[np.float64]:
    """Return A of ``sum_l' A[l, l'] (K q)_l'`` as (C,) diagonal or (C, C) matrix.

    A number w is ``-w [l = l']``, a vector or matrix keeps its sign, a matrix is symmetrised.
    """
    if compat is None:
        raise TypeError("compat must be a number, a vector or a matrix, got None")
    given = as_array("compat", compat)
    if given.ndim == 0:
        number = as_real("compat", compat)
        if not math.isfinite(number) or abs(number) > LARGEST_FLOAT32:
            raise ValueError(f"compat must be finite in float32, got {compat!r}")
        return np.full(num_labels, -number)
    if given.shape not in ((num_labels,), (num_labels, num_labels)):
        raise ValueError(
            f"compat must be a number, or have shape ({num_labels},) or "
            f"({num_labels}, {num_labels}) for {num_labels} labels, got shape {given.shape}"
        )
    values = as_float32("compat", given, ndim=given.ndim).astype(np.float64)
    return values if values.ndim == 1 else 0.5 * (values + values.T)


def as_kind(name: str, value: Any, kinds: type[Kind]) -> Kind:
    """Return a member of an enumeration, from itself or its number."""
    try:
        return kinds(value)
    except ValueError:
        members = ", ".join(f"{kind.name} ({kind.value})" for kind in kinds)
        raise ValueError(f"{name} must be one of {members}, got {value!r}") from None
