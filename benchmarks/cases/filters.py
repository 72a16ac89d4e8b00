"""What a user might take instead of a CRF: OpenCV's edge-preserving filters on probabilities.

They compute something else, and the table says how much else: each is compared with the exact
bilateral sum that the lattice approximates. Fast ones are fast because they look at less.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import densefield as df
from benchmarks import costs, exact, inputs, peers
from benchmarks.comparison import Comparison, Contender, Settings, Skipped, ours

Array = npt.NDArray[Any]

# A kernel that all of them can express: 8 pixels, 30 grey levels.
SIGMA_SPACE, SIGMA_COLOR = 8.0, 30.0
ERROR_OF = "relative L2 to the exact normalised bilateral sum at sampled nodes"


def filters(settings: Settings) -> Iterator[Comparison | Skipped]:
    """Smooth all labels' probabilities along the edges of the photograph."""
    reason = peers.opencv_missing()
    if reason is not None:
        yield Skipped("filters", "OpenCV", reason)
    scene = inputs.shipped().resized(*((96, 128) if settings.quick else (375, 500)))
    features = exact.grid_features(scene.grid, SIGMA_SPACE, scene.image, SIGMA_COLOR)
    table = features.astype(np.float32)
    values = np.ascontiguousarray(np.moveaxis(scene.probabilities, 0, -1))
    flat = values.reshape(len(table), -1)
    nodes = exact.sample_nodes(len(table))
    expected = exact.normalized_sums(features, flat, nodes)

    def error(run: Callable[[], Array]) -> float:
        return exact.relative_error(run().reshape(len(table), -1)[nodes], expected)

    def lattice_filter() -> Array:
        built = df.PermutohedralLattice(table)
        ones = np.ones((len(table), 1), np.float32)
        return built.filter(flat) / built.filter(ones)

    contenders = list(
        ours("densefield, lattice", settings, lattice_filter, error=partial(error, lattice_filter))
    )
    if reason is None:
        # On all cores only, as it comes: the slowest of them takes seconds.
        most = settings.threads[-1]
        for name, run in _opencv(scene.image, values).items():
            limited = partial(_with_opencv_threads, most, run)
            contenders.append(Contender(name, most, limited, partial(error, run)))
    vertices = df.PermutohedralLattice(table).num_vertices
    size = costs.LatticeSize.of(len(table), table.shape[1], vertices)
    yield Comparison(
        case="filters/bilateral smoothing, from image to result",
        input=scene.name,
        size={"points": len(table), "channels": flat.shape[1], "vertices": vertices},
        contenders=contenders,
        cost=costs.build(size) + costs.lattice_filter(size, flat.shape[1] + 1),
        error_of=ERROR_OF,
        baseline="densefield, lattice",
        note="floor and shares are those of the lattice",
    )


def _opencv(image: Array, values: Array) -> dict[str, Callable[[], Array]]:
    """Return OpenCV's filters of all channels by name; what depends on the image is made once."""
    x = importlib.import_module("cv2").ximgproc
    guide = image.astype(np.float32)
    channels = [np.ascontiguousarray(values[..., c]) for c in range(values.shape[-1])]
    # The joint bilateral filter takes one or three channels at a time.
    threes = [np.stack(channels[c : c + 3], axis=-1) for c in range(0, len(channels), 3)]

    def joint_bilateral() -> Array:
        results = [x.jointBilateralFilter(guide, t, -1, SIGMA_COLOR, SIGMA_SPACE) for t in threes]
        return np.concatenate(results, axis=-1)

    def each(create: Callable[[], Any]) -> Callable[[], Array]:
        def run() -> Array:
            made = create()
            return np.stack([made.filter(channel) for channel in channels], axis=-1)

        return run

    radius, smoothness = int(2 * SIGMA_SPACE), SIGMA_SPACE**2
    return {
        "OpenCV joint bilateral": joint_bilateral,
        "OpenCV guided filter": each(lambda: x.createGuidedFilter(image, radius, SIGMA_COLOR**2)),
        "OpenCV domain transform": each(lambda: x.createDTFilter(image, SIGMA_SPACE, SIGMA_COLOR)),
        "OpenCV fast global smoother": each(
            lambda: x.createFastGlobalSmootherFilter(image, smoothness, SIGMA_COLOR)
        ),
    }


def _with_opencv_threads(threads: int, run: Callable[[], Any]) -> Any:
    importlib.import_module("cv2").setNumThreads(threads)
    return run()
