"""Unaries so large that the last update reads the caller's array: same bits, less memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import densefield as df

# Rows of 17 labels are padded to 24 numbers (20 in float64): together more than 64 MiB. No extent
# is a multiple of the tiles that nodes are ordered by.
LABELS, SHAPE = 17, (700, 1003)
KERNELS = [df.Gaussian(sigma_space=3, weight=2), df.Gaussian(sigma_space=9, method="lattice")]


def unary_of(dtype: npt.DTypeLike) -> Any:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 4, (LABELS, *SHAPE)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label_axis", [0, -1])
@pytest.mark.parametrize("output", ["marginals", "scores"])
def test_result_is_that_of_an_inference_that_copies_the_unary(
    dtype: str, label_axis: int, output: Any
) -> None:
    crf = df.DenseCRF(KERNELS, iterations=2, output=output).prepare(shape=SHAPE, dtype=dtype)
    unary = unary_of(dtype)
    if label_axis == -1:
        unary = np.ascontiguousarray(np.moveaxis(unary, 0, -1))
    before = unary.copy()
    # The array for the result may be the unary, so one that is given makes a copy of it.
    expected = crf.infer(unary, label_axis=label_axis, out=np.empty_like(unary))
    np.testing.assert_array_equal(crf.infer(unary, label_axis=label_axis), expected)
    np.testing.assert_array_equal(unary, before)


def test_labels_that_are_left_out_have_marginals_too() -> None:
    unary = unary_of("float32") + 7
    unary[[3, 16], :, :500] -= 7
    unary[[3, 8], :, 500:] -= 7
    crf = df.DenseCRF(KERNELS, iterations=3)
    expected = crf.infer(unary, out=np.empty_like(unary))
    np.testing.assert_array_equal(crf.infer(unary), expected)
    inference = crf.start(unary)
    for _ in range(3):
        inference.step()
    np.testing.assert_allclose(expected, inference.q, rtol=0, atol=3e-6)


def test_result_may_be_the_unary() -> None:
    crf = df.DenseCRF(KERNELS, iterations=2)
    unary = unary_of("float32")
    expected = crf.infer(unary)
    np.testing.assert_array_equal(crf.infer(unary, out=unary), expected)


PEAK = """
import re, numpy as np, densefield as df
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
crf = df.DenseCRF([df.Gaussian(sigma_space=3)], iterations=2)
unary = np.zeros(({labels}, *{shape}), dtype="float32") + np.float32(1)
place = np.empty_like(unary)  # no page of it is there before something is written
before = peak()
crf.infer(unary, {arguments})
print(peak() - before)
"""


def peak(arguments: str) -> int:
    script = PEAK.format(labels=LABELS, shape=SHAPE, arguments=arguments)
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return int(finished.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_result_takes_the_place_of_the_unary_s_copy() -> None:
    result = 4 * LABELS * SHAPE[0] * SHAPE[1]
    assert peak("") < peak("out=place") - result // 2
