"""Dense CRF inference, from image and energies to marginals, beside pydensecrf."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import costs, exact, inputs, peers
from benchmarks.cases.model import BILATERAL, SPATIAL, Method, Model, at_nodes, refine_model
from benchmarks.comparison import Comparison, Contender, Settings, Skipped, ours
from benchmarks.inputs import Scene

Array = npt.NDArray[Any]

ERROR_OF = "rms of marginals after one update, normalised after, to the exact sum at unsure nodes"
HEIGHT, WIDTH = 375, 500
LARGE = (1024, 2048, 19)  # a street scene: height, width, labels
VIDEO_ITERATIONS = 5
# Parity is a matter of photographs; beyond this the suite would take too long.
MOST_PARITY_POINTS = 1_000_000
SMALL = (96, 128)  # of a quick run


def dense_crf(settings: Settings) -> Iterator[Comparison | Skipped]:
    """Photographs with 21 and 2 labels, a large image, a volume, and a video frame."""
    reason = peers.pydensecrf_missing()
    if reason is not None:
        yield Skipped("dense_crf", "pydensecrf", reason)
    iterations = (5,) if settings.quick else (5, 10)
    for scene in inputs.photographs(settings.photographs):
        height, width = scene.grid
        size = SMALL if settings.quick else (min(height, HEIGHT), min(width, WIDTH))
        cut = scene.resized(*size)
        for labels in (21, 2):
            task = cut if labels == len(cut.probabilities) else cut.with_labels(labels)
            yield from _photograph(Model(task), iterations, settings, f"{labels} labels")
    first = inputs.shipped()
    refined = first.resized(*SMALL) if settings.quick else first
    name = "refine's model, 21 labels"
    yield from _photograph(refine_model(refined), iterations[-1:], settings, name)
    if settings.quick:
        yield from _volume(inputs.volume((24, 30, 20)), iterations, settings)
        yield _video(first.resized(*SMALL).with_labels(2), settings)
        return
    large = first.resized(*LARGE[:2]).with_labels(LARGE[2])
    yield from _photograph(Model(large), iterations, settings, f"large, {LARGE[2]} labels")
    yield from _volume(inputs.volume(), iterations, settings)
    yield _video(first.resized(HEIGHT, WIDTH).with_labels(2), settings)


def _photograph(
    model: Model, iterations: tuple[int, ...], settings: Settings, name: str
) -> Iterator[Comparison]:
    scene, unary = model.scene, model.scene.unary
    sizes = model.lattice_sizes()
    nodes = exact.unsure_nodes(unary)
    expected = model.exact_update(unary, nodes)

    def theirs(count: int, after: bool = False) -> Array:
        return peers.pydensecrf_image(
            unary,
            scene.image,
            count,
            spatial=model.spatial,
            bilateral=model.bilateral,
            after=after,
        )

    errors = _errors(model, unary, nodes, expected, lambda: theirs(1, after=True))
    for count in iterations:
        yield _inference(model, unary, sizes, count, settings, name, errors, partial(theirs, count))


def _volume(scene: Scene, iterations: tuple[int, ...], settings: Settings) -> Iterator[Comparison]:
    model, unary = Model(scene), scene.unary
    nodes = exact.unsure_nodes(unary)
    expected = model.exact_update(unary, nodes)
    features = [(f.astype(np.float32), weight) for f, weight in model.features()]

    def theirs(count: int, after: bool = False) -> Array:
        marginals = peers.pydensecrf_features(unary, features, count, after=after)
        return marginals.reshape(unary.shape)

    errors = _errors(model, unary, nodes, expected, lambda: theirs(1, after=True))
    sizes = model.lattice_sizes()
    for count in iterations:
        run = partial(theirs, count)
        yield _inference(model, unary, sizes, count, settings, "volume, 2 labels", errors, run)


def _errors(
    model: Model,
    unary: Array,
    nodes: npt.NDArray[np.int64],
    expected: Array,
    theirs: Callable[[], Array],
) -> dict[str, Callable[[], float]]:
    """Return how far each contender is from the exact sum, by name."""

    def error_of(run: Callable[[], Array]) -> float:
        return exact.rms_difference(at_nodes(run(), nodes), expected)

    def mine(method: Method) -> Array:
        return model.crf(1, method, "after").infer(unary, model.scene.image)

    # The same for any number of iterations: computed once.
    return {
        "densefield": cache(lambda: error_of(lambda: mine("grid"))),
        "densefield, parity": cache(lambda: error_of(lambda: mine("lattice"))),
        "pydensecrf": cache(lambda: error_of(theirs)),
    }


def _inference(
    model: Model,
    unary: Array,
    sizes: list[costs.LatticeSize],
    iterations: int,
    settings: Settings,
    name: str,
    errors: dict[str, Callable[[], float]],
    theirs: Callable[[], Array],
) -> Comparison:
    image = model.scene.image
    contenders = []
    if peers.pydensecrf_missing() is None:
        contenders.append(Contender("pydensecrf", 1, theirs, errors["pydensecrf"], _labels))
    methods: dict[str, Method] = {"densefield": "grid", "densefield, parity": "lattice"}
    if unary[0].size > MOST_PARITY_POINTS:
        del methods["densefield, parity"]
    for contender, method in methods.items():
        run = partial(model.crf(iterations, method).infer, unary, image)
        contenders += ours(contender, settings, run, error=errors[contender], labels=_labels)
    return Comparison(
        case=f"dense_crf/{name}, {iterations} iterations",
        input=model.scene.name,
        size=_size(unary, iterations),
        contenders=contenders,
        cost=costs.dense_crf(sizes, len(unary), iterations),
        error_of=ERROR_OF,
        baseline="pydensecrf",
    )


def _video(scene: Scene, settings: Settings) -> Comparison:
    """One frame of a video whose image stands: the lattices are kept, the unary is new."""
    model, unary = Model(scene), scene.unary
    run = partial(model.crf(VIDEO_ITERATIONS).prepare(scene.image).infer, unary)
    nodes = exact.unsure_nodes(unary)
    expected = model.exact_update(unary, nodes)
    theirs = partial(peers.pydensecrf_prepared, scene.image, spatial=SPATIAL, bilateral=BILATERAL)
    errors = _errors(
        model, unary, nodes, expected, lambda: theirs(len(unary), after=True)(unary, 1)
    )
    contenders = []
    if peers.pydensecrf_missing() is None:
        kept = partial(theirs(len(unary)), unary, VIDEO_ITERATIONS)
        contenders.append(Contender("pydensecrf", 1, kept, errors["pydensecrf"], _labels))
    contenders += ours("densefield", settings, run, error=errors["densefield"], labels=_labels)
    return Comparison(
        case=f"dense_crf/video frame, lattices kept, 2 labels, {VIDEO_ITERATIONS} iterations",
        input=scene.name,
        size=_size(unary, VIDEO_ITERATIONS),
        contenders=contenders,
        cost=costs.updates(model.lattice_sizes(), len(unary), VIDEO_ITERATIONS),
        error_of=ERROR_OF,
        baseline="pydensecrf",
    )


def _labels(marginals: Array) -> Array:
    return np.asarray(marginals.argmax(axis=0))


def _size(unary: Array, iterations: int) -> dict[str, int]:
    return {"points": unary[0].size, "labels": len(unary), "iterations": iterations}
