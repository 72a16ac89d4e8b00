"""Window kernels and ConvCRF, beside a torch version that stores the tiled windows.

Both versions agree to 1e-11 in float64. In float32 rounding grows from update to update wherever
two labels are nearly as good: the weights are strong and not normalised here, as in the published
code. So the error of each is its own difference to float64, not their difference to each other.
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
from benchmarks.cases.model import BILATERAL, SPATIAL
from benchmarks.comparison import Comparison, Contender, Settings, Skipped, ours

Array = npt.NDArray[Any]

FILTER_SIZES = (7, 11)
ITERATIONS = 5
ERROR_OF = "largest difference to the same in float64"
TORCH = "torch, tiled windows"
CENTRE = "1 x 1 window"


def window(settings: Settings) -> Iterator[Comparison | Skipped]:
    """One filter, one message and whole inferences for windows of 7 x 7 and 11 x 11."""
    reason = peers.torch_missing()
    if reason is not None:
        yield Skipped("window", TORCH, reason)
    scene = inputs.shipped().resized(*((64, 96) if settings.quick else (375, 500)))
    for filter_size in FILTER_SIZES[:1] if settings.quick else FILTER_SIZES:
        yield from _kernel(scene, filter_size, settings)
        yield from _conv_crf(scene, filter_size, settings)


def model(filter_size: int, iterations: int = ITERATIONS) -> df.ConvCRF:
    """Return what both versions compute: Potts, merged kernels, no normalisation."""
    return df.ConvCRF(
        [
            df.Gaussian(sigma_space=SPATIAL[0], weight=SPATIAL[1]),
            df.Bilateral(sigma_space=BILATERAL[0], sigma_color=BILATERAL[1], weight=BILATERAL[2]),
        ],
        filter_size,
        normalization="none",
        iterations=iterations,
    )


def _kernel(scene: inputs.Scene, filter_size: int, settings: Settings) -> Iterator[Comparison]:
    """Compare the operator alone: its table, and one filter of 21 channels."""
    features = exact.grid_features(scene.grid, BILATERAL[0], scene.image, BILATERAL[1])
    table = features.astype(np.float32).reshape(*scene.grid, -1)
    values = np.ascontiguousarray(np.moveaxis(scene.probabilities, 0, -1))
    kernel = df.WindowKernel(table, filter_size)
    nodes, taps, channels = values[..., 0].size, filter_size**2, values.shape[-1]
    dim = table.shape[-1]

    def error() -> float:
        double = df.WindowKernel(table.astype(np.float64), filter_size)
        expected = double.apply(values.astype(np.float64))
        return float(np.abs(kernel.apply(values) - expected).max())

    size = {"points": nodes, "channels": channels, "taps": taps}
    tasks: tuple[tuple[str, Callable[[], Any], costs.Cost, Callable[[], float] | None], ...] = (
        (
            "table",
            partial(df.WindowKernel, table, filter_size),
            costs.window_table(nodes, taps, dim),
            None,
        ),
        (
            "filter",
            partial(kernel.apply, values),
            costs.window_message(nodes, taps, channels),
            error,
        ),
    )
    for name, run, cost, its_error in tasks:
        yield Comparison(
            case=f"window/{name}, {filter_size} x {filter_size}",
            input=scene.name,
            size=size,
            contenders=list(ours("densefield", settings, run, error=its_error)),
            cost=cost,
            error_of=ERROR_OF if its_error else "",
        )
    centre = df.WindowKernel(table, 1)
    message = costs.window_message(nodes, taps, channels)
    yield Comparison(
        case=f"window/message, {filter_size} x {filter_size}",
        input=scene.name,
        size=size,
        contenders=[
            contender
            for pair in zip(
                ours("densefield", settings, partial(kernel.apply, values)),
                ours(CENTRE, settings, partial(centre.apply, values)),
                strict=True,
            )
            for contender in pair  # one behind the other, so that both meet the same machine
        ],
        cost=costs.Cost(message.bytes, message.operations * (taps - 1) / taps),
        less=CENTRE,
        note="the filter's time less, round by round, that of a 1 x 1 window, which copies as much",
    )


def _conv_crf(scene: inputs.Scene, filter_size: int, settings: Settings) -> Iterator[Comparison]:
    unary, image = scene.unary, scene.image
    nodes, taps, labels = unary[0].size, filter_size**2, len(unary)
    size = {"points": nodes, "labels": labels, "taps": taps}

    def error(iterations: int, run: Callable[[], Array]) -> float:
        double = model(filter_size, iterations).infer(unary.astype(np.float64), image * 1.0)
        return float(np.abs(run() - double).max())

    for name, iterations in (("one update", 1), (f"{ITERATIONS} iterations", ITERATIONS)):
        crf = model(filter_size, iterations)
        infer = partial(crf.infer, unary, image)
        run: Callable[[], Any] = infer
        cost = costs.conv_crf(nodes, taps, (2, 5), labels, iterations)
        if iterations == 1:
            # The table is kept: this is one message with its softmax.
            run = partial(crf.prepare(image).infer, unary)
            cost = costs.window_message(nodes, taps, labels)
        our_error = partial(error, iterations, infer)
        contenders = list(ours("densefield", settings, run, error=our_error))
        if peers.torch_missing() is None:
            contenders += _torch(scene, unary, filter_size, iterations, settings, error)
        yield Comparison(
            case=f"window/ConvCRF, {name}, {filter_size} x {filter_size}",
            input=scene.name,
            size={**size, "iterations": iterations},
            contenders=contenders,
            cost=cost,
            error_of=ERROR_OF,
            baseline=TORCH,
        )


def _torch(
    scene: inputs.Scene,
    unary: Array,
    filter_size: int,
    iterations: int,
    settings: Settings,
    error: Callable[[int, Callable[[], Array]], float],
) -> Iterator[Contender]:
    tiled = peers.UnfoldedWindows(
        scene.image, unary, filter_size, spatial=SPATIAL, bilateral=BILATERAL
    )
    infer = partial(tiled.infer, iterations)
    # Whole inferences and the larger window take seconds: all threads have to do for them.
    is_short = iterations == 1 and filter_size == FILTER_SIZES[0]
    for threads in settings.threads if is_short else settings.threads[-1:]:
        run: Callable[[], Any] = partial(_with_torch_threads, threads, infer)
        if iterations == 1:
            run = torch_message(scene, unary, filter_size, threads)
        yield Contender(TORCH, threads, run, partial(error, iterations, infer))


def torch_message(
    scene: inputs.Scene, unary: Array, filter_size: int, threads: int
) -> Callable[[], Any]:
    """Return one update in torch, with the kernel kept, as a function."""
    tiled = peers.UnfoldedWindows(
        scene.image, unary, filter_size, spatial=SPATIAL, bilateral=BILATERAL
    )
    kernel = tiled.kernel()

    def message() -> Any:
        q = tiled.torch.softmax(-tiled.unary, 1)
        energy = tiled.unary - tiled.message(kernel, q)
        return tiled.torch.softmax(-energy, 1)

    return partial(_with_torch_threads, threads, message)


def _with_torch_threads(threads: int, run: Callable[[], Any]) -> Any:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    with torch.no_grad():
        return run()
