"""Backends that the tests run on: all in one list, with the reason where one is not there."""

from __future__ import annotations

from collections.abc import Iterator
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
    return None


BACKENDS = [Backend("cpu", level, threads) for level in SIMD_LEVELS for threads in THREADS]


@pytest.fixture(params=BACKENDS, ids=str)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Run the test on every backend."""
    chosen: Backend = request.param
    reason = reason_to_skip(chosen)
    if reason is not None:
        pytest.skip(reason)
    level = _densefield.simd_level()
    _densefield.set_simd_level(chosen.simd_level)
    try:
        with df.num_threads(chosen.num_threads):
            yield chosen
    finally:
        _densefield.set_simd_level(level)
