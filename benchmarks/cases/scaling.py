"""How time grows with points, channels, dimensions and threads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

import densefield as df
from benchmarks import costs, inputs
from benchmarks.cases.model import Model
from benchmarks.comparison import Comparison, Contender, Settings, Skipped, on_threads, ours
from benchmarks.machine import available_cores

ITERATIONS = 5
SIDES: tuple[int, ...] = (64, 128, 256, 512, 1024)
LABELS: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
DIMENSIONS: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 12, 16)
SPREAD = 8.0  # side of the box that the points of the curve in d lie in, in sigmas


def scaling(settings: Settings) -> Iterator[Comparison | Skipped]:
    """Curves of one inference (N, C, threads) and of one filter (d)."""
    one = Settings((1,), settings.rounds, settings.quick, settings.photographs)
    sides, labels, dimensions = SIDES, LABELS, DIMENSIONS
    if settings.quick:
        sides, labels, dimensions = (32, 64), (2, 4), (2, 5)
    scene = inputs.shipped()
    for side in sides:
        yield _inference("points", scene.resized(side, side), one)
    middle = scene.resized(64, 64) if settings.quick else scene.resized(256, 256)
    for count in labels:
        yield _inference("labels", middle.with_labels(count), one)
    for dim in dimensions:
        yield _filter(dim, 2000 if settings.quick else 50_000, one)
    yield _threads(middle, settings)


def _inference(curve: str, scene: inputs.Scene, settings: Settings) -> Comparison:
    model, unary = Model(scene), scene.unary
    run = partial(model.crf(ITERATIONS).infer, unary, scene.image)
    return Comparison(
        case=f"scaling/{curve}",
        input=scene.name,
        size={"points": unary[0].size, "labels": len(unary), "iterations": ITERATIONS},
        contenders=list(ours("densefield", settings, run)),
        cost=costs.dense_crf(model.lattice_sizes(), len(unary), ITERATIONS),
    )


def _filter(dim: int, num_points: int, settings: Settings) -> Comparison:
    """Filter points on a curved sheet: real features fill a surface, not the space they lie in."""
    rng = np.random.default_rng(dim)
    sheet = rng.random((num_points, 2))
    frequencies = 4 * rng.normal(size=(2, dim))  # folds: vertices grow with d, as in photographs
    features = (SPREAD * (0.5 + 0.5 * np.sin(sheet @ frequencies))).astype(np.float32)
    values = rng.random((num_points, 21), np.float32)
    built = df.PermutohedralLattice(features)
    size = costs.LatticeSize.of(num_points, dim, built.num_vertices)
    return Comparison(
        case="scaling/dimensions",
        input="points on a sheet",
        size={
            "points": num_points,
            "channels": values.shape[1],
            "dim": dim,
            "vertices": size.vertices,
        },
        contenders=list(
            ours(
                "densefield",
                settings,
                lambda: df.PermutohedralLattice(features).filter(values),
            )
        ),
        cost=costs.build(size) + costs.lattice_filter(size, values.shape[1]),
    )


def _threads(scene: inputs.Scene, settings: Settings) -> Comparison:
    model, unary = Model(scene), scene.unary
    run = partial(model.crf(ITERATIONS).infer, unary, scene.image)
    counts, count = [], 1
    while count < available_cores():
        counts.append(count)
        count *= 2
    counts.append(available_cores())
    return Comparison(
        case="scaling/threads",
        input=scene.name,
        size={"points": unary[0].size, "labels": len(unary), "iterations": ITERATIONS},
        contenders=[Contender("densefield", n, on_threads(n, run)) for n in counts],
        cost=costs.dense_crf(model.lattice_sizes(), len(unary), ITERATIONS),
    )
