"""Stand-ins for libraries of GPU arrays, over the memory of whatever device the tests have.

The emulated device has no `__cuda_array_interface__`, because others would take its memory for a
GPU's: `Interface` makes one of its own, that only these tests see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

import densefield as df
from densefield import _densefield
from densefield.device_arrays import contiguous_strides

KERNELS = [
    df.Gaussian(sigma_space=2, weight=1),
    df.Bilateral(sigma_space=5, sigma_color=20, weight=1),
]
MODELS = [df.DenseCRF, df.ConvCRF]


def example(num_labels: int = 3, dtype: str = "f4") -> tuple[Any, Any]:
    """Return a unary and an image."""
    rng = np.random.default_rng(num_labels)
    unary = rng.uniform(0, 3, (num_labels, 9, 11)).astype(dtype)
    return unary, rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)


def on(device: str, *arrays: Any) -> list[df.DeviceArray]:
    """Copy arrays to a device."""
    return [df.to_device(array, device) for array in arrays]


def pointer_of(array: df.DeviceArray) -> int:
    return array._pointer


class Exporter:
    """Has DLPack alone, and keeps the streams that it was asked for."""

    def __init__(self, array: df.DeviceArray) -> None:
        self.array = array
        self.streams: list[int | None] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream: int | None = None, max_version: Any = None) -> Any:
        self.streams.append(stream)
        return self.array.__dlpack__(stream=stream, max_version=max_version)


class OldExporter(Exporter):
    """From before DLPack 1.0: knows no max_version."""

    def __dlpack__(self, *, stream: int | None = None) -> Any:  # type: ignore[override]
        return super().__dlpack__(stream=stream)


class Interface:
    """Has `__cuda_array_interface__` alone."""

    def __init__(self, array: df.DeviceArray, **changes: Any) -> None:
        self.array = array
        itemsize = array.dtype.itemsize
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (pointer_of(array), False),
            "strides": tuple(itemsize * n for n in array._strides),
            "version": 3,
            "stream": array.stream,
        } | changes


class FakeCuPy(ModuleType):
    """As much of CuPy as is asked for: new arrays, and the current stream."""

    def __init__(self, device: str) -> None:
        super().__init__("cupy")
        self.where = device
        self.handle = _densefield.own_stream(device)
        self.made: list[Any] = []
        self.ndarray = type("ndarray", (Exporter,), {"__module__": "cupy", "device": self})
        self.cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=self.handle))

    def __enter__(self) -> FakeCuPy:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def asarray(self, array: Any) -> Any:
        return self.ndarray(df.to_device(array, self.where))

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        array = _densefield.new_device_array(dtype, shape, self.where, self.handle)
        self.made.append(self.ndarray(array))
        return self.made[-1]


def strided(array: Any, device: str) -> df.DeviceArray:
    """Copy to the device, and there into the layout of every other element of a larger array."""
    given = np.asarray(array)
    wide = np.zeros((*given.shape[:-1], 2 * given.shape[-1]), given.dtype)
    wide[..., ::2] = given
    strides = [n * (2 if axis < wide.ndim - 1 else 1) for axis, n in enumerate([1] * wide.ndim)]
    strides = contiguous_strides(wide.shape)
    strides[-1] = 2
    return df.to_device(wide, device)._view(given.shape, strides, 0)


@contextlib.contextmanager
def watching(calls: list[str], *names: str) -> Iterator[None]:
    """Note the calls of functions of the module while the block runs."""
    originals = {name: getattr(_densefield, name) for name in names}

    def noting(name: str) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return originals[name](*arguments)

        return call

    for name in names:
        setattr(_densefield, name, noting(name))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(_densefield, name, function)
