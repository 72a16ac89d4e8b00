"""Accuracy of ConvCRF and DenseCRF on network scores and on degraded labels.

    python -m benchmarks.accuracy_conv --data DIR [--json FILE]

The folder is that of ``benchmarks/accuracy.py``, whose measures are used. Two tasks:

- *network scores*: the probabilities of a network, as there;
- *degraded labels*, the synthetic task of the ConvCRF paper: the true labels, shrunk to an eighth
  and enlarged again, are mixed with random labels of an eighth of the resolution where a random
  mask, kept with probability 0.8, says so. Void counts as class 0. The seed is fixed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

import densefield as df
from benchmarks.accuracy import (
    COPIED_SETTINGS,
    CORE_CLASSES,
    Floats,
    Labels,
    Method,
    Photograph,
    Pixels,
    Result,
    Score,
    boundary_band,
    default_refine,
    densefield_method,
    most_probable,
    network_alone,
    read_photographs,
    table,
)

SCALE, KEPT = 8, 0.8
PROBABILITY_FLOOR = 1e-5


def resize(values: Floats, shape: tuple[int, int]) -> Floats:
    """Resize (C, h, w) bilinearly, pixel centres aligned; outside counts as 0."""

    def axis_weights(size: int, wanted: int) -> Floats:
        position = (np.arange(wanted) + 0.5) * size / wanted - 0.5
        distance = np.abs(position[:, None] - np.arange(size)[None, :])
        return np.maximum(0, 1 - distance).astype(np.float32)

    rows, columns = axis_weights(values.shape[1], shape[0]), axis_weights(values.shape[2], shape[1])
    resized: Floats = rows @ values @ columns.T
    return resized


def degrade(labels: Labels, num_labels: int, rng: np.random.Generator) -> Floats:
    """Probabilities (C, H, W) of the synthetic task."""
    shape = labels.shape
    small = (shape[0] // SCALE, shape[1] // SCALE)
    known = np.where(labels < num_labels, labels, 0)
    one_hot = np.eye(num_labels, dtype=np.float32)
    kept = resize(resize(one_hot[known].transpose(2, 0, 1), small), shape)
    noise = one_hot[rng.integers(0, num_labels, small)].transpose(2, 0, 1)
    mask = np.floor(KEPT + rng.random((1, *small))).astype(np.float32)
    share = resize(mask, shape)
    mixed: Floats = share * kept + (1 - share) * resize(noise, shape)
    return mixed


def conv_method(crf: df.ConvCRF) -> Method:
    """Most probable labels of a ConvCRF."""

    def method(image: Pixels, probabilities: Floats) -> Labels:
        unary = -np.log(np.clip(probabilities, PROBABILITY_FLOOR, 1))
        return most_probable(np.asarray(crf.infer(unary, image)))

    return method


def methods() -> dict[str, Method]:
    """List what is measured."""
    listed: dict[str, Method] = {"no CRF": network_alone, "densefield.refine": default_refine}
    for setting in COPIED_SETTINGS:
        listed[f"DenseCRF {setting}"] = densefield_method(setting)
    for size in (7, 11):
        crf = df.ConvCRF.from_reference_config({"filter_size": size})
        listed[f"ConvCRF, published defaults, filter {size}"] = conv_method(crf)
    kernels = df.default_crf().kernels
    for size in (7, 11):
        listed[f"ConvCRF, kernels of refine, filter {size}"] = conv_method(
            df.ConvCRF(kernels, size)
        )
    return listed


def measure(
    folder: Path, task: str, make: Callable[[Photograph], Floats], classes: list[int]
) -> list[Result]:
    """Run every method on every photograph of one task."""
    scores: dict[str, Score] = {}
    for photograph in read_photographs(folder):
        probabilities = make(photograph)
        band = boundary_band(photograph.labels)
        for name, method in methods().items():
            start = time.perf_counter()
            found = method(photograph.image, probabilities)
            seconds = time.perf_counter() - start
            score = scores.setdefault(name, Score(len(probabilities)))
            score.add(photograph.labels, band, found, seconds)
    return [score.result(task, name, classes) for name, score in scores.items()]


def main() -> None:
    """Measure and print one table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of images/labels/unaries")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    tasks: dict[str, Callable[[Photograph], Floats]] = {
        "network scores": lambda photograph: photograph.probabilities,
        "degraded labels": lambda photograph: degrade(
            photograph.labels, len(photograph.probabilities), rng
        ),
    }
    results = []
    for task, make in tasks.items():
        found = measure(options.data, task, make, list(CORE_CLASSES))
        sys.stdout.write(f"{task}\n{table(found)}\n\n")
        sys.stdout.flush()
        results += found
    if options.json is not None:
        content = {"results": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
