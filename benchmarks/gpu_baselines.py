"""What others would do on the same machine: windows tiled by torch, and a lattice on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import densefield as df
from benchmarks import costs, peers
from benchmarks.cases.model import BILATERAL, SPATIAL, Model
from benchmarks.gpu_stages import FILTER_SIZE, ITERATIONS, shifted
from benchmarks.gpu_timing import Call, Row, Stage, row_of, timing_by_events
from benchmarks.inputs import Array, Scene

# Its tiled windows take 0.8 GB at 375 x 500 with 21 labels.
MOST_SETS = 4


def reason_missing(device: str) -> str | None:
    """Say why torch's baselines cannot run, or return None."""
    if not device.startswith("cuda") or device.startswith("cuda-emulated"):
        return "torch knows no emulated device"
    reason = peers.torch_missing()
    if reason is not None:
        return reason
    if not importlib.import_module("torch").cuda.is_available():
        return "this torch finds no GPU (a build for CUDA and a driver are needed)"
    return None


def torch_rows(scene: Scene, device: str, rounds: int) -> Iterator[Row]:
    """Time torch's ConvCRF, and a dense CRF whose messages are computed on the CPU."""
    torch = importlib.import_module("torch")
    torch.cuda.set_device(device)
    count = ITERATIONS["ConvCRF 7x7"]
    nodes, labels = scene.unary[0].size, len(scene.unary)
    scenes = [shifted(scene, 7 * k) for k in range(MOST_SETS)]
    tiled = [
        peers.UnfoldedWindows(
            s.image, s.unary, FILTER_SIZE, spatial=SPATIAL, bilateral=BILATERAL, device=device
        )
        for s in scenes
    ]
    whole = costs.conv_crf(nodes, FILTER_SIZE**2, (2, 5), labels, count)
    stages = [
        Stage(
            "ConvCRF 7x7",
            f"prepare and {count} updates",
            [partial(_infer_tiled, t, count) for t in tiled],
            whole,
        ),
        Stage("dense CRF", "update", [update_through_the_host(s, device) for s in scenes]),
    ]
    names = ("torch, tiled windows", "torch, CPU lattice")
    with torch.no_grad():
        for stage, name in zip(stages, names, strict=True):
            timing = timing_by_events(stage.calls, rounds, partial(_event, torch), _milliseconds)
            yield row_of(stage, name, timing)


def _infer_tiled(tiled: peers.UnfoldedWindows, iterations: int) -> Any:
    return tiled.updates(tiled.kernel(), iterations)


def update_through_the_host(scene: Scene, device: str) -> Call:
    """Return one update of a layer whose lattices are on the CPU: marginals go there and back."""
    torch = importlib.import_module("torch")
    unary = torch.from_numpy(scene.unary.reshape(len(scene.unary), -1)).to(device)
    kernels = []
    for features, weight in Model(scene).features():
        lattice = df.PermutohedralLattice(features.astype(np.float32), device="cpu")
        norm = lattice.filter(np.ones((len(features), 1), np.float32))
        kernels.append((lattice, np.float32(weight) / norm))

    def update() -> Any:
        marginals: Array = torch.softmax(-unary, 0).t().cpu().numpy()
        message: Any = sum(scale * lattice.filter(marginals) for lattice, scale in kernels)
        return torch.softmax(torch.from_numpy(message).to(device).t() - unary, 0)

    return update


def _event(torch: Any) -> Any:
    event = torch.cuda.Event(enable_timing=True)
    event.record()  # on torch's current stream
    return event


def _milliseconds(first: Any, last: Any) -> float:
    last.synchronize()
    return float(first.elapsed_time(last))
