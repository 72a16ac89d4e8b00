"""Where models are computed: the check of ``device=`` and the choice for one construction."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from densefield import _densefield

Device: TypeAlias = str  # "cpu", "cuda", "cuda:1"

# The emulated device runs the CUDA kernels on the CPU: for tests, and no wheel has it.
_NAME = re.compile(r"cpu|cuda(-emulated)?(:\d{1,4})?")


def check_device(device: Any) -> Device | None:
    """Return the name of a device, or raise; None is the process's, which is the CPU."""
    if device is None:
        return None
    if not isinstance(device, str):
        raise TypeError(
            f"device must be 'cpu', 'cuda' or 'cuda:N', got {type(device).__name__}; use str()"
        )
    if not _NAME.fullmatch(device):
        raise ValueError(
            f"device must be 'cpu', 'cuda' or 'cuda:N', got {device!r}; "
            f"write 'cuda' for a GPU, 'cuda:1' for the second"
        )
    return device


def numbered(device: str) -> str:
    """Return the device with its number, "cuda:0" for "cuda"."""
    return device if ":" in device or device == "cpu" else device + ":0"


@contextlib.contextmanager
def on_device(device: str | None, stream: int = 0) -> Iterator[None]:
    """Make what this thread builds inside the block live on a device; None changes nothing.

    `stream` is CUDA's handle of the stream that it works on, 0 for the library's own. Raises
    RuntimeError with the reason if the device cannot be used.
    """
    if device is None:
        yield
        return
    previous = _densefield.set_device_here(device)
    previous_stream = _densefield.set_stream_here(stream)
    try:
        yield
    finally:
        _densefield.set_stream_here(previous_stream)
        _densefield.set_device_here(previous)
