"""Work on a device recorded as a CUDA graph: for tests and measurements.

Frameworks record their own work, and this library's with it: docs/devices.md.
"""

from __future__ import annotations

from types import TracebackType

from densefield import _densefield
from densefield._devices import numbered


class Recording:
    """What is asked of a stream inside a ``with`` block, kept to be done any number of times.

    What cannot be recorded raises RuntimeError there: waiting, and copies from and to the host.

    Parameters
    ----------
    device : str
        ``"cuda"`` or ``"cuda:N"``.
    stream : int, optional
        Handle of the stream; the library's own on that device unless given.
    """

    def __init__(self, device: str, stream: int | None = None) -> None:
        self._device = numbered(device)
        self._stream = _densefield.own_stream(self._device) if stream is None else stream
        self._graph: _densefield.DeviceGraph | None = None

    def __enter__(self) -> Recording:
        _densefield.begin_recording(self._device, self._stream)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._graph = _densefield.end_recording(self._device, self._stream)
        except RuntimeError:
            if error is None:  # else it says why there is no graph
                raise

    def launch(self) -> None:
        """Do the work once more, in the order of the stream."""
        self._recorded().launch()

    @property
    def num_steps(self) -> int:
        """How many launches of kernels were recorded, with all else that the device does."""
        return self._recorded().num_steps

    def _recorded(self) -> _densefield.DeviceGraph:
        if self._graph is None:
            raise RuntimeError("nothing was recorded; end the with block first")
        return self._graph
