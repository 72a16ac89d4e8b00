"""Where models are computed: the check of ``device=`` and the choice for one construction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from densefield import _densefield

Device: TypeAlias = Literal["cpu", "cuda"]

# The emulated device runs the CUDA kernels on the CPU: for tests, and no wheel has it.
_NAMES = ("cpu", "cuda", "cuda-emulated")


def check_device(device: Any) -> Device | None:
    """Return the name of a device, or raise; None is the process's, which is the CPU."""
    if device is None:
        return None
    if not isinstance(device, str):
        raise TypeError(f"device must be 'cpu' or 'cuda', got {type(device).__name__}")
    if device not in _NAMES:
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}; write 'cuda' for a GPU")
    checked: Device = device  # type: ignore[assignment]
    return checked


@contextlib.contextmanager
def on_device(device: str | None) -> Iterator[None]:
    """Make what this thread builds inside the block live on a device; None changes nothing.

    Raises RuntimeError with the reason if the device cannot be used.
    """
    if device is None:
        yield
        return
    previous = _densefield.set_device_here(device)
    try:
        yield
    finally:
        _densefield.set_device_here(previous)
