"""What a model is fitted to: images, energies and labels, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from densefield._arrays import (
    FloatArray,
    as_float_array,
    as_labels,
    as_number,
    as_plain_array,
    axis_index,
)
from densefield.crf import DenseCRF
from densefield.kernels import Bilateral
from densefield.stored_model import remade

Arrays: TypeAlias = Sequence[npt.ArrayLike]
Triple: TypeAlias = tuple[Arrays | None, Arrays, Arrays]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its energies, and the labels of those nodes that have one."""

    image: npt.NDArray[Any] | None
    channel_axis: int | None
    unary: FloatArray  # (C, *grid)
    nodes: npt.NDArray[np.intp]  # (N,) of the flattened grid
    truth: npt.NDArray[np.intp]  # (N,)


@dataclass(frozen=True)
class Axes:
    """Where labels and channels are, and which label says that there is none."""

    label_axis: int
    channel_axis: int | None
    ignore_label: int | None


def check_samples(
    crf: DenseCRF, images: Any, unaries: Any, labels: Any, axes: Axes, *, within: str = ""
) -> list[Sample]:
    """Return the samples, or raise; the model is tried on one node of each.

    `within` is put before the names of the arguments.
    """
    looks = any(isinstance(kernel, Bilateral) for kernel in crf.kernels)
    if images is None and looks:
        raise ValueError(
            f"{within}images must be given, because a Bilateral kernel looks at them; "
            f"without images fit a model of Gaussian kernels"
        )
    named = {"unaries": unaries, "labels": labels}
    if images is not None:
        named["images"] = images
    for name, arrays in named.items():
        if isinstance(arrays, str) or not isinstance(arrays, Sequence | np.ndarray):
            raise TypeError(
                f"{within}{name} must be a sequence of arrays, got {type(arrays).__name__}; "
                f"for one image write [array]"
            )
    counts = {name: len(arrays) for name, arrays in named.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} {within}{name}" for name, count in counts.items())
        raise ValueError(
            f"there must be as many images as unaries and labels, got {said}; "
            f"for one image write [array]"
        )
    if not len(unaries):
        raise ValueError(f"{within}unaries must hold one array or more, got none")
    samples = []
    for i in range(len(unaries)):
        image = images[i] if images is not None and looks else None
        samples.append(_check_sample(crf, image, unaries[i], labels[i], axes, within, i))
    return samples


def _check_sample(
    crf: DenseCRF, image: Any, unary: Any, labels: Any, axes: Axes, within: str, i: int
) -> Sample:
    name = f"{within}unaries[{i}]"
    values = as_float_array(name, unary, can_skip=False)
    if values.ndim < 2:
        raise ValueError(f"{name} must have shape (C, *grid), got {values.shape}")
    values = np.moveaxis(values, axis_index("label_axis", axes.label_axis, values.ndim), 0)
    try:
        truth = as_labels(labels, "convert them with astype(int)")
    except (TypeError, ValueError) as error:
        raise type(error)(f"{within}labels[{i}]: {error}") from error
    nodes, truth = _labelled(truth, values, axes.ignore_label, f"{within}labels[{i}]")
    pixels = None
    if image is not None:
        pixels = as_plain_array(f"{within}images[{i}]", image)
        # The core looks again, but only when its turn comes.
        as_float_array(f"{within}images[{i}]", pixels, can_skip=False)
    sample = Sample(pixels, axes.channel_axis, values, nodes, truth)
    _try_one_node(crf, sample, f"{within}images[{i}]", name)
    return sample


def _labelled(
    labels: npt.NDArray[Any], unary: FloatArray, ignore_label: int | None, name: str
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return which nodes have a label, and which."""
    if labels.shape != unary.shape[1:]:
        raise ValueError(
            f"{name} must have the grid of the unary, {unary.shape[1:]}, got {labels.shape}; "
            f"labels-last unaries need label_axis=-1"
        )
    flat = labels.reshape(-1)
    known = np.ones(flat.shape, bool) if ignore_label is None else flat != ignore_label
    nodes = np.flatnonzero(known)
    truth = flat[nodes].astype(np.int64)
    wrong = (truth < 0) | (truth >= len(unary))
    if wrong.any():
        raise ValueError(
            f"{name} must lie in 0 .. {len(unary) - 1}, got {int(wrong.sum())} others, for "
            f"example {truth[wrong][0]}; nodes without a label have ignore_label, {ignore_label}"
        )
    if not nodes.size:
        raise ValueError(
            f"{name} must have one labelled node or more, got none: all are ignore_label, "
            f"{ignore_label}; leave the image out"
        )
    return nodes, truth.astype(np.intp)


def _try_one_node(crf: DenseCRF, sample: Sample, image_name: str, unary_name: str) -> None:
    """Let the model check one node of the sample: shapes, channels, number of labels."""
    grid = sample.unary.shape[1:]
    corner = sample.unary[(slice(None), *[slice(0, 1)] * len(grid))]
    image = sample.image
    if image is not None:
        axis = sample.channel_axis
        pixels = image[..., None]
        if axis is not None and image.ndim > len(grid):
            pixels = np.moveaxis(image, axis_index("channel_axis", axis, image.ndim), -1)
        if pixels.shape[:-1] != grid:
            raise ValueError(
                f"{image_name} has the grid {pixels.shape[:-1]}, but {unary_name} has {grid}; "
                f"a channels-first image needs channel_axis=0"
            )
        image = pixels[(*[slice(0, 1)] * len(grid),)]
    try:
        remade(crf, iterations=1).infer(corner, image)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{image_name} or {unary_name} does not fit crf: {error}") from error


def split(
    samples: list[Sample], fraction: Any, rng: int | np.random.Generator
) -> tuple[list[Sample], list[Sample]]:
    """Return the samples to learn from and those to validate on, drawn at random."""
    share = as_number("validation", fraction, minimum=0)
    if share >= 1:
        raise ValueError(
            f"validation must be a fraction below 1 or (images, unaries, labels), got {share:g}"
        )
    if share == 0:
        return samples, []
    count = max(1, round(share * len(samples)))
    if count >= len(samples):
        raise ValueError(
            f"validation={share:g} of {len(samples)} images leaves none to learn from; "
            f"give more images, or validation=(images, unaries, labels)"
        )
    try:
        drawn = set(np.random.default_rng(rng).permutation(len(samples))[:count].tolist())
    except (TypeError, ValueError) as error:
        raise type(error)(f"rng must be a seed or a numpy Generator, got {rng!r}") from error
    kept = [sample for i, sample in enumerate(samples) if i not in drawn]
    return kept, [sample for i, sample in enumerate(samples) if i in drawn]
