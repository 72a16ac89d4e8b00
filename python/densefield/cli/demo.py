"""``densefield demo``: refine the photograph that ships with the package, and show it."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt
from PIL import Image

import densefield
from densefield import pictures
from densefield.scores import image_probabilities, load_scores
from densefield.whole_files import write_whole

__all__ = ["demo"]

# Labels of PASCAL VOC in the order of the shipped scores.
_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "table", "dog", "horse", "motorbike", "person", "plant", "sheep"),
    *("sofa", "train", "screen"),
)
# Colours that stand out from the photograph, which is mostly orange, grey and black; the VOC
# palette's person is a pale red.
_COLORS = {"person": (0, 150, 255), "bottle": (255, 210, 0)}
_BACKGROUND = (112, 112, 112)
_NETWORK_LINE = (255, 0, 190)
_REFINED_LINE = (0, 235, 255)


class _Refined(NamedTuple):
    labels: npt.NDArray[Any]
    prepared: densefield.PreparedCRF
    prepare_seconds: float
    infer_seconds: float


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("densefield_demo.png"),
    show_default=True,
    help="The picture to write, a PNG; one that is there is replaced.",
)
def demo(output: Path) -> None:
    """Refine the photograph that ships with densefield, and write a picture to look at.

    It shows the photograph, the labels of a network that scores 33 x 33 positions, the labels
    after refinement by the default CRF, and the outlines of both.
    """
    if output.suffix.lower() != ".png":
        raise click.BadParameter(f"must end in .png, got {output}", param_hint="'-o'")
    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder {output.parent}", param_hint="'-o'")
    folder = resources.files("densefield") / "data"
    with resources.as_file(folder / "astronaut.jpg") as path:
        image = pictures.read_photograph(path)
    with resources.as_file(folder / "astronaut_scores.npz") as path:
        scores = load_scores(path)
    probabilities = image_probabilities(scores, image.shape[:2])
    network = probabilities.argmax(axis=0)
    crf = densefield.default_crf()
    refined = _refine(crf, image, probabilities)
    sheet = _sheet(image, network, refined.labels)
    write_whole({output: lambda file: sheet.save(file, format="PNG")})
    _report(image, scores.values.shape, network, refined, crf.iterations)
    click.echo(f"picture     {output}")


def _refine(
    crf: densefield.DenseCRF, image: pictures.Pixels, probabilities: npt.NDArray[np.float32]
) -> _Refined:
    unary = densefield.unary_from_probabilities(probabilities)
    start = time.perf_counter()
    prepared = crf.prepare(image)
    middle = time.perf_counter()
    marginals = prepared.infer(unary)
    end = time.perf_counter()
    return _Refined(marginals.argmax(axis=0), prepared, middle - start, end - middle)


def _sheet(
    image: pictures.Pixels, network: npt.NDArray[Any], refined: npt.NDArray[Any]
) -> Image.Image:
    colors = pictures.label_colors(len(_NAMES))
    for name, color in _COLORS.items():
        colors[_NAMES.index(name)] = color
    panels = [
        pictures.Panel("photograph", image),
        pictures.Panel("network's labels", pictures.overlay(image, network, colors=colors)),
        pictures.Panel("outlines of both", _both_outlines(image, network, refined)),
        pictures.Panel("refined labels", pictures.overlay(image, refined, colors=colors)),
    ]
    legend = [pictures.LegendEntry("background (dimmed)", _BACKGROUND)]
    for label in np.union1d(network, refined):
        if label != 0:
            red, green, blue = colors[label].tolist()
            legend.append(pictures.LegendEntry(_NAMES[label], (red, green, blue)))
    legend += [
        pictures.LegendEntry("outline, network", _NETWORK_LINE),
        pictures.LegendEntry("outline, refined", _REFINED_LINE),
    ]
    return pictures.panel_sheet(panels, legend)


def _both_outlines(
    image: pictures.Pixels, network: npt.NDArray[Any], refined: npt.NDArray[Any]
) -> pictures.Pixels:
    with_network = pictures.draw_outlines(image, network, _NETWORK_LINE)
    return pictures.draw_outlines(with_network, refined, _REFINED_LINE)


def _report(
    image: pictures.Pixels,
    score_shape: tuple[int, ...],
    network: npt.NDArray[Any],
    refined: _Refined,
    iterations: int,
) -> None:
    num_labels, grid_height, grid_width = score_shape
    click.echo(
        f"photograph  {image.shape[1]} x {image.shape[0]} pixels, {num_labels} labels "
        f"scored at {grid_width} x {grid_height} positions"
    )
    for lattice in refined.prepared.lattices:
        click.echo(
            f"lattice     {lattice.dim} dimensions: {lattice.num_points:,} points, "
            f"{lattice.num_vertices:,} vertices"
        )
    found = densefield.system_info()
    click.echo(
        f"memory      {refined.prepared.nbytes / 1e6:.1f} MB for all that is kept of the image"
    )
    click.echo(
        f"time        {refined.prepare_seconds * 1e3:.0f} ms to prepare the image, "
        f"{refined.infer_seconds * 1e3:.0f} ms for {iterations} iterations "
        f"({found['num_threads']} threads, {found['simd']})"
    )
    changed = float(np.mean(network != refined.labels))
    click.echo(f"changed     {changed:.1%} of the pixels got another label")
