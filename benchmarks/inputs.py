"""What is measured on: photographs with a network's scores, and inputs made from a seed.

A photograph comes with class probabilities, upsampled from the network's grid. The one that ships
with the package is always there; ``--photographs DIR`` adds those of a folder with ``images`` and
``unaries``, as benchmarks/README.md describes it. Larger and smaller inputs are cut from and
tiled of the first photograph, so that colours and textures stay real.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import densefield as df
from densefield.scores import image_probabilities, load_scores

Array = npt.NDArray[Any]

# Smooth, typical and textured photographs of the folder, where they are there; else its first.
PREFERRED = ("2007_000033", "2007_000332", "2007_000346", "2007_001284", "2007_001288")
MOST_PHOTOGRAPHS = 5
FLOOR = 1e-5  # of a probability: energies stay below 11.5


@dataclass(frozen=True)
class Scene:
    """An image (*grid, channels) of uint8 and probabilities (C, *grid) of float32."""

    name: str
    image: Array
    probabilities: Array

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape without labels and channels."""
        return self.probabilities.shape[1:]

    @property
    def unary(self) -> Array:
        """Energies, (C, *grid) float32."""
        clipped = np.maximum(self.probabilities, FLOOR)
        return np.ascontiguousarray(df.unary_from_probabilities(clipped / clipped.sum(axis=0)))

    def with_labels(self, num_labels: int) -> Scene:
        """Return the scene with its most frequent labels, or more by splitting each of them."""
        chosen = np.argsort(-self.probabilities.mean(axis=tuple(range(1, 1 + len(self.grid)))))
        kept = self.probabilities[np.resize(chosen, num_labels)]
        rng = np.random.default_rng(num_labels)
        shares = 0.5 + rng.random((num_labels,) + (1,) * len(self.grid), np.float32)
        kept = np.maximum(kept * shares, FLOOR)
        return Scene(self.name, self.image, kept / kept.sum(axis=0))

    def resized(self, height: int, width: int) -> Scene:
        """Cut the middle out of the scene; where it is too small it is mirrored first."""
        pad = [(0, max(0, height - self.grid[0])), (0, max(0, width - self.grid[1]))]
        image = np.pad(self.image, [*pad, (0, 0)], mode="symmetric")
        probabilities = np.pad(self.probabilities, [(0, 0), *pad], mode="symmetric")
        y, x = (max(0, n - size) // 2 for n, size in zip(self.grid, (height, width), strict=True))
        rows, columns = slice(y, y + height), slice(x, x + width)
        cut = np.ascontiguousarray(probabilities[:, rows, columns])
        return Scene(self.name, np.ascontiguousarray(image[rows, columns]), cut)


def shipped() -> Scene:
    """Return the photograph that comes with the package: 512 x 512, 21 labels."""
    folder = Path(df.__file__).parent / "data"
    return _read(folder / "astronaut.jpg", folder / "astronaut_scores.npz")


def photographs(folder: Path | None) -> Iterator[Scene]:
    """Yield the shipped photograph, and up to five of a folder."""
    yield shipped()
    if folder is None:
        return
    known = {path.stem: path for path in sorted((folder / "images").iterdir())}
    names = [name for name in PREFERRED if name in known]
    names += [name for name in known if name not in names]
    for name in names[:MOST_PHOTOGRAPHS]:
        yield _read(known[name], folder / "unaries" / f"{name}.npz")


def volume(shape: tuple[int, int, int] = (120, 150, 100), seed: int = 3) -> Scene:
    """Return a volume of bright balls in noise, one channel, two labels."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    inside = np.zeros(shape, bool)
    for _ in range(12):
        centre = rng.random(3) * shape
        radius = rng.uniform(0.08, 0.2) * min(shape)
        squares = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
        inside |= squares < radius**2
    noise = rng.normal(0, 12, shape)
    image = np.clip(80 + 70 * inside + noise, 0, 255).astype(np.uint8)[..., None]
    foreground = np.clip(0.2 + 0.6 * inside + rng.normal(0, 0.2, shape), 0.02, 0.98)
    probabilities = np.stack([1 - foreground, foreground]).astype(np.float32)
    return Scene("balls in noise", image, probabilities)


def _read(image_path: Path, scores_path: Path) -> Scene:
    from PIL import Image

    image = np.array(Image.open(image_path).convert("RGB"))
    probabilities = image_probabilities(load_scores(scores_path), image.shape[:2])
    return Scene(image_path.stem, image, np.ascontiguousarray(probabilities))
