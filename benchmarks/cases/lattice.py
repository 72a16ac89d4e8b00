"""The lattice's steps one by one, and one message from features to marginals beside pydensecrf."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import densefield as df
from benchmarks import costs, exact, inputs, peers
from benchmarks.cases.model import BILATERAL
from benchmarks.comparison import Comparison, Contender, Settings, Skipped, ours
from benchmarks.inputs import Scene

Array = npt.NDArray[Any]

ERROR_OF = "relative L2 of the filter over the filtered ones, to the exact sum at sampled nodes"
UPDATE_ERROR_OF = (
    "rms of marginals after the update, normalised after, to the exact sum at unsure nodes"
)


def lattice(settings: Settings) -> Iterator[Comparison | Skipped]:
    """Each photograph's five-dimensional bilateral lattice, 21 channels."""
    reason = peers.pydensecrf_missing()
    if reason is not None:
        yield Skipped("lattice", "pydensecrf", reason)
    for scene in inputs.photographs(settings.photographs):
        cut = scene.resized(96, 128) if settings.quick else scene.resized(375, 500)
        yield from _steps(cut, settings)
        yield from _beside_pydensecrf(cut, settings)
        if settings.quick:
            return


def _steps(scene: Scene, settings: Settings) -> Iterator[Comparison]:
    features = exact.grid_features(scene.grid, BILATERAL[0], scene.image, BILATERAL[1])
    table = features.astype(np.float32)
    values = np.ascontiguousarray(scene.probabilities.reshape(len(scene.probabilities), -1).T)
    built = df.PermutohedralLattice(table)
    vertices = built.splat(values)
    channels = values.shape[1]
    size = costs.LatticeSize.of(len(table), table.shape[1], built.num_vertices)
    nodes = exact.sample_nodes(len(table))

    def error() -> float:
        smooth = built.filter(values) / built.filter(np.ones((len(table), 1), np.float32))
        return exact.relative_error(smooth[nodes], exact.normalized_sums(features, values, nodes))

    tasks: dict[str, tuple[Callable[[], Any], costs.Cost]] = {
        "build": (partial(df.PermutohedralLattice, table), costs.build(size)),
        "splat": (partial(built.splat, values), costs.splat(size, channels)),
        "blur": (partial(built.blur, vertices), costs.blur(size, channels)),
        "slice": (partial(built.slice, vertices), costs.slicing(size, channels)),
        "filter": (partial(built.filter, values), costs.lattice_filter(size, channels)),
        "build and filter": (
            lambda: df.PermutohedralLattice(table).filter(values),
            costs.build(size) + costs.lattice_filter(size, channels),
        ),
    }
    for name, (run, cost) in tasks.items():
        whole = "filter" in name
        yield Comparison(
            case=f"lattice/{name}",
            input=scene.name,
            size=_size(size, channels),
            contenders=list(ours("densefield", settings, run, error=error if whole else None)),
            cost=cost,
            error_of=ERROR_OF if whole else "",
        )


def _beside_pydensecrf(scene: Scene, settings: Settings) -> Iterator[Comparison]:
    """Tasks that both packages can do alone.

    pydensecrf offers no filter, but a CRF of one kernel and one update is a filter of all
    channels between two softmaxes; and adding a kernel builds its lattice and its normalisation.
    densefield does the same two tasks through the same interface, that of the CRF.
    """
    unary = scene.unary
    flat = unary.reshape(len(unary), -1)
    grid = scene.grid
    features = exact.grid_features(scene.grid, BILATERAL[0], scene.image, BILATERAL[1])
    table, weight = features.astype(np.float32), BILATERAL[2]
    nodes = exact.unsure_nodes(unary)
    kernel = df.Features(table.reshape(*grid, -1), weight=weight)
    lattice_size = df.DenseCRF([kernel]).prepare(shape=grid).lattices[0]
    size = costs.LatticeSize.of(len(table), table.shape[1], lattice_size.num_vertices)
    crf = df.DenseCRF([kernel], iterations=1)

    def error_of(marginals: Array) -> float:
        expected = exact.one_update(flat, [(features, weight)], nodes)
        return exact.rms_difference(marginals[:, nodes].T, expected)

    def our_error() -> float:
        after = df.DenseCRF([kernel], iterations=1, normalization="after")
        return error_of(after.infer(unary).reshape(flat.shape))

    def their_error() -> float:
        return error_of(peers.pydensecrf_features(flat, [(table, weight)], 1, after=True))

    tasks = {
        "build and normalisation": (
            lambda: crf.prepare(shape=grid),
            lambda: peers.FeatureCRF(flat[:1]).add(table, weight),
            costs.prepare([size]),
        ),
        "features to marginals, one update": (
            lambda: crf.infer(unary),
            lambda: peers.pydensecrf_features(flat, [(table, weight)], 1),
            costs.dense_crf([size], len(flat), 1),
        ),
    }
    for name, (run, theirs, cost) in tasks.items():
        filters = "update" in name
        contenders = []
        if peers.pydensecrf_missing() is None:
            contenders.append(Contender("pydensecrf", 1, theirs, their_error if filters else None))
        contenders += ours("densefield", settings, run, error=our_error if filters else None)
        yield Comparison(
            case=f"lattice/{name}",
            input=scene.name,
            size=_size(size, len(flat) if filters else 1),
            contenders=contenders,
            cost=cost,
            error_of=UPDATE_ERROR_OF if filters else "",
            baseline="pydensecrf",
        )


def _size(size: costs.LatticeSize, channels: int) -> dict[str, int]:
    return {
        "points": size.points,
        "channels": channels,
        "dim": size.dim,
        "vertices": size.vertices,
    }
