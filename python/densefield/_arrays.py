"""Checks of arguments and the way from users' arrays to the core's: all in one place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from densefield import device_arrays
from densefield._densefield import DeviceArray, all_finite
from densefield._densefield import count_non_finite as count_non_finite_on_device
from densefield.device_arrays import as_device_array, device_of

# On a device a DeviceArray stands in for NumPy's: it has shape, dtype and ndim too, and the
# functions below that take a FloatArray take it.
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_plain_array(name: str, array: Any) -> npt.NDArray[Any]:
    """Return what numpy makes of the argument; masked arrays and ragged lists are refused."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a plain array, got a masked array; "
            f"fill the masked values first, for example with {name}.filled(value)"
        )
    where = device_of(array)
    if where is not None:
        raise TypeError(
            f"{name} is on {where}, and this needs an array in host memory; copy it there first, "
            f"as {name}.cpu() does in PyTorch and {name}.get() in CuPy"
        )
    try:
        return np.asarray(array)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array or nested sequences of one length per level, "
            f"got {type(array).__name__} that numpy cannot convert ({error}); "
            f"pad or crop its parts to one length"
        ) from error


def as_float_array(
    name: str, array: npt.ArrayLike, *, check_finite: bool = True, can_skip: bool = True
) -> FloatArray:
    """Return the array as float32 or float64, without a copy where it is one already.

    Integers, booleans and half precision become float32, longer floats float64. `can_skip`
    tells whether the caller's user has check_finite=False as a way out.
    """
    given = as_plain_array(name, array)
    if given.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers, got dtype {given.dtype} of {type(array).__name__}; "
            f"convert it first, for example with numpy.asarray({name}, dtype=numpy.float32)"
        )
    if given.dtype in _FLOATS and has_whole_steps(given):
        result: FloatArray = given
    else:
        wide = given.dtype.kind == "f" and given.dtype.itemsize >= 8
        with np.errstate(over="ignore"):  # what overflows is infinite, and found below
            result = given.astype(np.float64 if wide else np.float32)
    if check_finite and given.dtype.kind == "f":
        check_all_finite(name, result, can_skip=can_skip)
    return result


def as_floats_in_place(
    name: str, array: Any, *, check_finite: bool = True, can_skip: bool = True
) -> FloatArray:
    """Return the same of an array on the host or, for a DeviceArray, on its device."""
    if not isinstance(array, DeviceArray):
        return as_float_array(name, array, check_finite=check_finite, can_skip=can_skip)
    on_device = cast("FloatArray", device_arrays.as_float(array))
    if check_finite and array.dtype.kind in "fV":  # V: bfloat16
        check_all_finite(name, on_device, can_skip=can_skip)
    return on_device


def own_copy(name: str, array: Any) -> Any:
    """Return a copy that the caller cannot change, on a device as float32 or float64."""
    if isinstance(array, DeviceArray):
        is_double = array.dtype == np.float64
        return device_arrays.converted(array, np.float64 if is_double else np.float32)
    return np.array(as_plain_array(name, array))


def has_whole_steps(array: npt.NDArray[Any]) -> bool:
    """Whether the core can read it in place: native, aligned, strides of whole elements."""
    itemsize = array.dtype.itemsize
    # numpy's aligned flag leaves out the strides of axes with a single entry.
    return (
        array.dtype.isnative
        and array.flags.aligned
        and all(stride % itemsize == 0 for stride in array.strides)
    )


def as_precision(name: str, array: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    """Return the array in the precision of the tables, as it is where it has that already."""
    if array.dtype == dtype:
        return array
    if isinstance(array, DeviceArray):
        result = cast("FloatArray", device_arrays.converted(array, dtype))
    else:
        with np.errstate(over="ignore"):
            result = array.astype(dtype)
    if array.dtype.itemsize > dtype.itemsize:
        beyond = count_non_finite(result) - count_non_finite(array)
        if beyond:
            raise ValueError(
                f"{name} must fit {dtype}, got {beyond} values beyond {np.finfo(dtype).max:.3g}; "
                f"clip them, or compute in float64"
            )
    return result


def count_non_finite(array: FloatArray) -> int:
    """Return the number of NaN and infinite values; on a device this waits for them."""
    if isinstance(array, DeviceArray):
        return count_non_finite_on_device([array])[0]
    if array.dtype in _FLOATS and array.flags.c_contiguous and array.flags.aligned:
        if all_finite(array):
            return 0
    else:
        # A sum is finite only if all terms are, and costs a quarter of isfinite(); float32 sums
        # may overflow, so a sum that is not finite is looked at again.
        with np.errstate(all="ignore"):
            if np.isfinite(array.sum(dtype=array.dtype)):
                return 0
    return array.size - int(np.isfinite(array).sum())


def check_all_finite(name: str, array: FloatArray, *, can_skip: bool = True) -> None:
    """Raise ValueError with the number of NaN and infinite values, if there are any."""
    refuse_non_finite(name, count_non_finite(array), array.size, can_skip=can_skip)


def refuse_non_finite(name: str, count: int, size: int, *, can_skip: bool = True) -> None:
    """Raise ValueError if some values were found to be NaN or infinite."""
    if count:
        raise ValueError(
            f"{name} must be finite, got {count} NaN or infinite values of {size}; "
            f"replace them, for example with nan_to_num of the array's library"
            + (", or skip this check with check_finite=False" if can_skip else "")
        )


def as_number(
    name: str, value: Any, *, positive: bool = False, minimum: float | None = None
) -> float:
    """Return a finite float; `positive` excludes 0, `minimum` is allowed itself."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(
            f"{name} must be a real number, got {type(value).__name__} {value!r}; use a float"
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(
            f"{name} must be a finite number{' above 0' if positive else ''}, got {number}"
        )
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be {minimum:g} or more, got {value}")
    return number


def as_count(name: str, value: Any, *, minimum: int = 0, maximum: int | None = None) -> int:
    """Return an int from `minimum` to `maximum`; floats are refused, even whole ones."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(
            f"{name} must be an integer, got {type(value).__name__} {value!r}; use int() on it"
        )
    if value < minimum:
        raise ValueError(f"{name} must be {minimum} or more, got {value}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be {maximum} or less, got {value}")
    return int(value)


def as_flag(name: str, value: Any) -> bool:
    """Return True or False; other truth values are refused, "False" is a true one."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__} {value!r}")
    return bool(value)


def as_choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    """Return one of the options, or raise with those there are."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {' or '.join(map(repr, options))}, got {value!r}")
    if value not in options:
        raise ValueError(f"{name} must be {' or '.join(map(repr, options))}, got {value!r}")
    return value


def as_grid(name: str, shape: Any, itemsize: int) -> Shape:
    """Return the extents of a grid of 1 dimension or more whose nodes can be counted."""
    if isinstance(shape, str) or not isinstance(shape, Iterable):
        raise TypeError(
            f"{name} must be a sequence of integers, got {type(shape).__name__} {shape!r}; "
            f"for a point set write ({shape!r},)"
        )
    grid = tuple(as_count(f"{name}[{i}]", n) for i, n in enumerate(shape))
    if not grid:
        raise ValueError(f"{name} must have 1 dimension or more, got (); for one node use (1,)")
    num_bytes = math.prod(grid) * itemsize
    # No axis alone may overflow either, or an empty grid would.
    if max(num_bytes, *grid, 0) > np.iinfo(np.int64).max:
        raise MemoryError(
            f"{name} {grid} needs {num_bytes} bytes for one value per node, more than can be "
            f"addressed; split the grid"
        )
    return grid


def as_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return float32 or float64."""
    wanted = "dtype must be float32 or float64"
    if dtype is None:
        raise TypeError(f"{wanted}, got None; leave it out for float32")
    try:
        result = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{wanted}, got {dtype!r}; use numpy.float32 or numpy.float64") from error
    if result not in _FLOATS:
        raise ValueError(f"{wanted}, got {result}; use numpy.float32 or numpy.float64")
    return result


def as_labels(labels: Any, way_out: str) -> npt.NDArray[Any]:
    """Return an array of integers in host memory; booleans count as 0 and 1."""
    on_host = labels.numpy() if isinstance(labels, DeviceArray) else labels
    given = as_plain_array("labels", on_host)
    if given.dtype.kind not in "iub":
        raise TypeError(f"labels must be integers, got dtype {given.dtype}; {way_out}")
    return given


def as_sigma(name: str, value: float | Sequence[float] | npt.ArrayLike) -> tuple[float, ...]:
    """Return standard deviations as a tuple: one for a number, else one per entry."""
    if isinstance(value, str):
        raise TypeError(f"{name} must be a number or a sequence of numbers, got a string")
    if isinstance(value, bool | int | float | complex):
        return (as_number(name, value, positive=True),)
    given = as_plain_array(name, value)
    if given.ndim == 0:
        return (as_number(name, given[()], positive=True),)
    if given.ndim != 1 or given.size == 0:
        raise ValueError(
            f"{name} must be a number or a flat sequence of numbers, "
            f"got an array of shape {given.shape}"
        )
    return tuple(as_number(f"{name}[{i}]", v, positive=True) for i, v in enumerate(given.tolist()))


def spread_sigma(
    name: str, sigma: tuple[float, ...], count: int, per: str, dtype: np.dtype[Any]
) -> list[float]:
    """Return `count` standard deviations from one or from exactly as many."""
    if len(sigma) not in (1, count):
        raise ValueError(
            f"{name} has {len(sigma)} values, but the number of {per} is {count}; "
            f"give one number for all, or one for each"
        )
    # The core squares them and divides by the squares.
    low, high = math.sqrt(np.finfo(dtype).tiny), math.sqrt(np.finfo(dtype).max)
    for value in sigma:
        if not low <= value <= high:
            raise ValueError(
                f"{name} must be from {low:.3g} to {high:.3g} in {dtype}, got {value}; "
                f"rescale the features, or compute in float64"
            )
    return list(sigma) * count if len(sigma) == 1 else list(sigma)


def axis_index(name: str, axis: Any, ndim: int) -> int:
    """Return an axis as 0 .. ndim-1."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {type(axis).__name__} {axis!r}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be in [{-ndim}, {ndim}), got {axis} for {ndim} dimensions")
    return int(axis) % ndim


def channels_first(array: FloatArray, axis: int) -> FloatArray:
    """Return a (channels, nodes) array: a view where the strides allow, else one copy."""
    if isinstance(array, DeviceArray):
        return cast("FloatArray", device_arrays.channels_first(array, axis))
    moved = np.moveaxis(array, axis, 0)
    # Not reshape(channels, -1), which cannot tell the size of an empty array.
    table: FloatArray = moved.reshape(moved.shape[0], math.prod(moved.shape[1:]))
    return table


def with_last_axis(array: FloatArray) -> FloatArray:
    """Return a view with one more axis of one entry."""
    if isinstance(array, DeviceArray):
        return cast("FloatArray", device_arrays.with_last_axis(array))
    return array[..., None]


def copy_back(table: FloatArray, result: FloatArray, axis: int) -> None:
    """Fill `result` from its (channels, nodes) form, if that had to be a copy."""
    if isinstance(result, DeviceArray):
        device_arrays.copy_back(as_device_array(table), result, axis)
    elif not np.may_share_memory(table, result):  # a copy lies elsewhere altogether
        labels_first = np.moveaxis(result, axis, 0)
        labels_first[...] = table.reshape(labels_first.shape)


def negate(values: FloatArray, out: FloatArray) -> FloatArray:
    """Write the negative values to another array, and return that."""
    if isinstance(out, DeviceArray):
        out._copy_from(as_device_array(values), -1.0)
    else:
        np.negative(values, out=out)
    return out


def check_out(out: FloatArray, shape: Shape, dtype: np.dtype[Any]) -> None:
    """Raise unless a result of that shape and dtype can be written to the array in place."""
    if isinstance(out, DeviceArray):
        if out.shape != shape or out.dtype != dtype or not out._is_writable:
            raise ValueError(
                f"out must be a writable {dtype} array of shape {shape}, got "
                f"{'' if out._is_writable else 'read-only '}{out.dtype} {out.shape}; make it with "
                f"empty() of the array's library"
            )
        return
    way_out = f"make it with numpy.empty({shape}, numpy.{dtype})"
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out must be a plain numpy array, got {type(out).__name__}; {way_out}")
    if out.shape != shape or out.dtype != dtype or not out.flags.writeable:
        raise ValueError(
            f"out must be a writable {dtype} array of shape {shape}, got "
            f"{'' if out.flags.writeable else 'read-only '}{out.dtype} {out.shape}; {way_out}"
        )
    if not has_whole_steps(out):
        raise ValueError(
            f"out must be aligned and have strides of whole elements, got strides "
            f"{out.strides} of bytes; {way_out}"
        )
