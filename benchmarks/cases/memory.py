"""How much memory a task needs beside its inputs, each measured in a process of its own.

``python -m benchmarks.cases.memory CONTENDER IMAGE UNARY`` is what such a process runs; it prints
the bytes that it held before the task, and its peak.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import inputs, peers
from benchmarks.cases.model import BILATERAL, SPATIAL, Model
from benchmarks.comparison import MemoryUse, Settings, Skipped

ITERATIONS = 5
LARGE = (1024, 2048, 19)
USUAL = (375, 500, 21)
STATUS = Path("/proc/self/status")
GRADIENTS = {
    "densefield, marginals stored": "store",
    "densefield, recomputed": "recompute",
}


def memory(settings: Settings) -> Iterator[MemoryUse | Skipped]:
    """Measure an inference of a large photograph, and all gradients of a usual one."""
    if not STATUS.is_file():
        yield Skipped("memory", "densefield", "this system has no /proc to read the peak from")
        return
    cases = (
        ("memory/large, 19 labels, 5 iterations", LARGE, ("densefield", "pydensecrf")),
        ("memory/infer_vjp and all gradients, 21 labels, 5 iterations", USUAL, tuple(GRADIENTS)),
    )
    for case, whole_size, contenders in cases:
        height, width, labels = (96, 128, 3) if settings.quick else whole_size
        scene = inputs.shipped().resized(height, width).with_labels(labels)
        size = {"points": height * width, "labels": labels, "iterations": ITERATIONS}
        held = (scene.image.nbytes + scene.unary.nbytes) / 1e6
        for contender in contenders:
            reason = peers.pydensecrf_missing() if contender == "pydensecrf" else None
            if reason is not None:
                yield Skipped(case, contender, reason)
                continue
            yield MemoryUse(case, contender, size, held, _peak_of(contender, scene))


def _peak_of(contender: str, scene: inputs.Scene) -> float:
    """Return the peak of a new process above what it held before, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("image.npy", "unary.npy")]
        np.save(paths[0], scene.image)
        np.save(paths[1], scene.unary)
        command = [sys.executable, "-m", "benchmarks.cases.memory", contender, *paths]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
    before, peak = (int(word) for word in done.stdout.split())
    return (peak - before) / 1e6


def _status_bytes(name: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"{STATUS} has no line {name}")


def _main() -> None:
    contender, image_path, unary_path = sys.argv[1:]
    image, unary = np.load(image_path), np.load(unary_path)
    if contender.startswith("densefield"):
        crf = Model(inputs.Scene("", image, unary)).crf(ITERATIONS)
        before = _status_bytes("VmRSS")
        if contender == "densefield":
            crf.infer(unary, image)
        else:
            q, vjp = crf.infer_vjp(unary, image, checkpoint=GRADIENTS[contender])
            vjp(q)
    else:
        before = _status_bytes("VmRSS")
        peers.pydensecrf_image(unary, image, ITERATIONS, spatial=SPATIAL, bilateral=BILATERAL)
    print(before, _status_bytes("VmHWM"))


if __name__ == "__main__":
    _main()
