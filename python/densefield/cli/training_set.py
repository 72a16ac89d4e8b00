"""Which image goes with which scores and labels, and reading all three."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt
from PIL import Image

import densefield
from densefield import pictures
from densefield.cli.pairs import SCORE_SUFFIXES, files_by_stem
from densefield.scores import Kind, image_probabilities, load_scores

__all__ = ["Arrays", "Example", "find_examples", "read_example", "read_names"]

_LABEL_SUFFIXES = frozenset({".png", ".npy"})


class Example(NamedTuple):
    """The files of one image."""

    image: Path
    scores: Path
    labels: Path


class Arrays(NamedTuple):
    """What `densefield.fit` takes of one image."""

    image: pictures.Pixels
    unary: npt.NDArray[np.float32]
    labels: npt.NDArray[Any]


def read_names(path: Path) -> list[str]:
    """Read a list of names, one in a line, with or without a suffix; empty lines are left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    # VOC's lists may have more columns.
    names = [line.split()[0] for line in lines if line.split()]
    known = SCORE_SUFFIXES | _LABEL_SUFFIXES | Image.registered_extensions().keys()
    return [
        name[: -len(s)] if (s := Path(name).suffix).lower() in known else name for name in names
    ]


def find_examples(
    images: Path, scores: Path, labels: Path, names: Iterable[str] | None
) -> dict[str, Example]:
    """Match three files, or the files of three folders by name.

    Parameters
    ----------
    images, scores, labels : Path
        Files or folders: cat.jpg goes with cat.npz and cat.png.
    names : iterable of str, or None
        Which of a folder's images; None: all.

    Returns
    -------
    dict of str to Example
        Sorted by name.

    Raises
    ------
    click.ClickException
        If a file is missing, or there are several of one name.
    """
    kinds = {path.is_dir() for path in (images, scores, labels)}
    if len(kinds) > 1:
        raise click.UsageError(
            f"IMAGES, SCORES and LABELS must be three files or three folders, got {images}, "
            f"{scores} and {labels}"
        )
    if not images.is_dir():
        return {images.stem: Example(images, scores, labels)}
    found = {
        "image": files_by_stem(images, Image.registered_extensions()),
        "scores": files_by_stem(scores, SCORE_SUFFIXES),
        "labels": files_by_stem(labels, _LABEL_SUFFIXES),
    }
    if images == labels:  # cat.png cannot be both
        raise click.UsageError("IMAGES and LABELS must be two folders")
    stems = sorted(set(names) if names is not None else set().union(*found.values()))
    problems, examples = [], {}
    for stem in stems:
        files = {kind: by_stem.get(stem, []) for kind, by_stem in found.items()}
        wrong = [f"{len(paths) or 'no'} {kind}" for kind, paths in files.items() if len(paths) != 1]
        if wrong:
            problems.append(f"  {stem}: {', '.join(wrong)}")
        else:
            examples[stem] = Example(**{kind: paths[0] for kind, paths in files.items()})
    if problems:
        raise click.ClickException(
            "\n".join(
                ["every name needs one image, one file of scores and one of labels:", *problems]
                + ([] if names is not None else ["--names FILE chooses among them"])
            )
        )
    if not examples:
        raise click.UsageError(f"no images in {images}, or no names in the list")
    return examples


def read_example(example: Example, kind: Kind) -> Arrays:
    """Read one image with its energies and labels; an error names the file."""
    path = example.image
    try:
        image = pictures.read_photograph(path)
        path = example.scores
        probabilities = image_probabilities(load_scores(path), image.shape[:2], kind=kind)
        unary = densefield.unary_from_probabilities(probabilities)
        path = example.labels
        labels = pictures.read_labels(path)
        if labels.shape != image.shape[:2]:
            raise ValueError(
                f"the labels have shape {labels.shape}, the image {example.image.name} has "
                f"{image.shape[:2]}; labels must have the image's size"
            )
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error
    return Arrays(image, np.ascontiguousarray(unary, np.float32), labels)
