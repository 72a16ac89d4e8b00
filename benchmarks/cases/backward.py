"""Gradients of an inference, in this version if it has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

import densefield as df
from benchmarks import costs, inputs
from benchmarks.cases.model import Model
from benchmarks.comparison import Comparison, Settings, Skipped, ours

ITERATIONS = 5
ERROR_OF = "slope by the unary in float64 against a central difference, 48 x 64, relative"
_STEP = 1e-4


def backward(settings: Settings) -> Iterator[Comparison | Skipped]:
    """Forward and backward pass of a dense CRF, from marginals' gradient to all gradients."""
    if not hasattr(df.DenseCRF, "infer_vjp"):
        yield Skipped("backward", "densefield", "this version has no gradients")
        return
    scene = inputs.shipped().resized(*((48, 64) if settings.quick else (375, 500)))
    model, unary = Model(scene), scene.unary
    crf: Any = model.crf(ITERATIONS)
    grad = np.random.default_rng(5).normal(size=unary.shape).astype(np.float32)
    _, vjp = crf.infer_vjp(unary, scene.image)
    sizes, labels = model.lattice_sizes(), len(unary)
    record = costs.Cost(ITERATIONS * costs.FLOAT * unary.size, 0)
    tasks: dict[str, tuple[Callable[[], Any], costs.Cost, bool]] = {
        "forward, marginals kept": (
            partial(crf.infer_vjp, unary, scene.image),
            costs.dense_crf(sizes, labels, ITERATIONS) + record,
            False,
        ),
        "backward to unary, weights and compatibility": (
            partial(vjp, grad, wants=("unary", "weights", "compatibility")),
            costs.backward(sizes, labels, ITERATIONS, to_features=False),
            True,
        ),
        "backward to everything": (
            partial(vjp, grad),
            costs.backward(sizes, labels, ITERATIONS, to_features=True),
            True,
        ),
    }
    for name, (run, cost, goes_back) in tasks.items():
        error = _error if goes_back else None
        yield Comparison(
            case=f"backward/{name}, {ITERATIONS} iterations",
            input=scene.name,
            size={"points": unary[0].size, "labels": labels, "iterations": ITERATIONS},
            contenders=list(ours("densefield", settings, run, error=error)),
            cost=cost,
            error_of=ERROR_OF if goes_back else "",
        )


@cache
def _error() -> float:
    """Compare the gradient to the unary with a difference along a random direction."""
    scene = inputs.shipped().resized(48, 64)
    rng = np.random.default_rng(7)
    unary = scene.unary.astype(np.float64)
    direction, upstream = rng.normal(size=unary.shape), rng.normal(size=unary.shape)
    image = scene.image.astype(np.float64)
    crf: Any = Model(scene).crf(ITERATIONS)
    _, vjp = crf.infer_vjp(unary, image)
    slope = float((vjp(upstream).unary * direction).sum())
    ahead = crf.infer(unary + _STEP * direction, image)
    behind = crf.infer(unary - _STEP * direction, image)
    expected = float(((ahead - behind) * upstream).sum()) / (2 * _STEP)
    return abs(slope - expected) / max(abs(expected), 1e-12)
