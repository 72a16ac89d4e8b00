"""Batches of random images with their unaries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def make_batch(size: int, grid: tuple[int, ...], dtype: str = "f4") -> tuple[Array, Array]:
    """Make unaries of 3 labels and images of 2 channels, both (size, .., *grid)."""
    rng = np.random.default_rng(size)
    unary, image = rng.normal(size=(size, 3, *grid)), rng.normal(size=(size, 2, *grid))
    return unary.astype(dtype), image.astype(dtype)
