"""``densefield bench``: what it prints and writes, on a tiny size. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

click_testing = pytest.importorskip("click.testing", reason="the extra 'cli' is not installed")
pytest.importorskip("PIL.Image", reason="the extra 'cli' is not installed")
pytest.importorskip("tqdm", reason="the extra 'cli' is not installed")

import densefield as df  # noqa: E402
from densefield.cli import bench  # noqa: E402
from densefield.cli.commands import app  # noqa: E402

TINY = ("bench", "--size", "12x16", "--labels", "3", "--rounds", "1", "--iterations", "1")


def run(*arguments: str | Path) -> Any:
    return click_testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_task_is_printed_for_every_number_of_threads() -> None:
    result = run(*TINY, "--threads", "1", "--threads", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "12 x 16 pixels, 3 labels, 1 iterations" in lines[0]
    for task in ("dense CRF", "  its lattices", "  its iterations, lattices kept", "ConvCRF"):
        assert sum(line.startswith(task) for line in lines) == 2, task


def test_one_thread_and_all_are_the_default() -> None:
    result = run(*TINY)
    counts = {line.split()[-4] for line in result.stdout.splitlines() if "ConvCRF" in line}
    assert counts == {"1", str(df.get_num_threads())}


def test_the_number_of_threads_is_as_before_afterwards() -> None:
    before = df.get_num_threads()
    run(*TINY, "--threads", str(before + 1))
    assert df.get_num_threads() == before


def test_the_file_holds_what_was_printed(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    result = run(*TINY, "--threads", "1", "--json", path)
    assert result.exit_code == 0, result.output
    content = json.loads(path.read_text())
    assert (content["size"], content["labels"], content["rounds"]) == ([12, 16], 3, 1)
    assert len(content["rows"]) == 4
    for row in content["rows"]:
        assert f"{row['median_ms']:.2f}" in result.stdout
        rate = 12 * 16 / row["median_ms"] / 1e3
        assert row["mpixel_per_second"] == pytest.approx(rate)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "375", "must be height x width, as in 375x500"),
        ("--size", "0x4", "sides must be 1 to 8192, got 0x4"),
        ("--size", "4x9000", "sides must be 1 to 8192, got 4x9000"),
        ("--labels", "1", "2<=x<=256"),
        ("--threads", "0", "x>=1"),
        ("--rounds", "0", "1<=x<=1000"),
        ("--json", "absent/bench.json", "there is no folder absent"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(option: str, value: str, message: str) -> None:
    result = run(*TINY, option, value)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


class TestInput:
    def test_a_cut_is_the_middle_of_the_axis(self) -> None:
        assert bench._mirrored(10, 4).tolist() == [3, 4, 5, 6]

    def test_a_longer_axis_goes_there_and_back(self) -> None:
        assert bench._mirrored(3, 8).tolist() == [0, 1, 2, 2, 1, 0, 0, 1]

    def test_labels_beyond_those_of_the_photograph_differ(self) -> None:
        unary = bench._make_input((6, 8), 30).unary
        assert unary.shape == (30, 6, 8)
        assert not np.array_equal(unary[0], unary[21])
