"""Arrays on CUDA devices: `to_device`, and what stands for NumPy's functions on a `DeviceArray`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from densefield import _densefield
from densefield._densefield import DeviceArray
from densefield._devices import check_device

# What DLPack calls the devices that are computed on; it has no name for the emulated one.
_DLPACK_DEVICES = {2: "cuda", 13: "cuda", 12: "cuda-emulated"}


def to_device(array: npt.ArrayLike, device: str = "cuda") -> DeviceArray:
    """Copy an array from the host to a device.

    Not needed for arrays of PyTorch, CuPy and JAX, which are taken where they are.

    Parameters
    ----------
    array : array of real numbers
        Of any dtype and strides, up to 8 dimensions.
    device : str, default "cuda"
        ``"cuda"``, or ``"cuda:N"`` for the N-th GPU.

    Returns
    -------
    DeviceArray
        Of the same shape and dtype, in C order.

    Raises
    ------
    TypeError, ValueError
        If the array holds no real numbers, or the device has another name.
    RuntimeError
        If the device cannot be used; the text says why.
    MemoryError
        If the device has not that much memory; the text says how many bytes.

    Examples
    --------
    >>> import densefield as df
    >>> there = df.to_device([[1.0, 2.0]]) if df.system_info()["cuda"] else None
    """
    checked = check_device(device)
    if checked is None or checked == "cpu":
        raise ValueError(f"device must be 'cuda' or 'cuda:N', got {device!r}; use numpy.asarray")
    if device_of(array) is not None:
        raise TypeError(
            f"array is on {device_of(array)} already; give it to densefield as it is, or move it "
            f"with its own library"
        )
    given = np.asarray(array)
    if given.dtype.kind not in "fiub":
        raise TypeError(f"array must hold real numbers, got dtype {given.dtype}; convert it first")
    native = given.astype(given.dtype.newbyteorder("="), copy=False)
    return _densefield.copy_to_device(native, checked, 0)


def device_of(array: Any) -> str | None:
    """Return the device of an array, with its number: "cuda:0"; None for what is on the host."""
    if isinstance(array, DeviceArray):
        return array.device
    if array is None or isinstance(array, np.ndarray | np.generic | Sequence | int | float):
        return None
    place = _dlpack_place(array)
    if place is not None:
        kind, number = place
        return f"{_DLPACK_DEVICES[kind]}:{number}" if kind in _DLPACK_DEVICES else None
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        return None
    return _densefield.device_of_memory(interface["data"][0]) or "cuda:0"


def _dlpack_place(array: Any) -> tuple[int, int] | None:
    locate = getattr(array, "__dlpack_device__", None)
    if locate is None:
        return None
    try:
        kind, number = locate()
    except (BufferError, RuntimeError, TypeError, ValueError):
        return None  # a device that the library itself cannot name; numpy says what is wrong
    return int(kind), int(number)


def import_array(name: str, array: Any, stream: int) -> DeviceArray:
    """Return an array of any library as ours, in place; `stream` waits for its values."""
    try:
        if isinstance(array, DeviceArray):
            _densefield.order_streams(array.device, array.stream, stream)
            return array
        if hasattr(array, "__dlpack__"):
            return _densefield.from_dlpack(_capsule(array, stream), stream)
        return _from_interface(array, stream)
    except (BufferError, TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        # A BufferError is the other library's, in a sentence of its own.
        reason = str(error) if isinstance(error, BufferError) else f"it {error}"
        raise kind(f"{name} cannot be read where it is: {reason}") from error


def _capsule(array: Any, stream: int) -> Any:
    try:
        return array.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # a library from before DLPack 1.0 knows no max_version
        return array.__dlpack__(stream=stream)


def _from_interface(array: Any, stream: int) -> DeviceArray:
    interface = array.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise TypeError("is masked; fill the masked values first")
    shape = tuple(int(n) for n in interface["shape"])
    dtype = np.dtype(interface["typestr"])
    strides = contiguous_strides(shape)
    if interface.get("strides") is not None:
        in_bytes = interface["strides"]
        if any(stride % dtype.itemsize for stride in in_bytes):
            raise ValueError("has strides that are no whole elements; copy it first")
        strides = [stride // dtype.itemsize for stride in in_bytes]
    pointer, is_read_only = interface["data"]
    result = _densefield.wrap_device_memory(
        pointer or 0, shape, strides, dtype, stream, not is_read_only, array
    )
    producer = interface.get("stream")
    if producer is not None:
        _densefield.order_streams(result.device, producer, stream)
    return result


def contiguous_strides(shape: Sequence[int]) -> list[int]:
    """Return the strides of a C-contiguous array, in elements."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def new_like(array: DeviceArray, shape: Sequence[int], dtype: Any) -> DeviceArray:
    """Return a new array where another one is, not cleared."""
    return _densefield.new_device_array(np.dtype(dtype), shape, array.device, array.stream)


def converted(array: DeviceArray, dtype: Any, factor: float = 1.0) -> DeviceArray:
    """Return a new array of float32 or float64, the values times a factor."""
    result = new_like(array, array.shape, dtype)
    result._copy_from(array, factor)
    return result


def as_float(array: DeviceArray) -> DeviceArray:
    """Return the array as float32 or float64, without a copy where it is one already."""
    dtype = array.dtype
    if dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        return array
    return converted(array, np.float32)


def merged_strides(shape: Sequence[int], strides: Sequence[int]) -> int | None:
    """Return the one stride of axes seen as one, None where they do not lie so."""
    axes = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    if not axes or 0 in shape:
        return 1
    for (_, outer), (extent, inner) in itertools.pairwise(axes):
        if outer != extent * inner:
            return None
    return axes[-1][1]


def channels_first(array: DeviceArray, axis: int) -> DeviceArray:
    """Return a (channels, nodes) array: a view where the strides allow, else one copy."""
    moved = move_to_front(array, axis)
    stride = merged_strides(moved.shape[1:], moved._strides[1:])
    if stride is None:
        moved = converted(moved, array.dtype)
        stride = 1
    shape = [moved.shape[0], math.prod(moved.shape[1:])]
    return moved._view(shape, [moved._strides[0], stride], 0)


def move_to_front(array: DeviceArray, axis: int) -> DeviceArray:
    """Return a view whose first axis is the given one."""
    order = [axis % array.ndim, *(a for a in range(array.ndim) if a != axis % array.ndim)]
    return array._view([array.shape[a] for a in order], [array._strides[a] for a in order], 0)


def with_last_axis(array: DeviceArray) -> DeviceArray:
    """Return a view with one more axis of one entry."""
    return array._view([*array.shape, 1], [*array._strides, 1], 0)


def copy_back(table: DeviceArray, result: DeviceArray, axis: int) -> None:
    """Fill `result` from its (channels, nodes) form, if that had to be a copy."""
    if table._pointer != result._pointer:
        labels_first = move_to_front(result, axis)
        strides = contiguous_strides(labels_first.shape)
        labels_first._copy_from(table._view(labels_first.shape, strides, 0), 1.0)


def as_device_array(array: Any) -> DeviceArray:
    """Return the argument, which is one: where annotations speak of NumPy's arrays alone."""
    return cast("DeviceArray", array)
