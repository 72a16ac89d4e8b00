"""``densefield bench``: how fast this installation is on this machine, in under a minute."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import densefield
from densefield import pictures
from densefield.cli.timing import Timing, take_turns
from densefield.scores import image_probabilities, load_scores
from densefield.whole_files import write_whole

__all__ = ["bench"]

_WINDOW = 7
_LARGEST_SIDE = 8192  # a task of it needs some gigabytes
_MOST_LABELS = 256
_MOST_ROUNDS = 1000
_ROUNDS = 7  # the fewest for a median with a range beside it


class _Task(NamedTuple):
    name: str
    threads: int
    run: Callable[[], object]


class _Input(NamedTuple):
    image: npt.NDArray[Any]  # (H, W, 3)
    unary: npt.NDArray[np.float32]  # (C, H, W)


def _parse_size(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Read height and width as in ``375x500``."""
    match = re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})", value)
    if match is None:
        raise click.BadParameter(f"must be height x width, as in 375x500, got {value!r}")
    height, width = int(match[1]), int(match[2])
    if not (1 <= height <= _LARGEST_SIDE and 1 <= width <= _LARGEST_SIDE):
        raise click.BadParameter(f"sides must be 1 to {_LARGEST_SIDE}, got {height}x{width}")
    return height, width


@click.command()
@click.option(
    "--size",
    callback=_parse_size,
    metavar="HxW",
    default="375x500",
    show_default=True,
    help="Height and width; the shipped photograph is cut or mirrored to it.",
)
@click.option(
    "--labels",
    type=click.IntRange(2, _MOST_LABELS),
    default=21,
    show_default=True,
    help="Number of labels.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Mean-field iterations.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    multiple=True,
    help="Number of threads; may be given more than once.  [default: 1 and all]",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, _MOST_ROUNDS),
    default=_ROUNDS,
    show_default=True,
    help="How often everything is timed; the median counts.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures to this file, too; one that is there is replaced.",
)
def bench(
    size: tuple[int, int],
    labels: int,
    iterations: int,
    threads: tuple[int, ...],
    rounds: int,
    json_path: Path | None,
) -> None:
    """Time densefield on this machine, on the photograph that ships with it.

    What is compared takes turns, figures are medians. IQR is the range of the middle half in
    percent of the median: above 10 the machine was busy with something else.
    """
    if json_path is not None and not json_path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {json_path.parent}", param_hint="'--json'")
    found = densefield.system_info()
    counts = sorted(set(threads) or {1, found["num_threads"]})
    tasks = list(_tasks(_make_input(size, labels), iterations, counts))
    runs = {str(i): task.run for i, task in enumerate(tasks)}
    # On a terminal alone: elsewhere the bar would fill a log.
    with tqdm(total=rounds * len(runs), unit="sample", leave=False, disable=None) as bar:
        timings = take_turns(runs, rounds=rounds, on_sample=bar.update)
    rows = [_row(task, timings[str(i)], size) for i, task in enumerate(tasks)]
    click.echo(
        f"densefield {found['version']}, {found['simd']}; {size[0]} x {size[1]} pixels, "
        f"{labels} labels, {iterations} iterations, {rounds} rounds"
    )
    _print(rows)
    if json_path is not None:
        content = {
            "densefield": found["version"],
            "simd": found["simd"],
            "size": list(size),
            "labels": labels,
            "iterations": iterations,
            "rounds": rounds,
            "rows": rows,
        }
        text = json.dumps(content, indent=1) + "\n"
        write_whole({json_path: lambda file: file.write(text.encode())})
        click.echo(f"written {json_path}")


def _make_input(size: tuple[int, int], num_labels: int) -> _Input:
    """Cut or mirror the photograph to a size; labels beyond its 21 are copies with noise."""
    folder = resources.files("densefield") / "data"
    with resources.as_file(folder / "astronaut.jpg") as path:
        image = pictures.read_photograph(path)
    with resources.as_file(folder / "astronaut_scores.npz") as path:
        scores = load_scores(path)
    probabilities = image_probabilities(scores, image.shape[:2])
    rows, columns = (_mirrored(n, wanted) for n, wanted in zip(image.shape, size, strict=False))
    frequent = np.argsort(-probabilities.mean(axis=(1, 2)), kind="stable")
    kept = probabilities[np.resize(frequent, num_labels)][:, rows[:, None], columns]
    noise = np.random.default_rng(0).uniform(0.5, 1, kept.shape).astype(np.float32)
    mixed = np.maximum(kept, 1e-5) * noise
    mixed /= mixed.sum(axis=0)
    return _Input(
        np.ascontiguousarray(image[rows[:, None], columns]),
        np.ascontiguousarray(densefield.unary_from_probabilities(mixed)),
    )


def _mirrored(length: int, wanted: int) -> npt.NDArray[np.intp]:
    """Return indices of the middle of an axis, or of the axis there and back as often as needed."""
    if wanted <= length:
        return np.arange(wanted, dtype=np.intp) + (length - wanted) // 2
    there_and_back = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    return np.resize(there_and_back, wanted).astype(np.intp)


def _tasks(given: _Input, iterations: int, counts: list[int]) -> Iterator[_Task]:
    default = densefield.default_crf()
    crf = densefield.DenseCRF(
        default.kernels,
        compatibility=default.compatibility,
        normalization=default.normalization,
        iterations=iterations,
    )
    conv = densefield.ConvCRF(
        default.kernels, _WINDOW, normalization=default.normalization, iterations=iterations
    )
    prepared = crf.prepare(given.image)
    runs: dict[str, Callable[[], object]] = {
        "dense CRF": partial(crf.infer, given.unary, given.image),
        "  its lattices": partial(crf.prepare, given.image),
        "  its iterations, lattices kept": partial(prepared.infer, given.unary),
        f"ConvCRF, window {_WINDOW} x {_WINDOW}": partial(conv.infer, given.unary, given.image),
    }
    for name, run in runs.items():
        for threads in counts:
            yield _Task(name, threads, partial(_on_threads, threads, run))


def _on_threads(threads: int, run: Callable[[], object]) -> None:
    with densefield.num_threads(threads):
        run()


def _row(task: _Task, timing: Timing, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "task": task.name.strip(),
        "part": task.name.startswith(" "),
        "threads": task.threads,
        "median_ms": 1e3 * timing.median,
        "iqr_percent": timing.iqr_percent,
        "mpixel_per_second": size[0] * size[1] / timing.median / 1e6,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    click.echo(f"\n{'task':<34}{'threads':>8}{'ms':>10}{'IQR %':>8}{'Mpixel/s':>10}")
    for row in rows:
        name = f"  {row['task']}" if row["part"] else row["task"]
        click.echo(
            f"{name:<34}{row['threads']:>8}{row['median_ms']:>10.2f}"
            f"{row['iqr_percent']:>8.1f}{row['mpixel_per_second']:>10.2f}"
        )
