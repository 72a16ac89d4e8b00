"""Updates take no memory of the device, forwards or backwards: the emulated one counts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densefield as df
from conftest import Backend, reason_to_skip
from densefield import _densefield
from densefield.gradients import ALL_GRADIENTS

DEVICE = "cuda-emulated"


@pytest.fixture
def taken() -> Callable[[Callable[[], object]], int]:
    """Return a function that says how often a call takes memory of the device."""
    reason = reason_to_skip(Backend(DEVICE, "base", 1))
    if reason is not None:
        pytest.skip(reason)
    library = ctypes.CDLL(str(Path(_densefield.__file__).with_name("_densefield_cuda_emulated.so")))
    library.densefield_emulation_allocations.restype = ctypes.c_int64

    def count(call: Callable[[], object]) -> int:
        before = library.densefield_emulation_allocations()
        call()
        return int(library.densefield_emulation_allocations() - before)

    return count


def model(kind: Any, num_labels: int, num_kernels: int, options: dict[str, Any]) -> Any:
    """Return a function from a number of iterations to a model with a table for each kernel."""
    rng = np.random.default_rng(num_kernels)
    kernels = [
        df.Bilateral(
            sigma_space=2 + k, sigma_color=30, compatibility=rng.uniform(-1, 1, (num_labels,) * 2)
        )
        for k in range(num_kernels)
    ]
    return lambda iterations: kind(kernels, iterations=iterations, device=DEVICE, **options)


NEVER_REACHED = 1e-30

DENSE: list[tuple[Any, ...]] = [
    (df.DenseCRF, num_labels, num_kernels, options)
    for num_labels in (2, 3)
    for num_kernels in (0, 1, 5, 6, 9)
    for options in ({}, {"tolerance": NEVER_REACHED}, {"exclude_self": True})
]
CONV: list[tuple[Any, ...]] = [
    (df.ConvCRF, 3, num_kernels, options | more)
    for num_kernels in (1, 2, 6)
    for options in ({}, {"downsampling": 2})
    for more in ({}, {"tolerance": NEVER_REACHED}, {"exclude_self": True})
]
SCORES: list[tuple[Any, ...]] = [
    (kind, 3, num_kernels, {"output": "scores"})
    for kind in (df.DenseCRF, df.ConvCRF)
    for num_kernels in (1, 6)
]
MORE_LABELS_THAN_FIT_SHARED_MEMORY = (df.DenseCRF, 6200, 0, {})


# Two groups of kernels, one of them with the compatibility of the model; for dense CRFs, kernels
# on lattices and on the grid.
GRID = df.Gaussian(sigma_space=3, weight=2)
IMAGE = df.Bilateral(sigma_space=4, sigma_color=30, compatibility=df.Potts(0.5))
FLAT = df.Gaussian(sigma_space=2, method="lattice")

BACKWARDS: list[tuple[Any, ...]] = [
    (df.DenseCRF, num_labels, compatibility, options)
    for num_labels in (2, 21)
    for compatibility in ("potts", "vector", "matrix")
    for options in (
        {},
        {"exclude_self": True},
        {"output": "scores"},
        {"normalization": "none"},
    )
] + [
    (df.ConvCRF, num_labels, compatibility, options | more)
    for num_labels in (2, 21)
    for compatibility in ("potts", "vector", "matrix")
    for options in ({}, {"shape": "diamond"}, {"downsampling": 2})
    for more in (
        {},
        {"exclude_self": True},
        {"output": "scores"},
        {"normalization": "none"},
        {"unary_weight": 2, "start_from": "log_marginals"},
    )
]


def differentiable(
    kind: Any, num_labels: int, compatibility: str, options: dict[str, Any], iterations: int
) -> Any:
    """Return a model with everything that there is a gradient by."""
    shapes = {"vector": (num_labels,), "matrix": (num_labels, num_labels)}
    of_model = (
        np.random.default_rng(1).uniform(-1, 1, shapes[compatibility])
        if compatibility in shapes
        else df.Potts()
    )
    kernels = [GRID, IMAGE, FLAT] if kind is df.DenseCRF else [GRID, IMAGE]
    return kind(kernels, compatibility=of_model, iterations=iterations, device=DEVICE, **options)


def example(num_labels: int) -> tuple[Any, Any]:
    """Return a unary on the device and an image."""
    rng = np.random.default_rng(num_labels)
    unary = rng.uniform(0, 3, (num_labels, 5, 7)).astype("f4")
    return df.to_device(unary, DEVICE), rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def name_of(case: tuple[Any, ...]) -> str:
    kind, num_labels, num_kernels, options = case
    return f"{kind.__name__}-{num_labels}-{num_kernels}-{'-'.join(options)}"


@pytest.mark.parametrize(
    "case", [*DENSE, *CONV, *SCORES, MORE_LABELS_THAN_FIT_SHARED_MEMORY], ids=name_of
)
def test_more_updates_take_no_more_memory(case: tuple[Any, ...], taken: Any) -> None:
    with_iterations = model(*case)
    unary, image = example(case[1])
    counts = []
    for iterations in (1, 2, 5):
        prepared = with_iterations(iterations).prepare(image)
        counts.append(taken(partial(prepared.infer, unary, check_finite=False)))
    assert counts == counts[:1] * 3


@pytest.mark.parametrize("case", [*DENSE, *CONV, MORE_LABELS_THAN_FIT_SHARED_MEMORY], ids=name_of)
def test_a_step_takes_no_memory(case: tuple[Any, ...], taken: Any) -> None:
    unary, image = example(case[1])
    inference = model(*case)(1).prepare(image).start(unary)
    for _ in range(2):
        assert taken(inference.step) == 0
    assert taken(lambda: df.to_device(np.ones(3), DEVICE)) > 0  # it does count


# "recompute" has all of these compute two marginals at a time again, in two goes or three.
ITERATIONS = {"store": (1, 2, 5), "recompute": (5, 6, 9)}


@pytest.mark.parametrize("wants", [ALL_GRADIENTS, ("unary",)], ids=["all", "unary"])
@pytest.mark.parametrize("checkpoint", ITERATIONS)
@pytest.mark.parametrize("case", BACKWARDS, ids=name_of)
def test_more_updates_backwards_take_no_more_memory(
    case: tuple[Any, ...], checkpoint: Any, wants: Any, taken: Any
) -> None:
    unary, image = example(case[1])
    counts = []
    for iterations in ITERATIONS[checkpoint]:
        prepared = differentiable(*case, iterations).prepare(image)
        _, back = prepared.infer_vjp(unary, checkpoint=checkpoint)
        counts.append(taken(partial(back, unary, wants=wants, check_finite=False)))
    assert counts == counts[:1] * 3


@pytest.mark.parametrize("case", BACKWARDS, ids=name_of)
def test_recording_updates_takes_memory_for_marginals_alone(
    case: tuple[Any, ...], taken: Any
) -> None:
    unary, image = example(case[1])
    counts = []
    for iterations in (1, 2, 5):
        prepared = differentiable(*case, iterations).prepare(image)
        counts.append(taken(partial(prepared.infer_vjp, unary, check_finite=False)) - iterations)
    assert counts == counts[:1] * 3
