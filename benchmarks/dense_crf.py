"""Time of dense CRF inference, beside pydensecrf on the same photographs in the same run.

    python -m benchmarks.dense_crf [--data DIR] [--json FILE] [--repeats 9]

Without ``--data`` the photograph that ships with the package is used. What is compared runs in
turns, so that a change of the machine's speed meets all of it; figures are medians. The time is
that of one call from image and energies to marginals, lattices included. ``parity`` computes the
spatial kernel on the lattice too, as pydensecrf does, and gives its numbers.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import densefield as df
from densefield.scores import image_probabilities, load_scores

Array = NDArray[Any]

# Photographs of the data folder: smooth, typical and textured ones.
PHOTOGRAPHS = ("2007_000033", "2007_000332", "2007_000346", "2007_001284", "2007_001288")
ITERATIONS = (5, 10)
THREADS = (1, 2)


def photographs(data: Path | None) -> Iterator[tuple[str, Array, Array]]:
    """Yield name, image and class probabilities."""
    from PIL import Image

    if data is None:
        folder = Path(df.__file__).parent / "data"
        pairs = [(folder / "astronaut.jpg", folder / "astronaut_scores.npz")]
    else:
        images = sorted(p for p in (data / "images").iterdir() if p.stem in PHOTOGRAPHS)
        pairs = [(p, data / "unaries" / f"{p.stem}.npz") for p in images]
    for image_path, scores_path in pairs:
        image = np.array(Image.open(image_path).convert("RGB"))
        yield image_path.stem, image, image_probabilities(load_scores(scores_path), image.shape[:2])


def ours(unary: Array, image: Array, iterations: int, *, method: str, threads: int) -> Array:
    """Run densefield with the settings that pydensecrf's examples use."""
    crf = df.DenseCRF(
        [
            df.Gaussian(sigma_space=3, weight=3, method=method),  # type: ignore[arg-type]
            df.Bilateral(sigma_space=80, sigma_color=13, weight=10),
        ],
        iterations=iterations,
    )
    with df.num_threads(threads):
        return crf.infer(unary, image)


def theirs(unary: Array, image: Array, iterations: int) -> Array:
    """Run pydensecrf with the same model; it has no threads."""
    densecrf = importlib.import_module("pydensecrf.densecrf")
    crf = densecrf.DenseCRF2D(image.shape[1], image.shape[0], len(unary))
    crf.setUnaryEnergy(unary.reshape(len(unary), -1))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    return np.array(crf.inference(iterations)).reshape(unary.shape)


def contenders(unary: Array, image: Array, iterations: int) -> dict[str, Callable[[], Array]]:
    """Return what is compared, by name."""
    runs: dict[str, Callable[[], Array]] = {}
    if importlib.util.find_spec("pydensecrf") is not None:
        runs["pydensecrf"] = lambda: theirs(unary, image, iterations)
    for threads in THREADS:
        runs[f"densefield, {threads} threads"] = lambda threads=threads: ours(
            unary, image, iterations, method="grid", threads=threads
        )
        runs[f"parity, {threads} threads"] = lambda threads=threads: ours(
            unary, image, iterations, method="lattice", threads=threads
        )
    return runs


def measure(runs: dict[str, Callable[[], Array]], repeats: int) -> dict[str, dict[str, float]]:
    """Run everything in turns; return median and interquartile range in milliseconds."""
    results = {name: run() for name, run in runs.items()}  # warms up, too
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    figures = {}
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        figures[name] = {"median_ms": middle, "iqr_percent": 100 * (high - low) / middle}
        if "pydensecrf" in results:
            expected = results["pydensecrf"]
            figures[name]["ratio"] = statistics.median(times["pydensecrf"]) / middle
            same = results[name].argmax(axis=0) == expected.argmax(axis=0)
            figures[name]["labels_equal_percent"] = 100 * float(same.mean())
            figures[name]["max_difference"] = float(np.abs(results[name] - expected).max())
    return figures


def machine() -> dict[str, Any]:
    """Describe the machine and the build."""
    info = df.system_info()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return {
        "processor": processor_name(),
        "python": platform.python_version(),
        "densefield": info["version"],
        "commit": commit.stdout.strip() or "unknown",
        "compiler": info["compiler"],
        "simd": info["simd"],
        "cores": info["num_threads"],
    }


def processor_name() -> str:
    """Return the processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with images/ and unaries/")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each (7 or more)")
    arguments = parser.parse_args()
    description = machine()
    print(", ".join(f"{key} {value}" for key, value in description.items()))
    if importlib.util.find_spec("pydensecrf") is None:
        print("pydensecrf is left out: it is not installed (pip install pydensecrf2)")
    cases = []
    for name, image, probabilities in photographs(arguments.data):
        unary = np.ascontiguousarray(df.unary_from_probabilities(probabilities))
        for iterations in ITERATIONS:
            figures = measure(contenders(unary, image, iterations), arguments.repeats)
            cases.append({"photograph": name, "shape": unary.shape, "iterations": iterations})
            cases[-1]["figures"] = figures
            print(f"\n{name}, {unary.shape}, {iterations} iterations")
            for run, values in figures.items():
                print(
                    f"  {run:24}" + "  ".join(f"{key} {value:.4g}" for key, value in values.items())
                )
    report(cases)
    if arguments.json:
        text = json.dumps({"machine": description, "cases": cases}, indent=1)
        arguments.json.write_text(text + "\n")


def report(cases: list[dict[str, Any]]) -> None:
    """Print the geometric mean of each run's ratio to pydensecrf."""
    for iterations in ITERATIONS:
        chosen = [case["figures"] for case in cases if case["iterations"] == iterations]
        if not chosen or "pydensecrf" not in chosen[0]:
            continue
        print(f"\ntimes faster than pydensecrf, {iterations} iterations, geometric mean (worst)")
        for run in chosen[0]:
            ratios = [figures[run]["ratio"] for figures in chosen]
            print(f"  {run:24}{statistics.geometric_mean(ratios):.2f} ({min(ratios):.2f})")


if __name__ == "__main__":
    main()
