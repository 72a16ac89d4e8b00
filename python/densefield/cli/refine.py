"""``densefield refine``: an image and its scores, or two folders of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

import densefield
from densefield import pictures
from densefield.cli.model import choose_crf, model_options
from densefield.cli.pairs import Outputs, Pair, match_by_stem
from densefield.scores import Kind, Scores, image_probabilities, load_scores
from densefield.whole_files import write_whole

__all__ = ["refine"]

# What one bad file may raise; the others are still worked on.
_FILE_ERRORS = (OSError, TypeError, ValueError, RuntimeError, MemoryError)

_EXISTING = click.Path(exists=True, path_type=Path)


class _Settings(NamedTuple):
    """What holds for every image of one call."""

    crf: densefield.DenseCRF
    kind: Kind
    marginals: bool
    overlay: bool
    overwrite: bool


@click.command()
@click.argument("image", type=_EXISTING)
@click.argument("scores", type=_EXISTING)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The label picture to write (.png), or a folder for it; for folders, a folder.",
)
@click.option("--marginals", is_flag=True, help="Also write the probabilities: x.npy beside x.png.")
@click.option("--overlay", is_flag=True, help="Also write the labels laid over the image.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "probabilities", "logits"]),
    default="auto",
    show_default=True,
    help="What the scores are; auto: probabilities if non-negative with sums of 1, else logits.",
)
@click.option(
    "--overwrite/--no-overwrite",
    default=False,
    show_default=True,
    help="Replace files that are there; otherwise a folder's finished images are skipped.",
)
@model_options
def refine(
    image: Path,
    scores: Path,
    output: Path,
    kind: Kind,
    marginals: bool,
    overlay: bool,
    overwrite: bool,
    params: Path | None,
    **model: float | str | None,
) -> None:
    """Refine SCORES with the colours of IMAGE; write the labels as an index PNG.

    IMAGE is any picture that Pillow reads. SCORES is a .npy or .npz file of shape (C, h, w),
    logits or probabilities, upsampled to the image where it is smaller. Give two folders to refine
    every image with the scores of the same name: cat.jpg with cat.npz.
    """
    settings = _Settings(choose_crf(params, model), kind, marginals, overlay, overwrite)
    if image.is_dir() != scores.is_dir():
        raise click.UsageError(
            f"IMAGE and SCORES must be two files or two folders, got {image} and {scores}"
        )
    if image.is_dir():
        _refine_folders(image, scores, output, settings)
    else:
        _refine_file(Pair(image, scores), output, settings)


def _refine_file(pair: Pair, output: Path, settings: _Settings) -> None:
    if output.is_dir():
        output = output / f"{pair.image.stem}.png"
    if output.suffix.lower() != ".png":
        raise click.BadParameter(
            f"must be a .png file or a folder that is there, got {output}", param_hint="'-o'"
        )
    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder {output.parent}", param_hint="'-o'")
    _refuse_collisions({output: pair}, settings)
    written = _refine_pair(pair, output, settings)
    if not written:
        raise click.ClickException(f"{output} is there already; pass --overwrite to replace it")
    for path in written:
        click.echo(path)


def _refine_folders(images: Path, scores: Path, output: Path, settings: _Settings) -> None:
    if output.exists() and not output.is_dir():
        raise click.BadParameter(f"must be a folder, got the file {output}", param_hint="'-o'")
    found = match_by_stem(images, scores)
    if not found.pairs and not found.problems:
        raise click.UsageError(f"no images in {images} and no .npy or .npz files in {scores}")
    jobs = {output / f"{stem}.png": pair for stem, pair in found.pairs.items()}
    _refuse_collisions(jobs, settings)
    output.mkdir(parents=True, exist_ok=True)
    problems = dict(found.problems)
    num_written = num_skipped = 0
    # disable=None: no bar where the output is not a terminal
    for labels, pair in tqdm(jobs.items(), desc="refining", unit="image", disable=None):
        try:
            if _refine_pair(pair, labels, settings):
                num_written += 1
            else:
                num_skipped += 1
        except _FILE_ERRORS as error:
            problems[pair.image.name] = str(error) or type(error).__name__
    skipped = f", {num_skipped} were there already (--overwrite replaces them)"
    click.echo(f"{num_written} refined{skipped if num_skipped else ''}, {len(problems)} failed")
    if problems:
        lines = [f"  {name}: {problem}" for name, problem in sorted(problems.items())]
        raise click.ClickException("\n".join(["these failed:", *lines]))


def _outputs(labels: Path, settings: _Settings, *, with_labels: bool = True) -> Outputs:
    return Outputs.beside(
        labels,
        with_labels=with_labels,
        with_marginals=settings.marginals,
        with_overlay=settings.overlay,
    )


def _refuse_collisions(jobs: Mapping[Path, Pair], settings: _Settings) -> None:
    """End the program if a result would take the place of an input or of another result."""
    taken = {path.resolve(): f"the input {path}" for pair in jobs.values() for path in pair}
    for labels in jobs:
        for path in _outputs(labels, settings).wanted():
            if path.resolve() in taken:
                raise click.BadParameter(
                    f"the result {path.name} would replace {taken[path.resolve()]}; "
                    "choose another folder or name",
                    param_hint="'-o'",
                )
            taken[path.resolve()] = f"another result, {path}"


def _refine_pair(pair: Pair, labels_path: Path, settings: _Settings) -> list[Path]:
    """Refine one image; return the files written, none of them if all were there already."""
    scores = load_scores(pair.scores)
    num_labels = len(scores.values)
    fits_png = num_labels <= pictures.MAX_PNG_LABELS
    if not fits_png and not settings.marginals:
        raise ValueError(
            f"{num_labels} labels do not fit an index PNG, which holds "
            f"{pictures.MAX_PNG_LABELS}; pass --marginals to write the probabilities instead"
        )
    outputs = _outputs(labels_path, settings, with_labels=fits_png)
    if not settings.overwrite:
        there = [path for path in outputs.wanted() if path.exists()]
        if len(there) == len(outputs.wanted()):
            return []
        if there:
            raise ValueError(
                f"{', '.join(map(str, there))} is there but not all that was asked for; "
                "pass --overwrite to write everything again"
            )
    write_whole(_refined_files(pair, scores, outputs, settings))
    return outputs.wanted()


def _refined_files(
    pair: Pair, scores: Scores, outputs: Outputs, settings: _Settings
) -> dict[Path, Callable[[BinaryIO], object]]:
    """Refine one image, and give what writes each of its files."""
    image = pictures.read_photograph(pair.image)
    num_labels = len(scores.values)
    probabilities = image_probabilities(scores, image.shape[:2], kind=settings.kind)
    labels, marginals = densefield.refine(
        image, probabilities, crf=settings.crf, return_marginals=True
    )
    writers: dict[Path, Callable[[BinaryIO], object]] = {}
    if outputs.labels is not None:
        label_picture = pictures.index_picture(labels, num_labels)
        writers[outputs.labels] = lambda file: label_picture.save(file, format="PNG")
    if outputs.marginals is not None:
        writers[outputs.marginals] = lambda file: np.save(file, marginals)
    if outputs.overlay is not None:
        mixed = pictures.overlay(image, labels, colors=pictures.label_colors(num_labels))
        overlay_picture = Image.fromarray(mixed)
        writers[outputs.overlay] = lambda file: overlay_picture.save(file, format="PNG")
    return writers
