"""Cross-validation of fitted parameters: learned on some photographs, measured on the others.

    python -m benchmarks.fit_parameters --data DIR [--json FILE]

The folder is that of ``benchmarks/accuracy.py``, whose measures are used. The photographs are
drawn into folds; each fold is measured with a model that was fitted to the others, and every
photograph is measured once. Beside it stand the network alone
and the defaults, which were chosen on these same photographs: they have seen what they are
measured on, the fitted models have not.

To keep the time within minutes, a model is fitted to one window of each photograph, the one with
most pixels near a boundary, and labels that the network gives no chance there are left out.
Pixels farther than ``BAND_RADIUS`` from a boundary count as void in fitting, because a CRF has
nothing to correct there (``--all-pixels`` keeps them). Measured are whole photographs with all
labels, also for the model that the search starts from.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

import densefield as df
from benchmarks.accuracy import (
    CORE_CLASSES,
    VOID,
    Floats,
    Labels,
    Mask,
    Method,
    Photograph,
    Pixels,
    Result,
    Score,
    boundary_band,
    default_refine,
    most_probable,
    network_alone,
    read_photographs,
    table,
)
from densefield.fitting.losses import LOSS_NAMES
from densefield.fitting.parameters import PARAMETER_NAMES, kernel_text

FOLDS = 3
WINDOW = 320  # pixels a side of what is fitted to
NO_CHANCE = 0.01  # a label whose probability is nowhere above it is left out of a window
SHARPNESS = 20.0  # the loss counts labels, nearly: log q of two labels differ by a few units
PENALTY = 0.005  # a weight changed by a factor of e has to gain half a point of accuracy
MAX_STEPS = 8
SEED = 0


class Part(NamedTuple):
    """What a model is fitted to of one photograph."""

    image: Pixels
    unary: Floats
    labels: Labels


def best_corner(band: Mask, size: int) -> tuple[int, int]:
    """Return the upper left corner of the window with most pixels of the band."""
    sums = np.pad(band.astype(np.int64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    height, width = min(size, band.shape[0]), min(size, band.shape[1])
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
    inside += sums[:-height, :-width]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return int(row), int(column)


def cut(photograph: Photograph, size: int, *, all_pixels: bool) -> Part:
    """Cut the window out of a photograph, and leave out what need not be learned from."""
    band = boundary_band(photograph.labels) & (photograph.labels != VOID)
    row, column = best_corner(band, size)
    window = np.s_[row : row + size, column : column + size]
    labels = photograph.labels[window].astype(np.int64)
    if not all_pixels:
        labels = np.where(band[window], labels, VOID)
    probabilities = photograph.probabilities[:, *window]
    occurs = np.isin(np.arange(len(probabilities)), labels)
    kept = np.flatnonzero(occurs | (probabilities.max(axis=(1, 2)) > NO_CHANCE))
    number = np.full(VOID + 1, VOID)
    number[kept] = np.arange(kept.size)
    unary = df.unary_from_probabilities(np.ascontiguousarray(probabilities[kept]))
    return Part(photograph.image[window], unary, number[labels])


def method_of(crf: df.DenseCRF) -> Method:
    """Most probable labels of a model."""

    def method(image: Pixels, probabilities: Floats) -> Labels:
        return most_probable(crf.infer(df.unary_from_probabilities(probabilities), image))

    return method


def start_model() -> df.DenseCRF:
    """Return the model that searches start from: the defaults and a nearer bilateral kernel."""
    near = df.Bilateral(sigma_space=20, sigma_color=10, weight=1)
    return df.DenseCRF([*df.default_crf().kernels, near])


def fold_of(count: int, folds: int) -> list[int]:
    """Return for each photograph in which fold it is measured."""
    order = np.random.default_rng(SEED).permutation(count)
    fold = np.empty(count, int)
    fold[order] = np.arange(count) % folds
    return fold.tolist()


def fit_and_tell(
    name: str, crf: df.DenseCRF, parts: Sequence[Part], options: argparse.Namespace
) -> df.FitResult:
    """Fit one model, and print what came out."""
    begin = time.perf_counter()
    images, unaries, labels = zip(*parts, strict=True)
    result = df.fit(
        crf,
        images,
        unaries,
        labels,
        loss=options.loss,
        sharpness=options.sharpness,
        mean_over="nodes",  # as the measures do
        penalty=options.penalty,
        parameters=options.parameters,
        max_steps=options.max_steps,
        progress=True,
    )
    first, best = result.history[0], result.best
    lines = [
        f"{name}: {len(parts)} windows, {len(result.history) - 1} steps, best {best.step} "
        f"({result.reason}), {result.num_evaluations} evaluations, "
        f"{time.perf_counter() - begin:.0f} s; loss {first.train_loss:.4f} -> "
        f"{best.train_loss:.4f}",
        *(f"  {kernel_text(kernel)}" for kernel in result.crf.kernels),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    return result


def measure(options: argparse.Namespace) -> tuple[list[Result], list[df.FitResult]]:
    """Fit to all folds but one, measure on that one, in turn."""
    photographs = list(read_photographs(options.data))
    fold = fold_of(len(photographs), options.folds)
    parts = [cut(p, options.window, all_pixels=options.all_pixels) for p in photographs]
    scores: dict[str, Score] = {}
    fitted: list[df.FitResult] = []
    for held_out in range(options.folds):
        if options.first_fold_only and held_out:
            break
        train = [part for part, own in zip(parts, fold, strict=True) if own != held_out]
        fitted.append(fit_and_tell(f"fold {held_out + 1}", start_model(), train, options))
        methods: dict[str, Method] = {
            "no CRF": network_alone,
            "defaults": default_refine,
            "start": method_of(start_model()),
            "fitted": method_of(fitted[-1].crf),
        }
        for photograph, own in zip(photographs, fold, strict=True):
            if own != held_out:
                continue
            band = boundary_band(photograph.labels)
            for name, method in methods.items():
                begin = time.perf_counter()
                found = method(photograph.image, photograph.probabilities)
                seconds = time.perf_counter() - begin
                score = scores.setdefault(name, Score(len(photograph.probabilities)))
                score.add(photograph.labels, band, found, seconds)
    results = [s.result("photographs", name, CORE_CLASSES) for name, s in scores.items()]
    return results, fitted


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fit_parameters", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of images/labels/unaries")
    parser.add_argument("--json", type=Path, help="also write results and models to this file")
    parser.add_argument("--loss", choices=LOSS_NAMES, default="soft_accuracy")
    parser.add_argument("--sharpness", type=float, default=SHARPNESS)
    parser.add_argument("--penalty", type=float, default=PENALTY)
    parser.add_argument(
        "--parameters",
        nargs="+",
        choices=PARAMETER_NAMES,
        default=["weights"],
        help="what is fitted",
    )
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--window", type=int, default=WINDOW, help="pixels (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, default=MAX_STEPS)
    parser.add_argument("--all-pixels", action="store_true", help="fit not to the band alone")
    parser.add_argument("--first-fold-only", action="store_true", help="to see that it runs")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    with df.num_threads(options.threads):
        results, fitted = measure(options)
    sys.stdout.write(f"{table(results)}\n")
    if options.json is not None:
        content = {
            "results": [asdict(result) for result in results],
            "fitted": [result.to_dict() for result in fitted],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
