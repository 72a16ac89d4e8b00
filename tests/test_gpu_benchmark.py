"""The benchmark of a device: that it runs, and what it makes of its times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="the extra 'cli' is not installed")

from benchmarks import gpu, gpu_baselines, gpu_timing, inputs, results_file
from benchmarks.cases.model import Model
from benchmarks.costs import Cost
from densefield import _densefield
from densefield.cli.timing import Timing


def test_every_stage_is_timed_on_the_device(device: str, tmp_path: Path) -> None:
    found = gpu.measure_all(device, quick=True)
    results_file.write(tmp_path / "times.json", found)
    stored = results_file.read(tmp_path / "times.json")
    rows = {(row["case"], row["stage"]): row for row in stored["rows"] if row["device"] != "cpu"}
    for stage in ("build", "splat", "blur", "slice", "filter"):
        assert rows["lattice, d = 5", stage]["megabytes"] > 0
    for case, name in (("dense CRF", "10 updates"), ("ConvCRF 7x7", "5 updates")):
        for stage in ("prepare", "update", "update, replayed", name, f"{name}, replayed"):
            assert rows[case, stage]["percent_of_copy"] > 0
        assert rows[case, f"prepare and {name}"]["error"] < 1e-4
        assert rows[case, "all gradients"]["milliseconds"] > 0
    report = gpu.report_of(found)
    assert all(f"{case:16} {stage:34}" in report for case, stage in rows)
    assert json.dumps(found)
    if device == "cuda-emulated":
        assert "torch left out: torch knows no emulated device" in report


def test_a_row_says_what_a_time_means() -> None:
    stage = gpu_timing.Stage("case", "step", (), Cost(4e6, 0), repeats=2, is_recorded=True)
    row = gpu_timing.row_of(stage, "cuda:0", Timing((2e-3, 2e-3, 2e-3), 5), copy_speed=8e9)
    assert row == ("case", "step, replayed", "cuda:0", 1.0, 0.0, 4.0, 4.0, 50.0, None)


def test_a_row_without_a_cost_has_a_time_alone() -> None:
    row = gpu_timing.row_of(gpu_timing.Stage("case", "step", ()), "cpu", Timing((1e-3,), 1))
    assert row == ("case", "step", "cpu", 1.0, 0.0, None, None, None, None)
    assert (
        gpu_timing.table_of([row]).splitlines()[1].split()
        == "case step cpu 1.0000 0.0 1.00".split()
    )


def test_sets_of_inputs_exceed_twice_the_largest_cache() -> None:
    for bytes_of_one in (1_000, 15_750_000, 300_000_000):
        count = gpu_timing.number_of_sets(bytes_of_one, quick=False)
        assert count * bytes_of_one >= 2 * gpu_timing.LARGEST_CACHE
        assert count == 2 or (count - 1) * bytes_of_one < 2 * gpu_timing.LARGEST_CACHE


def test_a_copy_is_timed_by_the_bytes_it_moves(device: str) -> None:
    clock = gpu_timing.DeviceClock(device, rounds=2)
    assert clock.copy_speed(400_000) > 0
    assert clock.stream == _densefield.own_stream(device)


def test_why_torch_is_left_out() -> None:
    reason = gpu_baselines.reason_missing("cuda-emulated:0")
    assert reason == "torch knows no emulated device"


def test_the_baseline_with_a_lattice_on_the_cpu_computes_the_same_model() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    scene = inputs.shipped().resized(24, 32)
    expected = Model(scene).crf(1, "lattice", "after").infer(scene.unary, scene.image)
    marginals: Any = gpu_baselines.update_through_the_host(scene, "cpu")()
    # Both in float32, normalised before or after the weights are multiplied.
    np.testing.assert_allclose(marginals.numpy().reshape(expected.shape), expected, atol=1e-4)


def test_what_takes_too_long_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.run_tests("cpu", ["tests/test_gpu_benchmark.py"], [], seconds=0.01)
    assert "not finished after 0.01 s: tests/test_gpu_benchmark.py" in capsys.readouterr().out


def test_compute_sanitizer_is_for_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert not gpu.run_sanitizers("cuda-emulated")
    assert "compute-sanitizer looks at GPUs: left out" in capsys.readouterr().out
