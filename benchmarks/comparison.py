"""A case: who is compared, on what, at what cost and error; and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import densefield as df
from benchmarks.costs import Cost
from benchmarks.peaks import Peak
from densefield.cli.timing import take_turns

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """What a run of the suite measures, and how often."""

    threads: tuple[int, ...] = (1, 2)
    rounds: int = 7
    quick: bool = False
    photographs: Path | None = None


@dataclass(frozen=True)
class Contender:
    """One way to do a task.

    ``error`` runs once, untimed, and returns what the comparison's ``error_of`` says; ``labels``
    makes labels of what the first, untimed run returned, to compare with the baseline's.
    """

    name: str
    threads: int
    run: Callable[[], Any]
    error: Callable[[], float] | None = None
    labels: Callable[[Any], Array] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Name and threads, which tell contenders of one comparison apart."""
        return self.name, self.threads


@dataclass(frozen=True)
class Comparison:
    """What takes turns: one task, its size, its least cost, and who does it."""

    case: str  # group and task, "dense_crf/5 iterations"
    input: str
    size: dict[str, int]
    contenders: list[Contender]
    cost: Cost | None = None
    error_of: str = ""  # what is compared with what; empty where nothing can be
    baseline: str = ""  # the contender that ratios and equal labels refer to
    # The contender whose time is taken off everyone else's, round by round, and who gets no line.
    less: str = ""
    note: str = ""


@dataclass(frozen=True)
class Skipped:
    """A case or a peer that was not measured, and why."""

    case: str
    contender: str
    reason: str


@dataclass(frozen=True)
class MemoryUse:
    """What a process needed at its peak, above the inputs that it held."""

    case: str
    contender: str
    size: dict[str, int]
    input_mb: float
    peak_above_input_mb: float


@dataclass
class Row:
    """One line of the results.

    Shares are of this machine's measured peaks. The ratio says how many times faster than the
    baseline on as many threads, or on one where it has no more; below 1 it is a loss.
    """

    case: str
    input: str
    size: dict[str, int]
    contender: str
    threads: int
    median_ms: float
    iqr_percent: float
    rounds: int
    calls_per_sample: int
    bytes: float | None = None
    operations: float | None = None
    floor_ms: float | None = None
    copy_share: float | None = None
    peak_share: float | None = None
    error: float | None = None
    error_of: str = ""
    baseline: str = ""
    ratio: float | None = None
    labels_equal: float | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the line without what it does not know."""
        return {key: v for key, v in asdict(self).items() if v not in (None, "", {})}


def on_threads(threads: int, run: Callable[[], Any]) -> Callable[[], Any]:
    """Return the run with densefield limited to a number of threads."""

    def limited() -> Any:
        with df.num_threads(threads):
            return run()

    return limited


def ours(
    name: str,
    settings: Settings,
    run: Callable[[], Any],
    *,
    error: Callable[[], float] | None = None,
    labels: Callable[[Any], Array] | None = None,
) -> Iterator[Contender]:
    """Yield densefield once for each number of threads; the answer is the same on all."""
    for threads in settings.threads:
        yield Contender(name, threads, on_threads(threads, run), error, labels)


def measure(
    comparison: Comparison,
    settings: Settings,
    peaks: dict[int, Peak],
) -> tuple[list[Row], list[Skipped]]:
    """Measure one comparison: errors first, then the times in turns.

    Left out is what took no longer than what is taken off it.
    """
    contenders = comparison.contenders
    errors: dict[str, float] = {}
    for contender in contenders:  # threads do not change the answer
        if contender.error is not None and contender.name not in errors:
            errors[contender.name] = contender.error()
    answers: dict[str, Array] = {}
    runs = {str(i): _keeping_labels(contender, answers) for i, contender in enumerate(contenders)}
    timings = take_turns(runs, rounds=settings.rounds)
    of_key = {c.key: timings[str(index)] for index, c in enumerate(contenders)}
    medians = {key: timing.median for key, timing in of_key.items()}
    rows: list[Row] = []
    left_out: list[Skipped] = []
    for contender in contenders:
        if contender.name == comparison.less:
            continue
        timing = of_key[contender.key]
        if comparison.less:
            timing = timing.less(of_key[comparison.less, contender.threads])
            if timing.median <= 0:
                reason = f"no slower than {comparison.less}: the machine was not quiet"
                left_out.append(Skipped(comparison.case, contender.name, reason))
                continue
        row = Row(
            case=comparison.case,
            input=comparison.input,
            size=comparison.size,
            contender=contender.name,
            threads=contender.threads,
            median_ms=1e3 * timing.median,
            iqr_percent=timing.iqr_percent,
            rounds=settings.rounds,
            calls_per_sample=timing.calls_per_sample,
            error=errors.get(contender.name),
            error_of=comparison.error_of if contender.name in errors else "",
            note=comparison.note,
        )
        _add_cost(row, comparison.cost, peaks)
        _add_ratio(row, comparison.baseline, medians, answers)
        rows.append(row)
    return rows, left_out


def _add_ratio(
    row: Row, baseline: str, medians: dict[tuple[str, int], float], answers: dict[str, Any]
) -> None:
    """Compare with the baseline on as many threads, else on the most that it has below that."""
    counts = [threads for name, threads in medians if name == baseline and threads <= row.threads]
    if not counts or row.contender == baseline:
        return
    threads = max(counts)
    row.baseline = f"{baseline}, {threads} thread{'s' if threads > 1 else ''}"
    row.ratio = 1e3 * medians[baseline, threads] / row.median_ms
    if baseline in answers and row.contender in answers:
        row.labels_equal = float(np.mean(answers[baseline] == answers[row.contender]))


def _keeping_labels(contender: Contender, answers: dict[str, Array]) -> Callable[[], Any]:
    """Return the run; its first call, which is not timed, leaves the labels in `answers`."""
    labels = contender.labels
    if labels is None:
        return contender.run

    def run() -> None:
        result = contender.run()
        if contender.name not in answers:
            answers[contender.name] = labels(result)

    return run


def _add_cost(row: Row, cost: Cost | None, peaks: dict[int, Peak]) -> None:
    if cost is None:
        return
    peak = peaks[max(count for count in peaks if count <= row.threads)]
    copy, flops = 1e9 * peak.copy_gb_per_second, 1e9 * peak.gflop_per_second
    seconds = 1e-3 * row.median_ms
    row.bytes, row.operations = cost.bytes, cost.operations
    row.floor_ms = 1e3 * cost.floor_seconds(copy, flops)
    row.copy_share = cost.bytes / seconds / copy
    row.peak_share = cost.operations / seconds / flops


Case = Callable[[Settings], Iterator[Comparison | Skipped | MemoryUse]]
