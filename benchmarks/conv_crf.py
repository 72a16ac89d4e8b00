"""Time of ConvCRF message passing, beside a torch version that stores the tiled windows.

    python -m benchmarks.conv_crf [--json FILE] [--repeats 9] [--filter-sizes 7 11]

The torch version is the method as the paper describes it: unfold the marginals into one copy for
every neighbour, multiply by the merged kernel weights, sum. It is left out where torch is not
installed. What is compared runs in turns; figures are minima and medians. GFLOP/s count two
operations for every tap, pixel and label; the peak is measured by the same number of threads on
registers alone (numpy's matrix product, which is the best rate at hand).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.dense_crf import machine
from numpy.typing import NDArray

import densefield as df

Array = NDArray[Any]

SHAPE, NUM_LABELS, ITERATIONS = (375, 500), 21, 5
THREADS = (1, 2)
SPACE, COLOR = (3.0, 3.0), (80.0, 13.0, 10.0)  # sigmas and weight of the two kernels


def make_case(seed: int = 0) -> tuple[Array, Array]:
    """Return an image of smooth patches with noise, and random energies."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (SHAPE[0] // 25, SHAPE[1] // 25, 3))
    image = coarse.repeat(25, axis=0).repeat(25, axis=1) + rng.integers(-8, 9, (*SHAPE, 3))
    unary = rng.normal(size=(NUM_LABELS, *SHAPE)).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8), unary


def ours(filter_size: int) -> df.ConvCRF:
    """Return the model; Potts is what both versions compute."""
    return df.ConvCRF(
        [
            df.Gaussian(sigma_space=SPACE[0], weight=SPACE[1]),
            df.Bilateral(sigma_space=COLOR[0], sigma_color=COLOR[1], weight=COLOR[2]),
        ],
        filter_size,
        normalization="none",
        iterations=ITERATIONS,
    )


class UnfoldedWindows:
    """The same model in torch, with the windows stored."""

    def __init__(self, image: Array, unary: Array, filter_size: int) -> None:
        self.torch = importlib.import_module("torch")
        self.size = filter_size
        self.unary = self.torch.from_numpy(unary)[None]
        self.image = self.torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]

    def windows(self, values: Any) -> Any:
        """(1, C, H, W) to (1, C, k * k, H, W)."""
        tiles = self.torch.nn.functional.unfold(values, self.size, padding=self.size // 2)
        return tiles.view(*values.shape[:2], self.size**2, *values.shape[2:])

    def kernel(self) -> Any:
        """Return merged weights, (1, 1, k * k, H, W)."""
        torch = self.torch
        height, width = SHAPE
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        position = torch.stack([y, x]).float()[None]
        inside = self.windows(torch.ones(1, 1, height, width))
        total: Any = 0.0
        for features, weight in (
            (position / SPACE[0], SPACE[1]),
            (torch.cat([position / COLOR[0], self.image / COLOR[1]], 1), COLOR[2]),
        ):
            steps = self.windows(features) - features[:, :, None]
            total = total + weight * torch.exp(-0.5 * (steps**2).sum(1, keepdim=True)) * inside
        return total

    def message(self, kernel: Any, marginals: Any) -> Any:
        """Compute one message, (1, C, H, W)."""
        return (kernel * self.windows(marginals)).sum(2)

    def infer(self) -> Array:
        """Marginals after all iterations."""
        with self.torch.no_grad():
            kernel = self.kernel()
            marginals = self.torch.softmax(-self.unary, 1)
            for _ in range(ITERATIONS):
                energy = self.unary - self.message(kernel, marginals)
                marginals = self.torch.softmax(-energy, 1)
        result: Array = marginals[0].numpy()
        return result


def measure(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Run everything in turns; return minimum, median and range in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:  # the first warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    figures = {}
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        figures[name] = {
            "min_ms": min(values),
            "median_ms": middle,
            "iqr_percent": 100 * (high - low) / middle,
        }
    return figures


def peak_gflops(repeats: int = 5) -> float:
    """Rate of one float32 matrix product, on as many threads as numpy takes."""
    side = 1024
    a = np.ones((side, side), np.float32)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def run_size(filter_size: int, repeats: int) -> dict[str, dict[str, float]]:
    """Measure one filter size; print what was found."""
    image, unary = make_case()
    crf, out = ours(filter_size), np.empty_like(unary)
    prepared = crf.prepare(image)
    runs: dict[str, Callable[[], Any]] = {}

    def with_threads(threads: int, run: Callable[[], Any]) -> Callable[[], Any]:
        def limited() -> None:
            with df.num_threads(threads):
                run()

        return limited

    inference = prepared.start(unary)
    for threads in THREADS:
        runs[f"one update, {threads} threads"] = with_threads(
            threads,
            lambda: inference._core.update(False),  # type: ignore[union-attr]
        )
        runs[f"5 iterations, {threads} threads"] = with_threads(
            threads, lambda: crf.infer(unary, image, out=out)
        )
    if importlib.util.find_spec("torch") is not None:
        torch = UnfoldedWindows(image, unary, filter_size)
        kernel, marginals = torch.kernel(), torch.torch.softmax(-torch.unary, 1)
        error = float(np.abs(torch.infer() - crf.infer(unary, image)).max())
        print(f"largest difference of a marginal to torch: {error:.1e}")
        for threads in THREADS:
            torch.torch.set_num_threads(threads)
            theirs = measure(
                {
                    f"torch one message, {threads} threads": lambda: torch.message(
                        kernel, marginals
                    ),
                    f"torch 5 iterations, {threads} threads": torch.infer,
                },
                max(2, repeats // 3),
            )
            for name, figures in theirs.items():
                report(name, figures, filter_size)
    else:
        print("torch is left out: it is not installed (pip install torch)")
    figures = measure(runs, repeats)
    for name, values in figures.items():
        report(name, values, filter_size)
    return figures


def report(name: str, values: dict[str, float], filter_size: int) -> None:
    """Print one line, with the rate of a single message."""
    line = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
    if "one" in name:
        operations = 2 * filter_size**2 * SHAPE[0] * SHAPE[1] * NUM_LABELS
        line += f"  GFLOP/s {operations / values['min_ms'] / 1e6:.1f}"
    print(f"  {name:32}{line}", flush=True)


def main() -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each (7 or more)")
    parser.add_argument("--filter-sizes", type=int, nargs="+", default=[7, 11])
    arguments = parser.parse_args()
    description = machine()
    print(", ".join(f"{key} {value}" for key, value in description.items()))
    print(f"matrix product of numpy: {peak_gflops():.0f} GFLOP/s")
    cases = {}
    for size in arguments.filter_sizes:
        print(f"\nfilter size {size}, {NUM_LABELS} labels, {SHAPE[0]} x {SHAPE[1]}")
        cases[str(size)] = run_size(size, arguments.repeats)
    if arguments.json:
        text = json.dumps({"machine": description, "cases": cases}, indent=1)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
