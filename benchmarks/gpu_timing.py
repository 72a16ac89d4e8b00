"""Times on a device: events around calls, inputs that no cache holds, graphs, the speed of a copy.

A stage has several calls that do the same to inputs of their own. They are taken in turn, and
together their inputs exceed twice the largest cache, so that each finds its own in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import densefield as df
from benchmarks.costs import Cost
from densefield import _densefield
from densefield._devices import numbered
from densefield._recording import Recording
from densefield.cli.timing import Timing
from densefield.device_arrays import new_like

# The largest second-level cache of GPUs so far has 126 MB.
LARGEST_CACHE = 128_000_000
ROTATED = 2 * LARGEST_CACHE  # bytes of all inputs of a stage together, at least
COPIED = 512_000_000  # bytes of one array whose copy is timed

Call = Callable[[], object]


class Stage(NamedTuple):
    """What is timed: one call for each set of inputs."""

    case: str
    name: str
    calls: Sequence[Call]
    cost: Cost | None = None  # of one call
    repeats: int = 1  # how often a call does it
    error: float | None = None
    is_recorded: bool = False  # time the replay of the calls as graphs


class Row(NamedTuple):
    """One line of the table."""

    case: str
    stage: str
    device: str
    milliseconds: float
    spread_percent: float
    megabytes: float | None  # moved at least
    gb_per_s: float | None
    percent_of_copy: float | None
    error: float | None


class DeviceClock:
    """Takes times by events on the library's own stream of a device."""

    def __init__(self, device: str, rounds: int) -> None:
        self.device = numbered(device)
        self.stream = _densefield.own_stream(self.device)
        self._rounds = rounds

    def timing(self, calls: Sequence[Call]) -> Timing:
        """Time the calls on the device; a round is one of each, a sample their mean."""
        record = partial(_densefield.record_event, self.device, self.stream)
        return timing_by_events(
            calls, self._rounds, record, lambda first, last: last.milliseconds_since(first)
        )

    def row(self, stage: Stage, copy_speed: float) -> Row:
        """Time a stage."""
        calls = stage.calls
        if stage.is_recorded:
            calls = [recorded(self.device, call).launch for call in calls]
        return row_of(stage, self.device, self.timing(calls), copy_speed)

    def copy_speed(self, num_bytes: int) -> float:
        """Return the bytes per second of a copy on the device, those read and those written."""
        array = df.to_device(np.zeros(num_bytes // 4, np.float32), self.device)
        other = new_like(array, array.shape, array.dtype)
        return 2 * array.nbytes / self.timing([lambda: other._copy_from(array, 1.0)]).median


def timing_by_events(
    calls: Sequence[Call],
    rounds: int,
    record: Callable[[], Any],
    milliseconds: Callable[[Any, Any], float],
) -> Timing:
    """Time the calls between two recorded events; a round is one of each, a sample their mean."""
    for call in calls:
        call()
    seconds = []
    for _ in range(rounds):
        first = record()
        for call in calls:
            call()
        seconds.append(milliseconds(first, record()) / 1e3 / len(calls))
    return Timing(tuple(seconds), len(calls))


def recorded(device: str, call: Call) -> Recording:
    """Return the work of a call as a graph; one call before it allocates what stays."""
    call()
    with Recording(device) as graph:
        call()
    return graph


def row_of(stage: Stage, device: str, timing: Timing, copy_speed: float | None = None) -> Row:
    """Return a line, with what the cost of a stage says of its time."""
    name = f"{stage.name}, replayed" if stage.is_recorded else stage.name
    seconds = timing.median / stage.repeats
    moved = None if stage.cost is None else stage.cost.bytes
    return Row(
        stage.case,
        name,
        device,
        seconds * 1e3,
        timing.iqr_percent,
        None if moved is None else moved / 1e6,
        None if moved is None else moved / seconds / 1e9,
        None if moved is None or copy_speed is None else 100 * moved / seconds / copy_speed,
        stage.error,
    )


def number_of_sets(bytes_of_one: int, *, quick: bool) -> int:
    """Return how many sets of inputs no cache holds; quick runs say nothing of speed anyway."""
    return 2 if quick else max(2, -(-ROTATED // bytes_of_one))


def table_of(rows: Sequence[Row]) -> str:
    """Return the rows as a table, with the ratio to the CPU where that was timed too."""
    of_cpu = {(row.case, row.stage): row.milliseconds for row in rows if row.device == "cpu"}
    heads = ("ms", "IQR %", "MB", "GB/s", "% of copy", "x CPU", "error")
    lines = [f"{'case':16} {'stage':34} {'device':16} " + " ".join(f"{h:>9}" for h in heads)]
    for row in rows:
        cpu = of_cpu.get((row.case, row.stage))
        values: list[Any] = [
            f"{row.milliseconds:.4f}",
            f"{row.spread_percent:.1f}",
            None if row.megabytes is None else f"{row.megabytes:.2f}",
            None if row.gb_per_s is None else f"{row.gb_per_s:.1f}",
            None if row.percent_of_copy is None else f"{row.percent_of_copy:.1f}",
            None if cpu is None else f"{cpu / row.milliseconds:.2f}",
            None if row.error is None else f"{row.error:.1e}",
        ]
        text = " ".join(f"{'' if v is None else v:>9}" for v in values)
        lines.append(f"{row.case:16} {row.stage:34} {row.device:16} {text}")
    return "\n".join(line.rstrip() for line in lines)
