"""The array libraries whose CUDA arrays are taken in: streams, new arrays, results.

None of them is imported here: whoever gives us one of its arrays has imported it.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from densefield._densefield import DeviceArray

# CUDA's handle of the default stream. Libraries call it 0, which DLPack keeps for other things.
_DEFAULT_STREAM = 1


class Stream(NamedTuple):
    """A stream of the caller's: CUDA's handle, and the object that keeps it alive."""

    handle: int
    owner: Any


class Library:
    """A library without a stream that could be asked for: results are `DeviceArray`."""

    def stream(self, array: Any) -> Stream | None:
        """Return the caller's current stream on the array's device; None: not known."""
        return None

    def empty(self, like: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return a new array of the library on the device of `like`; None: it makes none."""
        return None

    def array_from(self, result: DeviceArray) -> Any:
        """Return a result as the library's array, where `empty` makes none."""
        return result


class _OwnArrays(Library):
    def stream(self, array: Any) -> Stream:
        return Stream(array.stream, array)


class _Torch(Library):
    def stream(self, array: Any) -> Stream:
        current = sys.modules["torch"].cuda.current_stream(array.device)
        return Stream(current.cuda_stream or _DEFAULT_STREAM, current)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=like.device)


class _CuPy(Library):
    def stream(self, array: Any) -> Stream:
        with array.device:
            current = sys.modules["cupy"].cuda.get_current_stream()
        return Stream(current.ptr or _DEFAULT_STREAM, current)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        with like.device:
            return sys.modules["cupy"].empty(shape, dtype)


class _Jax(Library):
    def array_from(self, result: DeviceArray) -> Any:
        return sys.modules["jax"].dlpack.from_dlpack(result)


_LIBRARIES = {
    "torch": _Torch(),
    "cupy": _CuPy(),
    "jax": _Jax(),
    "jaxlib": _Jax(),
    "densefield": _OwnArrays(),
}
_OTHER = Library()


def library_of(array: Any) -> Library:
    """Return the library that an array is of, by the modules of its type and bases."""
    for base in type(array).__mro__:
        known = _LIBRARIES.get(base.__module__.partition(".")[0])
        if known is not None:
            return known
    return _OTHER
