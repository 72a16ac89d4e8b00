"""Gradients of an inference, in this version if it has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import densefield as df
from benchmarks import inputs
from benchmarks.cases.model import Model
from benchmarks.comparison import Comparison, Settings, Skipped, ours

ITERATIONS = 5
ERROR_OF = "relative error of the directional derivative to a central difference in float64"
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
    size = {"points": unary[0].size, "labels": len(unary), "iterations": ITERATIONS}
    tasks = {
        "forward with what the backward pass needs": lambda: crf.infer_vjp(unary, scene.image),
        "backward": lambda: vjp(grad),
    }
    for name, run in tasks.items():
        yield Comparison(
            case=f"backward/{name}, {ITERATIONS} iterations",
            input=scene.name,
            size=size,
            contenders=list(ours("densefield", settings, run, error=_error)),
            error_of=ERROR_OF,
        )


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
