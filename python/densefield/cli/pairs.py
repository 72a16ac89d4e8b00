"""Which image goes with which scores, and which files come out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

__all__ = ["SCORE_SUFFIXES", "Outputs", "Pair", "Pairing", "files_by_stem", "match_by_stem"]

SCORE_SUFFIXES = frozenset({".npy", ".npz"})


class Outputs(NamedTuple):
    """The files that one refinement writes; None: not wanted."""

    labels: Path | None
    marginals: Path | None
    overlay: Path | None

    @classmethod
    def beside(
        cls, labels: Path, *, with_labels: bool, with_marginals: bool, with_overlay: bool
    ) -> Outputs:
        """Name the files after the one for the labels: x.png, x.npy, x_overlay.png."""
        return cls(
            labels if with_labels else None,
            labels.with_name(f"{labels.stem}.npy") if with_marginals else None,
            labels.with_name(f"{labels.stem}_overlay.png") if with_overlay else None,
        )

    def wanted(self) -> list[Path]:
        """List the files that are to be written."""
        return [path for path in self if path is not None]


class Pair(NamedTuple):
    """An image and its scores."""

    image: Path
    scores: Path


class Pairing(NamedTuple):
    """What two folders hold: pairs by stem, and what is wrong with the other files, by name."""

    pairs: dict[str, Pair]
    problems: dict[str, str]


def match_by_stem(images: Path, scores: Path) -> Pairing:
    """Match the images of one folder with the scores of another: cat.jpg with cat.npz.

    Subfolders, hidden files and files of other kinds are left alone.

    Parameters
    ----------
    images : Path
        Folder with image files of any format that Pillow reads.
    scores : Path
        Folder with .npy and .npz files. It may be the same folder.

    Returns
    -------
    Pairing
        Both parts sorted by stem.
    """
    image_files = files_by_stem(images, Image.registered_extensions())
    score_files = files_by_stem(scores, SCORE_SUFFIXES)
    pairs: dict[str, Pair] = {}
    problems: dict[str, str] = {}
    for stem in sorted(image_files.keys() | score_files.keys()):
        found_images, found_scores = image_files.get(stem, []), score_files.get(stem, [])
        if not found_scores:
            problems[found_images[0].name] = f"no scores {stem}.npy or {stem}.npz in {scores}"
        elif not found_images:
            problems[found_scores[0].name] = f"no image named {stem} in {images}"
        elif len(found_images) > 1 or len(found_scores) > 1:
            names = ", ".join(path.name for path in found_images + found_scores)
            problems[stem] = f"more than one image or scores file of this name: {names}"
        else:
            pairs[stem] = Pair(found_images[0], found_scores[0])
    return Pairing(pairs, problems)


def files_by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, list[Path]]:
    """Return the files of some kinds in a folder, by their names without the suffix."""
    known = frozenset(suffixes)
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file():
            found[path.stem].append(path)
    return found
