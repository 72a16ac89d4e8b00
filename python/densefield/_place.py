"""Where the arrays of one call are, and how its results get back there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from densefield import _densefield
from densefield._arrays import (
    FloatArray,
    Shape,
    channels_first,
    copy_back,
    refuse_non_finite,
)
from densefield._densefield import DeviceArray
from densefield._devices import numbered, on_device
from densefield._libraries import Stream, library_of
from densefield.device_arrays import as_float, device_of, import_array

if TYPE_CHECKING:
    from densefield._densefield import _Floats


class Place:
    """The host, where arrays are NumPy's. The base of `DevicePlace`."""

    device: str | None = None  # of the arrays, with its number
    stream = 0
    stream_owner: Any = None  # what keeps the stream alive

    @contextlib.contextmanager
    def models_on(self, device: str | None) -> Iterator[None]:
        """Make what is built inside the block live where the user or the arrays say."""
        with on_device(device):
            yield

    def take(self, name: str, array: Any) -> Any:
        """Return an argument as an array that can be computed with."""
        return array

    def check_finite(self, wanted: bool, **arrays: Any) -> bool:
        """Return whether arrays that were taken are still to be looked at for NaN one by one."""
        return wanted

    def empty(self, shape: Shape, dtype: np.dtype[Any]) -> FloatArray:
        """Return an array for a result, not cleared."""
        return _densefield.new_result(dtype, shape)

    def zeros(self, shape: Shape, dtype: np.dtype[Any]) -> FloatArray:
        """Return an array of zeros for a result."""
        return np.zeros(shape, dtype)

    def given_back(self, result: FloatArray) -> FloatArray:
        """Return a result as an array of the caller's library."""
        return result

    def finish(self) -> None:
        """End the call."""


class DevicePlace(Place):
    """A device, where arrays are `DeviceArray`, views of the caller's own.

    All is computed on the caller's current stream, or on that of the model if it has another:
    then each waits for the other where it must, and the host for none. Where the caller's library
    has no stream that is known, one of this library's is taken, and the end of the call waits for
    it: only then may inputs go away.
    """

    def __init__(self, device: str, sample: Any, stream: int | None) -> None:
        self.device = device
        self._sample = sample
        self._library = library_of(sample)
        self._others: set[int] = set()  # streams that arrays belong to
        self._origins: list[tuple[DeviceArray, Any]] = []
        callers = self._callers_stream()
        self._must_wait = callers is None
        if stream is not None:
            self.stream = stream
        elif callers is not None:
            self.stream, self.stream_owner = callers
        else:
            self.stream = _densefield.own_stream(device)

    def _callers_stream(self) -> Stream | None:
        current = self._library.stream(self._sample)
        if current is not None:
            self._others.add(current.handle)
        return current

    @contextlib.contextmanager
    def models_on(self, device: str | None) -> Iterator[None]:
        with on_device(self.device, self.stream):
            yield

    def take(self, name: str, array: Any) -> Any:
        if array is None or device_of(array) is None:
            return array
        ours = import_array(name, array, self.stream)
        if isinstance(array, DeviceArray):
            self._others.add(array.stream)
            ours = array._on_stream(self.stream)
        elif library_of(array) is not self._library:
            self._must_wait = True
        self._origins.append((ours, array))
        return ours

    def check_finite(self, wanted: bool, **arrays: Any) -> bool:
        """Look at all of them, and wait for what was found once."""
        floats = {
            name: as_float(array)
            for name, array in arrays.items()
            if isinstance(array, DeviceArray) and array.dtype.kind in "fV"  # V: bfloat16
        }
        if wanted and floats:
            counts = _densefield.count_non_finite(list(floats.values()))
            for (name, array), count in zip(floats.items(), counts, strict=True):
                refuse_non_finite(name, count, array.size)
        return False

    def empty(self, shape: Shape, dtype: np.dtype[Any]) -> FloatArray:
        self._callers_stream()
        theirs = self._library.empty(self._sample, shape, dtype)
        if theirs is not None:
            return cast("_Floats", self.take("result", theirs))
        made = _densefield.new_device_array(dtype, shape, str(self.device), self.stream)
        return cast("_Floats", made)

    def zeros(self, shape: Shape, dtype: np.dtype[Any]) -> FloatArray:
        result = self.empty(shape, dtype)
        cast("DeviceArray", result)._clear()
        return result

    def given_back(self, result: Any) -> Any:
        for index, (ours, theirs) in enumerate(self._origins):
            if ours is result:
                del self._origins[index]
                return theirs
        return self._library.array_from(result) if isinstance(result, DeviceArray) else result

    def finish(self) -> None:
        """Put what happens to the arrays after the call behind what it does with them."""
        for other in self._others - {self.stream}:
            _densefield.order_streams(str(self.device), self.stream, other)
        self._origins.clear()
        if self._must_wait:
            _densefield.wait_for_stream(str(self.device), self.stream)


HOST = Place()


@contextlib.contextmanager
def place_of(
    device: str | None, arrays: Mapping[str, Any], *, stream: int | None = None
) -> Iterator[Place]:
    """Find the device of a call's arrays; names are those of the arguments, None is not given.

    `stream` is that of a model that exists already. Raises RuntimeError if the arrays are not all
    in one place, or if the user asked for another `device`.
    """
    found = {name: device_of(array) for name, array in arrays.items() if array is not None}
    first = next((name for name, where in found.items() if where is not None), None)
    if first is None:
        yield HOST
        return
    where = str(found[first])
    for name, other in found.items():
        if other != where:
            raise RuntimeError(_not_in_one_place(first, where, name, other))
    if device is not None and numbered(device) != where:
        raise RuntimeError(
            f"{first} is on {where}, but device={device!r} was asked for; leave device out to "
            f"compute where the arrays are, or move them there first"
        )
    place = DevicePlace(where, arrays[first], stream)
    try:
        yield place
    finally:
        place.finish()


def _not_in_one_place(first: str, where: str, name: str, other: str | None) -> str:
    way_out = (
        f"move {name} there with its library, or with densefield.to_device({name}, {where!r})"
        if other is None
        else f"move one of them with its library, as {name}.to({where!r}) does in PyTorch"
    )
    return (
        f"{first} and {name} must be on one device, got {first} on {where} and {name} on "
        f"{other or 'the CPU'}; {way_out}"
    )


class Home:
    """The device and stream that a model's tables live on."""

    def __init__(self, place: Place, device: str | None) -> None:
        with place.models_on(device):
            self.device = numbered(_densefield.device())
        self.stream = place.stream
        if self.device != "cpu" and place.device is None:
            self.stream = _densefield.own_stream(self.device)
        self._stream_owner = place.stream_owner

    def place_of(self, **arrays: Any) -> contextlib.AbstractContextManager[Place]:
        """Find where a call's arrays are: on the host, or here; RuntimeError if elsewhere."""
        for name, array in arrays.items():
            where = device_of(array)
            if where not in (None, self.device):
                raise RuntimeError(
                    f"{name} is on {where}, but what it is to be computed with was prepared on "
                    f"{self.device}; prepare that with device={where!r}, or move {name}"
                )
        return place_of(None, arrays, stream=None if self.device == "cpu" else self.stream)


class Destination:
    """Where a result goes: made when the inference asks, which by then needs less memory."""

    def __init__(self, make: Callable[[], FloatArray], label_axis: int) -> None:
        self._make = make
        self._axis = label_axis

    def __call__(self) -> FloatArray:
        """Make the result and return it as (C, N)."""
        self._result = self._make()
        self._table = channels_first(self._result, self._axis)
        return self._table

    def finished(self) -> FloatArray:
        """Return the result, after the inference."""
        copy_back(self._table, self._result, self._axis)
        return self._result
