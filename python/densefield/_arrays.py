"""Checks of arguments and the way from users' arrays to the core's: all in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_float_array(name: str, array: npt.ArrayLike, *, check_finite: bool = True) -> FloatArray:
    """Return the array as float32 or float64, without a copy where it is one already.

    Integers, booleans and half precision become float32, longer floats float64.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a plain array, got a masked array; "
            f"fill the masked values first, for example with {name}.filled(value)"
        )
    given = np.asarray(array)
    if given.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers, got dtype {given.dtype}; "
            f"convert it first, for example with {name}.astype(numpy.float32)"
        )
    if given.dtype in _FLOATS and given.dtype.isnative and given.flags.aligned:
        result: FloatArray = given
    else:
        wide = given.dtype.kind == "f" and given.dtype.itemsize >= 8
        result = given.astype(np.float64 if wide else np.float32)
    if check_finite and given.dtype.kind == "f":
        check_all_finite(name, result)
    return result


def check_all_finite(name: str, array: FloatArray) -> None:
    """Raise ValueError with the number of NaN and infinite values, if there are any."""
    # A sum is finite only if all terms are, and costs a quarter of isfinite(); float32 sums
    # may overflow, so a sum that is not finite is looked at again.
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum(dtype=array.dtype)):
            return
    count = array.size - int(np.isfinite(array).sum())
    if count:
        raise ValueError(
            f"{name} must be finite, got {count} NaN or infinite values of {array.size}; "
            f"replace them, for example with numpy.nan_to_num, or skip this check with "
            f"check_finite=False"
        )


def as_number(
    name: str, value: Any, *, positive: bool = False, minimum: float | None = None
) -> float:
    """Return a finite float; `positive` excludes 0, `minimum` is allowed itself."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(
            f"{name} must be a finite number{' above 0' if positive else ''}, got {value}"
        )
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be {minimum:g} or more, got {value}")
    return number


def as_count(name: str, value: Any, *, minimum: int = 0) -> int:
    """Return an int that is `minimum` or more; floats are refused, even whole ones."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be {minimum} or more, got {value}")
    return int(value)


def as_sigma(name: str, value: float | Sequence[float] | npt.ArrayLike) -> tuple[float, ...]:
    """Return standard deviations as a tuple: one for a number, else one per entry."""
    if isinstance(value, str):
        raise TypeError(f"{name} must be a number or a sequence of numbers, got a string")
    if np.ndim(value) == 0:
        return (as_number(name, np.asarray(value)[()], positive=True),)
    if np.ndim(value) != 1 or np.size(value) == 0:
        raise ValueError(
            f"{name} must be a number or a flat sequence of numbers, "
            f"got an array of shape {np.shape(value)}"
        )
    entries = np.asarray(value).tolist()
    return tuple(as_number(f"{name}[{i}]", v, positive=True) for i, v in enumerate(entries))


def spread_sigma(name: str, sigma: tuple[float, ...], count: int, per: str) -> list[float]:
    """Return `count` standard deviations from one or from exactly as many."""
    if len(sigma) == 1:
        return list(sigma) * count
    if len(sigma) != count:
        raise ValueError(
            f"{name} has {len(sigma)} values, but there are {count} {per}; "
            f"give one number for all, or one per {per.removesuffix('s')}"
        )
    return list(sigma)


def axis_index(name: str, axis: Any, ndim: int) -> int:
    """Return an axis as 0 .. ndim-1."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {type(axis).__name__}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be in [{-ndim}, {ndim}), got {axis} for {ndim} dimensions")
    return int(axis) % ndim


def channels_first(array: FloatArray, axis: int) -> FloatArray:
    """Return a (channels, nodes) array: a view where the strides allow, else one copy."""
    moved = np.moveaxis(array, axis, 0)
    # Not reshape(channels, -1), which cannot tell the size of an empty array.
    table: FloatArray = moved.reshape(moved.shape[0], math.prod(moved.shape[1:]))
    return table
