"""Small labelled images whose labels were drawn from the marginals of a known model."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import densefield as df


class Fields(NamedTuple):
    """What `densefield.fit` takes."""

    images: list[NDArray[np.uint8]]
    unaries: list[NDArray[Any]]
    labels: list[NDArray[np.intp]]


def draw_fields(
    crf: df.DenseCRF,
    shapes: tuple[tuple[int, int], ...],
    *,
    num_labels: int = 3,
    seed: int = 0,
    dtype: type = np.float64,
) -> Fields:
    """Draw every node's label from its marginal: the cross-entropy is least at that model."""
    rng = np.random.default_rng(seed)
    fields = Fields([], [], [])
    for shape in shapes:
        image = rng.integers(0, 40, (*shape, 3), dtype=np.uint8)
        image[:, shape[1] // 2 :] += 120
        unary = rng.normal(size=(num_labels, *shape)).astype(dtype)
        q = crf.infer(unary, image)
        cumulated = q.cumsum(axis=0)
        drawn = (rng.random(shape) * cumulated[-1] > cumulated[:-1]).sum(axis=0)
        fields.images.append(image)
        fields.unaries.append(unary)
        fields.labels.append(drawn)
    return fields
