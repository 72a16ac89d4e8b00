"""The stages of both engines: what is timed on a device, with inputs of its own for every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import densefield as df
from benchmarks import costs, exact
from benchmarks.cases.model import BILATERAL, Model
from benchmarks.cases.window import model as conv_model
from benchmarks.gpu_timing import Row, Stage, number_of_sets, row_of
from benchmarks.inputs import Array, Scene
from densefield.cli.timing import take_turns
from densefield.device_arrays import new_like

FILTER_SIZE = 7
ITERATIONS = {"dense CRF": 10, "ConvCRF 7x7": 5}


class Inputs(NamedTuple):
    """One set of inputs of all stages, arrays on the device."""

    unary: Any  # (C, H, W)
    image: Any  # (H, W, 3)
    features: Any  # (H, W, 5) of the bilateral kernel
    values: Any  # (N, C)


def shifted(scene: Scene, step: int) -> Scene:
    """Return the scene as a camera would see it that turned: another input of the same kind."""
    return Scene(
        scene.name,
        np.ascontiguousarray(np.roll(scene.image, step, axis=1)),
        np.ascontiguousarray(np.roll(scene.probabilities, step, axis=2)),
    )


def sets_of_inputs(scene: Scene, device: str, *, quick: bool) -> list[Inputs]:
    """Return as many sets as no cache holds together."""
    count = number_of_sets(scene.unary.nbytes, quick=quick)
    return [_inputs(shifted(scene, 7 * k), device) for k in range(count)]


def _inputs(scene: Scene, device: str) -> Inputs:
    features = exact.grid_features(scene.grid, BILATERAL[0], scene.image, BILATERAL[1])
    values = np.ascontiguousarray(scene.probabilities.reshape(len(scene.probabilities), -1).T)
    return Inputs(
        df.to_device(scene.unary, device),
        df.to_device(scene.image, device),
        df.to_device(features.astype(np.float32).reshape(*scene.grid, -1), device),
        df.to_device(values, device),
    )


def lattice_stages(sets: Sequence[Inputs]) -> Iterator[Stage]:
    """Time each step of the filter: the bilateral kernel's lattice, all labels."""
    case = "lattice, d = 5"
    nodes, labels = sets[0].values.shape
    flat = [s.features._view([nodes, 5], [5, 1], 0) for s in sets]
    lattices: list[Any] = [df.PermutohedralLattice(features) for features in flat]
    size = costs.LatticeSize.of(nodes, 5, lattices[0].num_vertices)
    vertices = [lattice.splat(s.values) for lattice, s in zip(lattices, sets, strict=True)]
    build = [partial(df.PermutohedralLattice, f, check_finite=False) for f in flat]
    yield Stage(case, "build", build, costs.build(size))

    def steps(name: str, inputs: Sequence[Any]) -> list[Callable[[], object]]:
        return [
            partial(getattr(lattice, name), given, check_finite=False)
            for lattice, given in zip(lattices, inputs, strict=True)
        ]

    values = [s.values for s in sets]
    yield Stage(case, "splat", steps("splat", values), costs.splat(size, labels))
    yield Stage(case, "blur", steps("blur", vertices), costs.blur(size, labels))
    yield Stage(case, "slice", steps("slice", vertices), costs.slicing(size, labels))
    yield Stage(case, "filter", steps("filter", values), costs.lattice_filter(size, labels))


def window_stages(sets: Sequence[Inputs]) -> Iterator[Stage]:
    """Time the table of a window kernel, and one message."""
    case, taps = f"window {FILTER_SIZE}x{FILTER_SIZE}", FILTER_SIZE**2
    height, width, dim = sets[0].features.shape
    nodes, labels = sets[0].values.shape
    make = [partial(df.WindowKernel, s.features, FILTER_SIZE, check_finite=False) for s in sets]
    kernels = [build() for build in make]
    grids = [s.values._view([height, width, labels], [width * labels, labels, 1], 0) for s in sets]
    yield Stage(case, "table", make, costs.window_table(nodes, taps, dim))
    apply: list[Callable[[], object]] = [
        partial(kernel.apply, grid, check_finite=False)
        for kernel, grid in zip(kernels, grids, strict=True)
    ]
    yield Stage(case, "message", apply, costs.window_message(nodes, taps, labels))


class CrfCosts(NamedTuple):
    """What the parts of an inference cost at least."""

    prepare: costs.Cost
    update: costs.Cost
    inference: costs.Cost  # all updates, prepared
    backward: costs.Cost | None


def models(scene: Scene) -> Iterator[tuple[str, df.DenseCRF, CrfCosts]]:
    """Yield both models with their costs."""
    nodes, labels = scene.unary[0].size, len(scene.unary)
    sizes, count = Model(scene).lattice_sizes(), ITERATIONS["dense CRF"]
    one, two = (costs.updates(sizes, labels, n) for n in (1, 2))
    yield (
        "dense CRF",
        Model(scene).crf(count),
        CrfCosts(
            costs.prepare(sizes),
            two + one * -1,
            costs.updates(sizes, labels, count),
            costs.backward(sizes, labels, count, to_features=True),
        ),
    )
    taps, count = FILTER_SIZE**2, ITERATIONS["ConvCRF 7x7"]
    table = costs.Cost(costs.FLOAT * nodes * taps, 0)  # written once, read in every update
    zero, one, whole = (costs.conv_crf(nodes, taps, (2, 5), labels, n) for n in (0, 1, count))
    conv_costs = CrfCosts(
        costs.conv_crf(nodes, taps, (2, 5), 0, 0), one + zero * -1, whole + table * -1, None
    )
    yield "ConvCRF 7x7", conv_model(FILTER_SIZE, count), conv_costs


def crf_stages(
    case: str, crf: df.DenseCRF, cost: CrfCosts, sets: Sequence[Inputs], error: float, updates: int
) -> Iterator[Stage]:
    """Time the parts of an inference, and the whole of it."""
    prepared = [crf.prepare(s.image) for s in sets]
    fields = [p.start(s.unary) for p, s in zip(prepared, sets, strict=True)]
    results: list[Any] = [new_like(s.unary, s.unary.shape, np.float32) for s in sets]

    def update_many(field: Any) -> None:
        for _ in range(updates):
            field._core.update(False)

    prepare = [partial(crf.prepare, s.image, check_finite=False) for s in sets]
    infer: list[Callable[[], object]] = [
        partial(p.infer, s.unary, out=out, check_finite=False)
        for p, s, out in zip(prepared, sets, results, strict=True)
    ]
    both = [partial(crf.infer, s.unary, s.image, check_finite=False) for s in sets]
    update = [partial(update_many, field) for field in fields]
    whole, name = cost.prepare + cost.inference, f"{crf.iterations} updates"
    yield Stage(case, "prepare", prepare, cost.prepare)
    yield Stage(case, "update", update, cost.update, updates)
    # Replays begin where the recording did, whatever the marginals: the same work, other numbers.
    yield Stage(case, "update", update, cost.update, updates, is_recorded=True)
    yield Stage(case, name, infer, cost.inference)
    yield Stage(case, name, infer, cost.inference, is_recorded=True)
    yield Stage(case, f"prepare and {name}", both, whole, error=error)
    ways = [crf.infer_vjp(s.unary, s.image)[1] for s in sets[:2]]  # they keep all marginals
    back = [partial(vjp, s.unary, check_finite=False) for vjp, s in zip(ways, sets, strict=False)]
    yield Stage(case, "all gradients", back, cost.backward)


def cpu_rows(case: str, crf: df.DenseCRF, scene: Scene, rounds: int) -> list[Row]:
    """Time a whole inference on this machine's processor."""
    unary, prepared = scene.unary, crf.prepare(scene.image)
    runs: dict[str, Callable[[], object]] = {
        "prepare": lambda: crf.prepare(scene.image),
        f"{crf.iterations} updates": lambda: prepared.infer(unary),
        f"prepare and {crf.iterations} updates": lambda: crf.infer(unary, scene.image),
    }
    found = take_turns(runs, rounds=rounds, seconds_per_sample=0)
    return [row_of(Stage(case, name, ()), "cpu", timing) for name, timing in found.items()]


def largest_difference(crf: df.DenseCRF, scene: Scene, inputs: Inputs) -> float:
    """Return how far the device's marginals are from the CPU's."""
    on_cpu: Array = crf.infer(scene.unary, scene.image)
    on_device: Any = crf.infer(inputs.unary, inputs.image)
    return float(np.abs(on_device.numpy() - on_cpu).max())
