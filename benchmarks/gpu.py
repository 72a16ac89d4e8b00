"""What a GPU does: tests, compute-sanitizer, and times of every stage beside the CPU and torch.

    python -m benchmarks.gpu                          # tests, sanitizers and times, ten minutes
    python -m benchmarks.gpu --only times --json OUT  # the times alone, also into a file
    python -m benchmarks.gpu --device cuda-emulated --quick   # to see that it runs

An update's time is that of many in a row on the device, with one wait at the end; a whole
inference takes NumPy arrays and includes both copies. Errors are against the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import densefield as df
from benchmarks import machine
from densefield import _densefield

# What compute-sanitizer looks at: every kernel, on inputs of a few hundred points.
SANITIZED = ["tests/test_cuda.py", "-k", "volumes or kernels or windows or gradients or sizes"]
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")


class Row(NamedTuple):
    """One line of the table."""

    case: str
    stage: str
    device: str
    milliseconds: float
    spread_percent: float
    error: float | None


def main() -> int:
    """Run what is asked for; return 1 if a test or a sanitizer found a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cuda-emulated to try it")
    parser.add_argument("--only", choices=("tests", "sanitizers", "times"))
    parser.add_argument("--quick", action="store_true", help="small inputs, few rounds")
    parser.add_argument("--json", type=Path, help="where the times go")
    arguments = parser.parse_args()
    problem = _densefield.device_problem(arguments.device)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    failed = False
    if arguments.only in (None, "tests"):
        failed |= run_tests(arguments.device, ["tests"], [])
    if arguments.only in (None, "sanitizers"):
        failed |= run_sanitizers(arguments.device)
    if arguments.only in (None, "times"):
        rows = measure_all(arguments.device, quick=arguments.quick)
        print(table_of(rows))
        if arguments.json is not None:
            found = {"machine": machine.describe(), "rows": [row._asdict() for row in rows]}
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(failed)


def run_tests(device: str, tests: list[str], prefix: list[str]) -> bool:
    """Run tests on the device, under a tool if one is given; true if there is a fault."""
    command = [*prefix, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "DENSEFIELD_TEST_DEVICE": device}
    return subprocess.run(command, env=environment, check=False).returncode != 0


def run_sanitizers(device: str) -> bool:
    """Run the four tools of compute-sanitizer; true if one found a fault."""
    if shutil.which("compute-sanitizer") is None:
        print("compute-sanitizer is not installed: left out")
        return False
    failed = False
    for tool in TOOLS:
        prefix = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
        found = run_tests(device, SANITIZED, prefix)
        print(f"compute-sanitizer {tool}: {'FAULTS' if found else 'clean'}")
        failed |= found
    return failed


def measure_all(device: str, *, quick: bool) -> list[Row]:
    """Time the cases on the device and on the CPU, in turns."""
    size = (48, 64) if quick else (375, 500)
    rounds, updates = (3, 2) if quick else (15, 50)
    rng = np.random.default_rng(0)
    unary = rng.uniform(0, 3, size=(21, *size)).astype(np.float32)
    image = rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)
    kernels = df.default_crf().kernels
    models: dict[str, Callable[[str], df.DenseCRF]] = {
        "dense CRF": lambda where: df.DenseCRF(kernels, device=where),  # type: ignore[arg-type]
        "ConvCRF 7x7": lambda where: df.ConvCRF(kernels, device=where),  # type: ignore[arg-type]
    }
    rows: list[Row] = []
    for case, make in models.items():
        expected = make("cpu").infer(unary, image)
        for where in (device, "cpu"):
            rows += measure_model(case, where, make(where), unary, image, expected, rounds, updates)
    rows += measure_torch(unary, image, rounds, updates)
    return rows


def measure_model(
    case: str,
    where: str,
    crf: df.DenseCRF,
    unary: NDArray[Any],
    image: NDArray[Any],
    expected: NDArray[Any],
    rounds: int,
    updates: int,
) -> list[Row]:
    """Time build, one update, a whole inference and its way back."""
    prepared = crf.prepare(image)
    field = prepared.start(unary)

    def update_many() -> None:
        for _ in range(updates):
            field._core.update(False)  # type: ignore[union-attr]
        field._core.update(True)  # type: ignore[union-attr]

    vjp = crf.infer_vjp(unary, image)[1]
    error = float(np.abs(crf.infer(unary, image) - expected).max())
    stages: list[tuple[str, Callable[[], object], int, float | None]] = [
        ("build", lambda: crf.prepare(image), 1, None),
        ("update", update_many, updates + 1, None),
        ("inference with copies", lambda: prepared.infer(unary), 1, None),
        ("build and inference", lambda: crf.infer(unary, image), 1, error),
        ("all gradients", lambda: vjp(expected), 1, None),
    ]
    return [
        Row(case, stage, where, *median_of(call, rounds, count), found)
        for stage, call, count, found in stages
    ]


def median_of(call: Callable[[], object], rounds: int, count: int) -> tuple[float, float]:
    """Return the median of a call's milliseconds over `count`, and its spread in percent."""
    call()
    samples = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        samples.append((time.perf_counter() - begin) * 1e3 / count)
    low, middle, high = np.percentile(samples, [25, 50, 75])
    return float(middle), float((high - low) / middle * 100)


def measure_torch(unary: NDArray[Any], image: NDArray[Any], rounds: int, updates: int) -> list[Row]:
    """Time an update of ConvCRF with windows tiled in memory, where torch has a GPU."""
    try:
        import torch
    except ImportError:
        print("torch is not installed: left out")
        return []
    if not torch.cuda.is_available():
        print("torch has no GPU here: left out")
        return []
    labels, height, width = unary.shape
    energy = torch.as_tensor(unary, device="cuda")
    colour = torch.as_tensor(image, device="cuda").permute(2, 0, 1).float()
    unfold = torch.nn.Unfold(7, padding=3)
    difference = unfold(colour[None]).view(3, 49, -1) - colour.reshape(3, 1, -1)
    weight = torch.exp(-0.5 * (difference / 13).square().sum(0))
    q = torch.softmax(-energy, 0)

    def update_many() -> None:
        nonlocal q
        for _ in range(updates + 1):
            tiled = unfold(q[None]).view(labels, 49, -1)
            message = (tiled * weight).sum(1).view(labels, height, width)
            q = torch.softmax(-energy + message, 0)
        torch.cuda.synchronize()

    return [
        Row("ConvCRF 7x7", "update", "torch", *median_of(update_many, rounds, updates + 1), None)
    ]


def table_of(rows: list[Row]) -> str:
    """Return the rows as a table, with the ratio to the CPU."""
    of_cpu = {(row.case, row.stage): row.milliseconds for row in rows if row.device == "cpu"}
    lines = [f"{'case':14} {'stage':24} {'device':14} {'ms':>9} {'IQR %':>6} {'x CPU':>7}  error"]
    for row in rows:
        ratio = of_cpu.get((row.case, row.stage), float("nan")) / row.milliseconds
        error = "" if row.error is None else f"{row.error:.1e}"
        lines.append(
            f"{row.case:14} {row.stage:24} {row.device:14} {row.milliseconds:9.3f} "
            f"{row.spread_percent:6.1f} {ratio:7.2f}  {error}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
