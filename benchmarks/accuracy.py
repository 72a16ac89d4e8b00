"""Accuracy of dense CRF settings on real network scores.

Run ``python -m benchmarks.accuracy --data DIR [--json FILE]``. The folder holds::

    DIR/images/NAME.jpg or .png    photographs
    DIR/labels/NAME.png            palette image: class numbers, 255 = void
    DIR/unaries/NAME.npz           scores (C, h, w), logits or log-probabilities on a coarse grid,
                                   and a, b: pixel (y, x) lies at grid position (a y + b, a x + b)

and may hold a second set of the same form in ``DIR/camvid``. Every method sees the same
probabilities: the scores upsampled bilinearly, then softmax over the classes.

Measured, over all photographs of a set together and without void pixels:

- mean IoU: of the classes in ``--classes`` (see ``CORE_CLASSES``) and of all classes that occur;
- pixel accuracy;
- boundary accuracy: pixel accuracy within ``BAND_RADIUS`` pixels of a label boundary, the only
  pixels that a CRF is there to correct. The edge of a void region counts as a boundary, since
  void is where the annotators drew the outline.

Losses are printed too: a setting that is worse than the network alone shows it here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

import densefield as df

Labels: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]
Method: TypeAlias = Callable[[Pixels, Floats], Labels]

VOID = 255
BAND_RADIUS = 8  # pixels; half a cell of the stride-16 grid that the scores come from
PROBABILITY_FLOOR = 1e-5  # energies stay below 11.5, the usual bound
ITERATIONS = 10

# background, cat, chair, cow, dog, horse, person, sheep, sofa: the classes of the animal
# photographs that are most of the set. The others occur in one or two photographs each.
CORE_CLASSES = (0, 8, 9, 10, 12, 13, 15, 17, 18)


@dataclass(frozen=True)
class Setting:
    """Two kernels as they are usually written down, sigmas in pixels and in grey levels 0..255."""

    gaussian_sigma: float
    gaussian_weight: float
    bilateral_sigma_space: float
    bilateral_sigma_color: float
    bilateral_weight: float

    def __str__(self) -> str:
        """Write the setting as ``gaussian + bilateral``, the way it is quoted."""
        return (
            f"{self.gaussian_sigma:g}/{self.gaussian_weight:g} + {self.bilateral_sigma_space:g}/"
            f"{self.bilateral_sigma_color:g}/{self.bilateral_weight:g}"
        )


COPIED_SETTINGS = (
    Setting(3, 3, 80, 13, 10),
    Setting(1, 3, 67, 3, 4),
    Setting(1, 3, 50, 5, 4),
)


@dataclass(frozen=True)
class Photograph:
    """One photograph with its annotation and the network's probabilities."""

    name: str
    image: Pixels  # (H, W, 3)
    labels: Labels  # (H, W), VOID where nothing is annotated
    probabilities: Floats  # (C, H, W), sum 1 over C


@dataclass(frozen=True)
class Result:
    """What one method reached on one set; fractions between 0 and 1."""

    data: str
    method: str
    mean_iou: float
    mean_iou_all: float
    pixel_accuracy: float
    boundary_accuracy: float
    seconds_per_photograph: float


def upsample(scores: Floats, height: int, width: int, a: float, b: float) -> Floats:
    """Read coarse scores (C, h, w) bilinearly at every pixel; outside the grid its edge counts."""

    def corners(size: int, cells: int) -> tuple[npt.NDArray[np.intp], Floats]:
        position = np.clip(np.arange(size) * a + b, 0, cells - 1)
        low = np.minimum(position.astype(np.intp), max(cells - 2, 0))
        return low, (position - low).astype(np.float32)

    rows, row_share = corners(height, scores.shape[1])
    columns, column_share = corners(width, scores.shape[2])
    next_row = np.minimum(rows + 1, scores.shape[1] - 1)
    next_column = np.minimum(columns + 1, scores.shape[2] - 1)
    down = row_share[:, None]
    tall = scores[:, rows] * (1 - down) + scores[:, next_row] * down
    wide = tall[:, :, columns] * (1 - column_share) + tall[:, :, next_column] * column_share
    return wide.astype(np.float32, copy=False)


def softmax(logits: Floats) -> Floats:
    """Probabilities over the first axis."""
    raised = np.exp(logits - logits.max(axis=0, keepdims=True))
    shares: Floats = raised / raised.sum(axis=0, keepdims=True)
    return shares


def read_photographs(folder: Path) -> Iterator[Photograph]:
    """Yield the photographs of one set, in the order of their names."""
    for path in sorted((folder / "images").iterdir()):
        with Image.open(path) as file:
            image = np.array(file.convert("RGB"))
        with Image.open(folder / "labels" / f"{path.stem}.png") as file:
            labels = np.array(file)
        with np.load(folder / "unaries" / f"{path.stem}.npz") as file:
            scores = file["scores"].astype(np.float32)
            a, b = float(file["a"]), float(file["b"])
        height, width = labels.shape
        probabilities = softmax(upsample(scores, height, width, a, b))
        yield Photograph(path.stem, image, labels, np.ascontiguousarray(probabilities))


def boundary_band(labels: Labels, radius: int = BAND_RADIUS) -> Mask:
    """Pixels within ``radius`` (Euclidean) of a pixel that differs from its upper or left one."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    height, width = labels.shape
    padded = np.pad(edge, radius)
    band = np.zeros_like(edge)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy * dy + dx * dx <= radius * radius:
                top, left = radius + dy, radius + dx
                band |= padded[top : top + height, left : left + width]
    return band


def confusion(truth: Labels, found: Labels, num_labels: int) -> npt.NDArray[np.int64]:
    """Count pixels by (true class, found class), void left out: (C, C)."""
    known = truth < num_labels
    pair = truth[known].astype(np.int64) * num_labels + found[known].astype(np.int64)
    counts = np.bincount(pair, minlength=num_labels * num_labels).astype(np.int64)
    return counts.reshape(num_labels, num_labels)


def mean_iou(counts: npt.NDArray[np.int64], classes: Sequence[int] | None = None) -> float:
    """Mean intersection over union, of ``classes`` or of all; absent classes do not count."""
    hit = np.diag(counts)
    truth = counts.sum(axis=1)
    union = truth + counts.sum(axis=0) - hit
    chosen = np.arange(len(counts)) if classes is None else np.asarray(classes, dtype=np.intp)
    chosen = chosen[truth[chosen] > 0]
    if chosen.size == 0:
        return float("nan")
    return float(np.mean(hit[chosen] / union[chosen]))


class Score:
    """Sums over the photographs of one set for one method."""

    def __init__(self, num_labels: int) -> None:
        self.counts = np.zeros((num_labels, num_labels), dtype=np.int64)
        self.band_counts = np.zeros_like(self.counts)
        self.seconds: list[float] = []

    def add(self, truth: Labels, band: Mask, found: Labels, seconds: float) -> None:
        """Count one photograph."""
        num_labels = len(self.counts)
        self.counts += confusion(truth, found, num_labels)
        self.band_counts += confusion(truth[band], found[band], num_labels)
        self.seconds.append(seconds)

    def result(self, data: str, method: str, classes: Sequence[int] | None) -> Result:
        """Turn the sums into fractions."""
        return Result(
            data=data,
            method=method,
            mean_iou=mean_iou(self.counts, classes),
            mean_iou_all=mean_iou(self.counts),
            pixel_accuracy=float(np.trace(self.counts) / self.counts.sum()),
            boundary_accuracy=float(np.trace(self.band_counts) / self.band_counts.sum()),
            seconds_per_photograph=float(np.median(self.seconds)),
        )


def most_probable(marginals: npt.NDArray[Any]) -> Labels:
    """Class of the largest marginal of every pixel, (C, H, W) to (H, W)."""
    labels: Labels = np.argmax(marginals, axis=0)
    return labels


def network_alone(image: Pixels, probabilities: Floats) -> Labels:
    """Most probable class of every pixel, no CRF."""
    del image
    return most_probable(probabilities)


def default_refine(image: Pixels, probabilities: Floats) -> Labels:
    """``densefield.refine`` as it comes."""
    return np.asarray(df.refine(image, probabilities))


def densefield_method(setting: Setting) -> Method:
    """Mean field of this package with a setting."""
    crf = df.DenseCRF(
        kernels=[
            df.Gaussian(sigma_space=setting.gaussian_sigma, weight=setting.gaussian_weight),
            df.Bilateral(
                sigma_space=setting.bilateral_sigma_space,
                sigma_color=setting.bilateral_sigma_color,
                weight=setting.bilateral_weight,
            ),
        ],
        iterations=ITERATIONS,
    )

    def method(image: Pixels, probabilities: Floats) -> Labels:
        marginals = np.asarray(crf.infer(df.unary_from_probabilities(probabilities), image))
        return most_probable(marginals)

    return method


def pydensecrf_method(module: ModuleType, setting: Setting) -> Method:
    """Mean field of pydensecrf with a setting."""

    def method(image: Pixels, probabilities: Floats) -> Labels:
        num_labels, height, width = probabilities.shape
        energy = -np.log(np.clip(probabilities, PROBABILITY_FLOOR, 1))
        crf = module.DenseCRF2D(width, height, num_labels)
        crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(num_labels, -1)))
        crf.addPairwiseGaussian(sxy=setting.gaussian_sigma, compat=setting.gaussian_weight)
        crf.addPairwiseBilateral(
            sxy=setting.bilateral_sigma_space,
            srgb=setting.bilateral_sigma_color,
            rgbim=np.ascontiguousarray(image),
            compat=setting.bilateral_weight,
        )
        marginals = np.asarray(crf.inference(ITERATIONS)).reshape(num_labels, height, width)
        return most_probable(marginals)

    return method


def methods() -> tuple[dict[str, Method], list[str]]:
    """List what is measured by name, and say in words what is left out and why."""
    listed: dict[str, Method] = {"no CRF": network_alone, "densefield.refine": default_refine}
    for setting in COPIED_SETTINGS:
        listed[f"densefield {setting}"] = densefield_method(setting)
    try:
        module = importlib.import_module("pydensecrf.densecrf")
    except ImportError as error:
        return listed, [f"pydensecrf is left out: it cannot be imported ({error})"]
    for setting in COPIED_SETTINGS:
        listed[f"pydensecrf {setting}"] = pydensecrf_method(module, setting)
    return listed, []


def measure(
    folder: Path, data: str, listed: dict[str, Method], *, classes: Sequence[int] | None
) -> list[Result]:
    """Run every method on every photograph of one set."""
    scores: dict[str, Score] = {}
    for photograph in read_photographs(folder):
        band = boundary_band(photograph.labels)
        for name, method in listed.items():
            start = time.perf_counter()
            found = method(photograph.image, photograph.probabilities)
            seconds = time.perf_counter() - start
            score = scores.setdefault(name, Score(len(photograph.probabilities)))
            score.add(photograph.labels, band, found, seconds)
    return [score.result(data, name, classes) for name, score in scores.items()]


def table(results: Sequence[Result]) -> str:
    """Format the results of one set as text."""
    width = max(len(result.method) for result in results)
    lines = [
        f"{'method':<{width}}  mean IoU  (all)   pixel acc.  boundary acc.  s/photograph",
    ]
    for result in results:
        lines.append(
            f"{result.method:<{width}}  {result.mean_iou:8.4f}  {result.mean_iou_all:.4f}"
            f"  {result.pixel_accuracy:10.4f}  {result.boundary_accuracy:13.4f}"
            f"  {result.seconds_per_photograph:12.3f}"
        )
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and check the folder before any work."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description="Accuracy of dense CRF settings on real network scores.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of images/labels/unaries")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument(
        "--classes",
        type=int,
        nargs="+",
        default=list(CORE_CLASSES),
        help="classes of the first mean IoU (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    missing = [
        name for name in ("images", "labels", "unaries") if not (options.data / name).is_dir()
    ]
    if missing:
        parser.error(
            f"--data must be a folder with images, labels and unaries; {options.data} has no "
            f"{', '.join(missing)}. Its layout is described at the top of benchmarks/accuracy.py"
        )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one table per set, write the JSON file."""
    options = parse(arguments)
    listed, left_out = methods()
    results = measure(options.data, "photographs", listed, classes=options.classes)
    sys.stdout.write(f"photographs\n{table(results)}\n")
    if (options.data / "camvid" / "images").is_dir():
        streets = measure(options.data / "camvid", "camvid", listed, classes=None)
        sys.stdout.write(f"\ncamvid\n{table(streets)}\n")
        results += streets
    for reason in left_out:
        sys.stdout.write(f"\n{reason}\n")
    if options.json is not None:
        content = {"results": [asdict(result) for result in results], "left_out": left_out}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
