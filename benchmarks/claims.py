"""Published claims about CRF speed beside what is measured here.

    python -m benchmarks.claims [--quick] [--output-folder DIR]

Prints a table and writes it as ``claims.md``, ``claims.json`` and, where matplotlib is installed,
``claims.png``. A claim is what its source says, for the device that the source had. What cannot be
measured here (no GPU, a package that is not installed) is n/a with the reason, a claim that is not
met is shown like one that is, and a claim for a GPU that a CPU meets is marked as that.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import densefield as df
from benchmarks import inputs, machine, peers, results_file, tables
from benchmarks.cases.model import BILATERAL, SPATIAL, Model
from benchmarks.cases.window import model as conv_model
from benchmarks.cases.window import torch_message
from benchmarks.comparison import on_threads
from benchmarks.machine import reason_missing
from densefield.cli.timing import Timing, take_turns

ROUNDS, QUICK_ROUNDS = 7, 3
FILTER_SIZE = 7
INPUTS = (
    "the shipped photograph with 21 labels, 375 x 500 pixels, and 213 x 320 for the full CRF "
    "itself; kernels 3/3 and 80/13/10"
)


@dataclass(frozen=True)
class Measured:
    """One answer to a claim: on which device, what was compared, the figure or why none."""

    device: str
    what: str
    value: float | None
    unit: str
    holds: bool | None
    reason: str = ""
    iqr_percent: float | None = None


@dataclass(frozen=True)
class Claim:
    """What a source says, the bound that follows, and for which device it was said."""

    name: str
    text: str
    source: str
    device: str
    bound: float
    unit: str  # "ms": at most the bound; "x": at least the bound
    measured: list[Measured] = field(default_factory=list)

    def holds(self, value: float) -> bool:
        """Compare a figure with the bound, with no margin."""
        return value <= self.bound if self.unit == "ms" else value >= self.bound

    def verdict(self, found: Measured) -> str:
        """Say whether a figure meets the claim, and if it is one of another kind of device."""
        if found.holds is None:
            return "n/a"
        elsewhere = ", though not on a GPU" if "GPU" in self.device else ""
        return f"{'met' if found.holds else 'not met'}{elsewhere}"


CLAIMS = (
    Claim(
        "ConvCRF inference",
        "inference takes less than 10 ms",
        "Teichmann and Cipolla 2018 (arXiv 1805.04777)",
        "a GPU",
        10,
        "ms",
    ),
    Claim(
        "ConvCRF over the full CRF",
        "inference is faster by a factor of more than 100",
        "Teichmann and Cipolla 2018, abstract (version 2)",
        "ConvCRF on a GPU, the full CRF on a CPU",
        100,
        "x",
    ),
    Claim(
        "the full CRF itself",
        "inference takes 0.2 s on an image of the MSRC-21 set (320 x 213, 21 labels)",
        "Krähenbühl and Koltun 2011 (arXiv 1210.5644)",
        "one thread of a CPU of 2011",
        200,
        "ms",
    ),
    Claim(
        "native code over tiled tensor operations",
        "a native message pass would be ten times faster than one that tiles its windows",
        "Teichmann and Cipolla 2018 (arXiv 1805.04777)",
        "a GPU",
        10,
        "x",
    ),
)


class Bench:
    """The runs that the claims need, each timed once, in turns, on one thread and on all."""

    def __init__(self, threads: tuple[int, ...], rounds: int, quick: bool) -> None:
        self.threads, self.rounds = threads, rounds
        shape = (48, 64) if quick else (375, 500)
        self.scene = inputs.shipped().resized(*shape)
        self.msrc = inputs.shipped().resized(*((32, 48) if quick else (213, 320)))
        self.timings: dict[tuple[str, int], Timing] = {}

    def run(self) -> None:
        """Time everything; packages that are not installed are left out."""
        for task in (self._inference_runs(), self._message_runs()):
            keys = list(task)
            timed = take_turns(
                {str(i): task[key] for i, key in enumerate(keys)}, rounds=self.rounds
            )
            self.timings |= {key: timed[str(i)] for i, key in enumerate(keys)}

    def _inference_runs(self) -> dict[tuple[str, int], Callable[[], Any]]:
        unary, image = self.scene.unary, self.scene.image
        small, model = self.msrc.unary, Model(self.msrc)
        published = df.ConvCRF.from_reference_config({"filter_size": FILTER_SIZE})
        full = Model(self.scene).crf(5)
        runs: dict[tuple[str, int], Callable[[], Any]] = {}
        ours = {
            "conv": partial(conv_model(FILTER_SIZE).infer, unary, image),
            "conv published": partial(published.infer, unary, image),
            "full": partial(full.infer, unary, image),
            "full msrc": partial(model.crf(10).infer, small, self.msrc.image),
        }
        for threads in self.threads:
            runs |= {(name, threads): on_threads(threads, run) for name, run in ours.items()}
        if peers.pydensecrf_missing() is None:
            theirs = partial(peers.pydensecrf_image, spatial=SPATIAL, bilateral=BILATERAL)
            runs["pydensecrf", 1] = partial(theirs, unary, image, 5)
            runs["pydensecrf msrc", 1] = partial(theirs, small, self.msrc.image, 10)
        return runs

    def _message_runs(self) -> dict[tuple[str, int], Callable[[], Any]]:
        unary, image = self.scene.unary, self.scene.image
        prepared = conv_model(FILTER_SIZE, 1).prepare(image)
        runs: dict[tuple[str, int], Callable[[], Any]] = {}
        for threads in self.threads:
            runs["message", threads] = on_threads(threads, partial(prepared.infer, unary))
            if peers.torch_missing() is None:
                message = torch_message(self.scene, unary, FILTER_SIZE, threads)
                runs["torch message", threads] = message
        return runs


def answers(bench: Bench) -> list[Claim]:
    """Return the claims with what was measured for each."""
    gpu = machine.gpu_name()
    return [
        Claim(**{**_fields(claim), "measured": _measured(claim, bench, gpu)}) for claim in CLAIMS
    ]


def _fields(claim: Claim) -> dict[str, Any]:
    return {key: getattr(claim, key) for key in claim.__dataclass_fields__}


# For each claim: the time itself, or what is divided by what; then the words for it.
_TASKS: dict[str, list[tuple[str, str | None, str]]] = {
    "ConvCRF inference": [
        ("conv", None, "ConvCRF, window 7 x 7, 5 iterations, image to marginals"),
        (
            "conv published",
            None,
            "the same with the published defaults (messages downsampled by 4)",
        ),
    ],
    "ConvCRF over the full CRF": [
        ("pydensecrf", "conv", "pydensecrf over densefield's ConvCRF, 5 iterations each"),
        (
            "pydensecrf",
            "conv published",
            "pydensecrf over densefield's ConvCRF with the published defaults",
        ),
        ("full", "conv", "densefield's dense CRF over densefield's ConvCRF"),
    ],
    "the full CRF itself": [
        ("pydensecrf msrc", None, "pydensecrf, 10 iterations, image to marginals"),
        ("full msrc", None, "densefield, 10 iterations, image to marginals"),
    ],
    "native code over tiled tensor operations": [
        ("torch message", "message", "torch with tiled windows over densefield, one update"),
    ],
}
_PACKAGE_OF = {
    "pydensecrf": peers.pydensecrf_missing,
    "pydensecrf msrc": peers.pydensecrf_missing,
    "torch message": peers.torch_missing,
}


def _measured(claim: Claim, bench: Bench, gpu: str | None) -> list[Measured]:
    found = []
    for above, below, what in _TASKS[claim.name]:
        missing = _PACKAGE_OF.get(above, lambda: None)()
        if missing is not None:
            found.append(Measured("CPU", what, None, claim.unit, None, missing))
            continue
        for threads in bench.threads:
            if (above if below is None else below, threads) in bench.timings:
                found.append(_answer(claim, bench, above, below, threads, what))
    if "GPU" in claim.device:
        reason = "no GPU here" if gpu is None else "this page measures densefield on the CPU only"
        found.append(Measured(gpu or "GPU", "densefield", None, claim.unit, None, reason))
    return found


def _answer(
    claim: Claim, bench: Bench, above: str, below: str | None, threads: int, what: str
) -> Measured:
    device = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    # A package without threads is compared as it is, on one.
    timing = bench.timings.get((above, threads)) or bench.timings[above, 1]
    if below is None:
        value, spread = 1e3 * timing.median, timing.iqr_percent
    else:
        other = bench.timings[below, threads]
        value = timing.median / other.median
        spread = max(timing.iqr_percent, other.iqr_percent)
    return Measured(device, what, value, claim.unit, claim.holds(value), iqr_percent=spread)


def table(claims: list[Claim]) -> list[list[str]]:
    """Return the claims as cells."""
    rows = [["claim", "claimed", "for", "measured on", "what", "figure", "IQR %", ""]]
    for claim in claims:
        sign = "at most" if claim.unit == "ms" else "at least"
        claimed = f"{sign} {claim.bound:g} {claim.unit}"
        for m in claim.measured:
            value = f"n/a: {m.reason}" if m.value is None else f"{tables.figure(m.value)} {m.unit}"
            spread = tables.figure(m.iqr_percent, 2)
            rows.append(
                [
                    claim.name,
                    claimed,
                    claim.device,
                    m.device,
                    m.what,
                    value,
                    spread,
                    claim.verdict(m),
                ]
            )
    return rows


def markdown(
    claims: list[Claim], description: dict[str, Any], date: str, *, quick: bool = False
) -> str:
    """Write the page of claims."""
    inputs_of = "tiny inputs, good for a look and never for a figure" if quick else INPUTS
    lines = ["# Published claims, and what is measured here", "", f"Measured on {inputs_of}.", ""]
    lines += [f"- **{c.name}**: {c.text}. {c.source}; for {c.device}." for c in claims]
    content = {"machine": description, "date": date}
    lines += ["", tables.markdown_table(table(claims)), "", tables.machine_line(content) + ".", ""]
    return "\n".join(lines)


def write(folder: Path, claims: list[Claim], *, quick: bool) -> list[Path]:
    """Write Markdown, JSON and, where it can be drawn, the plot; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    description = machine.describe()
    date = results_file.today()
    content = {"date": date, "quick": quick, "machine": description}
    content["claims"] = [asdict(claim) for claim in claims]
    page = folder / "claims.md"
    page.write_text(markdown(claims, description, date, quick=quick), encoding="utf-8")
    results_file.write(folder / "claims.json", content)
    written = [page, folder / "claims.json"]
    if reason_missing("matplotlib", "matplotlib") is None:
        written.append(plot(claims, folder / "claims.png"))
    return written


def plot(claims: list[Claim], path: Path) -> Path:
    """Draw each figure as a share of what is claimed, on a logarithmic axis."""
    figure_module = importlib.import_module("matplotlib.figure")
    shown = [(c, m) for c in claims for m in c.measured if m.value is not None]
    figure = figure_module.Figure(figsize=(10, 1 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for position, (claim, found) in enumerate(reversed(shown)):
        assert found.value is not None
        # Above 1 is better than claimed, for times and ratios alike.
        share = claim.bound / found.value if claim.unit == "ms" else found.value / claim.bound
        color = "tab:green" if found.holds else "tab:orange"
        axes.barh(position, share - 1, left=1, color=color)
        elsewhere = " on a GPU" if "GPU" in claim.device else ""
        label = f" {tables.figure(found.value)} {claim.unit} (claimed{elsewhere}: {claim.bound:g})"
        axes.text(max(share, 1), position, label, va="center", fontsize=8)
    names = [f"{c.name}\n{m.what}, {m.device}" for c, m in reversed(shown)]
    axes.set_yticks(range(len(shown)), names, fontsize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.4)  # room for the labels
    axes.set_xlabel("times as good as claimed; the line is the claim")
    figure.savefig(path, dpi=120)
    return path


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="small inputs: to see that it runs")
    parser.add_argument("--output-folder", type=Path, default=results_file.FOLDER)
    found = parser.parse_args()
    threads = tuple(sorted({1, machine.available_cores()}))
    bench = Bench(threads, QUICK_ROUNDS if found.quick else ROUNDS, found.quick)
    bench.run()
    claims = answers(bench)
    print(tables.text_table(table(claims)))
    for path in write(found.output_folder, claims, quick=found.quick):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
