"""Sizes beyond the machine: refused with the number of bytes, before any work."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

TOO_LARGE = [
    "df.DenseCRF([df.Gaussian(sigma_space=1)]).prepare(shape=(10**7, 10**7))",
    "df.DenseCRF([]).prepare(shape=(10**7, 10**7))",
    "df.DenseCRF([df.Gaussian(sigma_space=1)]).prepare(shape=(2**62, 8))",
    "df.DenseCRF([]).prepare(shape=(2**70,))",
    "df.DenseCRF([]).infer(huge(2, 10**7, 10**7), check_finite=False)",
    "df.PermutohedralLattice(huge(10**14, 2), check_finite=False)",
    "df.PermutohedralLattice(np.zeros((5, 2))).filter(huge(5, 10**14), check_finite=False)",
]

REFUSED = """
import numpy as np, densefield as df
def huge(*shape):
    return np.broadcast_to(np.float32(0), shape)
try:
    {call}
except MemoryError as error:
    print(error)
"""


def limit_memory() -> None:
    four_gigabytes = 4 << 30
    resource.setrlimit(resource.RLIMIT_AS, (four_gigabytes, four_gigabytes))


@pytest.mark.parametrize("call", TOO_LARGE)
def test_what_exceeds_memory_is_refused_before_any_work(call: str) -> None:
    command = [sys.executable, "-c", REFUSED.format(call=call)]
    # In a process of its own: without the refusal this runs for hours or fills the memory.
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=True, preexec_fn=limit_memory
    )
    assert any(word in finished.stdout for word in ("bytes", "TiB", "PiB"))
