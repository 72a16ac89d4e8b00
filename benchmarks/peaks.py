"""What this machine can do at most: bytes copied and multiply-adds done per second.

The copy speed is that of one large array into another, both far larger than the caches; read and
written bytes both count. The multiply-add rate is that of ``peaks.c``, compiled here for the
instruction set that densefield uses: independent sums in registers. The clock is measured beside
it by a chain of additions, so that the rate can be checked: multiply-adds per cycle must come out
near a small whole number, 2 on most processors. Without a compiler the rate is that of NumPy's
matrix product, and says so; that is a few percent to a third lower.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import densefield as df

COPY_BYTES = 1 << 27  # of one array; several times any last-level cache of today
REPEATS = 7
SUMS = 12  # as in peaks.c
SECONDS = 0.02  # of one measurement, long against a start of a thread

# Floats in a vector and the compiler's options for each level of densefield.
LEVELS: dict[str, tuple[int, tuple[str, ...]]] = {
    "base": (4, ()),
    "avx2": (8, ("-mavx2", "-mfma")),
    "avx512": (16, ("-mavx512f",)),
}


@dataclass(frozen=True)
class Peak:
    """What a number of threads can do together."""

    threads: int
    copy_gb_per_second: float
    gflop_per_second: float
    flops_per_cycle: float | None  # per thread; None where the clock is not measured
    clock_ghz: float | None
    method: str


def measure_peaks(threads: tuple[int, ...]) -> list[Peak]:
    """Measure copy speed and multiply-add rate for each number of threads."""
    level = df.system_info()["simd"]
    with tempfile.TemporaryDirectory() as folder:
        native = compile_peaks(Path(folder), level)
        return [_measure(native, level, count) for count in threads]


def compile_peaks(folder: Path, level: str) -> Any | None:
    """Return the compiled library of ``peaks.c``, or None where it cannot be made."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or level not in LEVELS:
        return None
    lanes, options = LEVELS[level]
    library = folder / "peaks.so"
    source = Path(__file__).with_name("peaks.c")
    command = [compiler, "-O2", "-ffp-contract=fast", "-shared", "-fPIC", f"-DLANES={lanes}"]
    done = subprocess.run(
        [*command, *options, str(source), "-o", str(library)], capture_output=True, check=False
    )
    if done.returncode != 0:
        return None
    native = ctypes.CDLL(str(library))  # calls release the interpreter's lock
    native.multiply_add.argtypes = native.chain.argtypes = [ctypes.c_int64]
    native.multiply_add.restype = ctypes.c_float
    native.chain.restype = ctypes.c_uint64
    return native


def _measure(native: Any | None, level: str, threads: int) -> Peak:
    copy = copy_speed(threads) / 1e9
    if native is None:
        rate = matrix_product_rate(threads) / 1e9
        return Peak(threads, copy, rate, None, None, "matrix product of NumPy: no C compiler here")
    lanes = LEVELS[level][0]
    clock, rate = _clock_and_rate(native, lanes, threads)
    method = f"{SUMS} sums of {lanes} floats in registers, {level}"
    return Peak(threads, copy, rate / 1e9, rate / threads / clock, clock / 1e9, method)


def copy_speed(threads: int, num_bytes: int = COPY_BYTES) -> float:
    """Return bytes read plus written per second, the best of several copies."""
    source, target = np.ones(num_bytes, np.uint8), np.zeros(num_bytes, np.uint8)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)))
    return 2 * num_bytes / seconds


def matrix_product_rate(threads: int, side: int = 1024) -> float:
    """Return operations per second of a float32 matrix product on up to `threads` threads."""
    a = np.ones((side, side), np.float32)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # NumPy then takes the threads that it takes
        return 2 * side**3 / _best(lambda: a @ a)
    with threadpool_limits(threads, user_api="blas"):
        return 2 * side**3 / _best(lambda: a @ a)


def _clock_and_rate(native: Any, lanes: int, threads: int) -> tuple[float, float]:
    """Return cycles per second of a core, and operations per second of all threads.

    The two are measured in turns: the clock of a processor changes with what runs.
    """
    steps = _enough(native.chain)
    rounds = _enough(native.multiply_add)
    clock = rate = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS):
            clock = max(clock, 8 * steps / _seconds(lambda: native.chain(steps)))
            taken = _seconds(lambda: list(pool.map(native.multiply_add, [rounds] * threads)))
            rate = max(rate, 2 * SUMS * lanes * rounds * threads / taken)
    return clock, rate


def _enough(run: Callable[[int], Any]) -> int:
    """Return a count for which the run takes about as long as a measurement should."""
    count = 1000
    while (taken := _seconds(partial(run, count))) < SECONDS / 2:
        count = int(count * min(10.0, 1.1 * SECONDS / max(taken, 1e-6)))
    return count


def _best(run: Callable[[], Any]) -> float:
    run()
    return min(_seconds(run) for _ in range(REPEATS))


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
