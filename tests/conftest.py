"""Backends that the tests run on: all in one list, with the reason where one is not there.

``DENSEFIELD_TEST_DEVICE=cuda`` (or ``cuda-emulated``) makes every test that does not choose a
backend itself run there, and those that take each backend on that device alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

import densefield as df
from densefield import _densefield

SIMD_LEVELS = ("base", "avx2", "avx512")
THREADS = (1, 2)


class Backend(NamedTuple):
    """One way to compute: where, with which instructions, on how many threads."""

    device: str
    simd_level: str
    num_threads: int

    def __str__(self) -> str:
        return f"{self.device}-{self.simd_level}-{self.num_threads}"


def reason_to_skip(backend: Backend) -> str | None:
    """Say why this machine or build cannot run a backend, or return None."""
    if backend.simd_level not in df.system_info()["simd_available"]:
        return f"this processor or build has no {backend.simd_level}"
    return _densefield.device_problem(backend.device) or None


DEVICES = ("cuda-emulated", "cuda")
BACKENDS = [Backend("cpu", level, threads) for level in SIMD_LEVELS for threads in THREADS] + [
    Backend(device, "base", 1) for device in DEVICES
]

_device_of_all = os.environ.get("DENSEFIELD_TEST_DEVICE")
if _device_of_all is not None:
    _densefield.set_device(_device_of_all)


@contextmanager
def running_on(backend: Backend) -> Iterator[None]:
    """Make models live on the backend inside this block."""
    level = _densefield.simd_level()
    _densefield.set_simd_level(backend.simd_level)
    _densefield.set_device_here(backend.device)
    try:
        with df.num_threads(backend.num_threads):
            yield
    finally:
        _densefield.set_simd_level(level)
        _densefield.set_device_here("")


@pytest.fixture(
    params=[backend for backend in BACKENDS if _device_of_all in (None, backend.device)], ids=str
)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Run the test on every backend."""
    chosen: Backend = request.param
    reason = reason_to_skip(chosen)
    if reason is not None:
        pytest.skip(reason)
    with running_on(chosen):
        yield chosen


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Run the test for every device other than the CPU; it says itself what lives there."""
    name: str = request.param
    reason = reason_to_skip(Backend(name, "base", 1))
    if reason is not None:
        pytest.skip(reason)
    return name
