"""What a GPU does: tests, compute-sanitizer, and times of every stage beside the CPU and torch.

    python -m benchmarks.gpu                          # tests, sanitizers and times, ten minutes
    python -m benchmarks.gpu --only times --json OUT  # the times alone, also into a file
    python -m benchmarks.gpu --device cuda-emulated --quick   # to see that it runs

Times are the device's own, taken by events around calls that find their inputs in memory and not
in a cache; "replayed" are CUDA graphs of the same calls, without what the host has to do. Bytes
are what a stage has to move at least (costs.py). Errors are against the CPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import gpu_baselines, gpu_stages, inputs, machine, results_file
from benchmarks.gpu_timing import COPIED, DeviceClock, Row, Stage, table_of
from densefield import _densefield

# What compute-sanitizer looks at: every kernel, on inputs of a few hundred points.
SANITIZED = ["tests/test_cuda.py", "-k", "volumes or kernels or windows or gradients or sizes"]
QUICKLY_TESTED = ["tests/test_device_graphs.py", "tests/test_device_arrays.py"]
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Of the ten minutes: for all tests, and for one tool.
TEST_SECONDS = 280
TOOL_SECONDS = 45


def main() -> int:
    """Run what is asked for; return 1 if a test or a sanitizer found a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cuda-emulated to try it")
    parser.add_argument("--only", choices=("tests", "sanitizers", "times"))
    parser.add_argument("--quick", action="store_true", help="small inputs, few rounds and tests")
    parser.add_argument("--json", type=Path, help="where the times go")
    arguments = parser.parse_args()
    problem = _densefield.device_problem(arguments.device)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    failed = False
    if arguments.only in (None, "tests"):
        tests = QUICKLY_TESTED if arguments.quick else ["tests", *in_parallel()]
        failed |= run_tests(arguments.device, tests, [], TEST_SECONDS)
    if arguments.only in (None, "sanitizers"):
        failed |= run_sanitizers(arguments.device)
    if arguments.only in (None, "times"):
        found = measure_all(arguments.device, quick=arguments.quick)
        print(report_of(found))
        if arguments.json is not None:
            results_file.write(arguments.json, found)
    return int(failed)


def in_parallel() -> list[str]:
    """Return what makes pytest use all cores, where its plugin for that is installed."""
    return ["-n", "auto"] if importlib.util.find_spec("xdist") else []


def run_tests(device: str, tests: list[str], prefix: list[str], seconds: float) -> bool:
    """Run tests on the device, under a tool if one is given; true if there is a fault."""
    command = [*prefix, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "DENSEFIELD_TEST_DEVICE": device}
    try:
        done = subprocess.run(command, env=environment, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"not finished after {seconds:g} s: {' '.join(tests)}")
        return True
    return done.returncode != 0


def run_sanitizers(device: str) -> bool:
    """Run the four tools of compute-sanitizer; true if one found a fault."""
    if device.startswith("cuda-emulated"):
        print("compute-sanitizer looks at GPUs: left out")
        return False
    if shutil.which("compute-sanitizer") is None:
        print("compute-sanitizer is not installed: left out")
        return False
    failed = False
    for tool in TOOLS:
        prefix = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
        found = run_tests(device, SANITIZED, prefix, TOOL_SECONDS)
        print(f"compute-sanitizer {tool}: {'FAULTS' if found else 'clean'}")
        failed |= found
    return failed


def measure_all(device: str, *, quick: bool) -> dict[str, Any]:
    """Time all stages; return what the file holds."""
    scene = inputs.shipped().resized(*((24, 32) if quick else (375, 500)))
    rounds, updates = (3, 2) if quick else (15, 10)
    clock = DeviceClock(device, rounds)
    sets = gpu_stages.sets_of_inputs(scene, clock.device, quick=quick)
    copy_speed = clock.copy_speed(COPIED // 1000 if quick else COPIED)
    rows = [clock.row(stage, copy_speed) for stage in _operators(sets)]
    for case, crf, cost in gpu_stages.models(scene):
        error = gpu_stages.largest_difference(crf, scene, sets[0])
        for stage in gpu_stages.crf_stages(case, crf, cost, sets, error, updates):
            rows.append(clock.row(stage, copy_speed))
        rows += gpu_stages.cpu_rows(case, crf, scene, rounds)
    reason = gpu_baselines.reason_missing(device)
    if reason is None:
        rows += gpu_baselines.torch_rows(scene, clock.device, rounds)
    return {
        "version": results_file.VERSION,
        "date": results_file.today(),
        "quick": quick,
        "machine": machine.describe(),
        "device": device,
        "grid": list(scene.grid),
        "labels": len(scene.unary),
        "sets_of_inputs": len(sets),
        "copy_gb_per_s": copy_speed / 1e9,
        "rows": [row._asdict() for row in rows],
        "skipped": [] if reason is None else [{"contender": "torch", "reason": reason}],
    }


def _operators(sets: list[gpu_stages.Inputs]) -> Iterator[Stage]:
    yield from gpu_stages.lattice_stages(sets)
    yield from gpu_stages.window_stages(sets)


def report_of(found: dict[str, Any]) -> str:
    """Return the table, and what it was measured with."""
    grid = " x ".join(map(str, found["grid"]))
    lines = [
        f"{found['machine']['gpu']}, device {found['device']}: {grid} nodes, {found['labels']} "
        f"labels, {found['sets_of_inputs']} sets of inputs in turn; a copy moves "
        f"{found['copy_gb_per_s']:.1f} GB/s",
        table_of([Row(**row) for row in found["rows"]]),
        *(f"{skip['contender']} left out: {skip['reason']}" for skip in found["skipped"]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
