"""What this build can do and what it uses."""

from __future__ import annotations

from typing import TypedDict

from densefield import _densefield


class SystemInfo(TypedDict):
    """What `system_info` returns."""

    version: str
    compiler: str
    simd: str
    simd_available: list[str]
    num_threads: int
    num_threads_source: str
    cuda: bool
    cuda_reason: str


def system_info() -> SystemInfo:
    """Version, instruction set, threads and GPU of this installation.

    Returns
    -------
    dict
        ``simd`` is the level in use (the environment variable DENSEFIELD_ISA forces one of
        ``simd_available``); ``num_threads_source`` tells what decided the number of threads;
        ``cuda_reason`` why no GPU can be used, "" if one can.

    Examples
    --------
    >>> system_info()["num_threads"] >= 1
    True
    """
    problem = _densefield.device_problem("cuda")
    return {
        "version": _densefield.__version__,
        "compiler": _densefield.compiler,
        "simd": _densefield.simd_level(),
        "simd_available": _densefield.simd_available().split(","),
        "num_threads": _densefield.get_num_threads(),
        "num_threads_source": _densefield.num_threads_source(),
        "cuda": not problem,
        "cuda_reason": problem,
    }
