"""Unary energies from labels and probabilities, and features of grids and images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from densefield._arrays import as_float_array, axis_index
from densefield.pydensecrf._arguments import (
    Float32Array,
    as_array,
    as_float32,
    as_real,
    as_sigmas,
    as_size,
    check_reach,
)

__all__ = [
    "compute_unary",
    "create_pairwise_bilateral",
    "create_pairwise_gaussian",
    "softmax_to_unary",
    "unary_from_labels",
    "unary_from_softmax",
]


def unary_from_labels(
    labels: npt.ArrayLike, n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> Float32Array:
    """Unary energies of a label map that is right with a given probability.

    ``U[l] = -log(gt_prob)`` for a pixel's own label, and ``-log((1 - gt_prob) / (n_labels - 1))``
    for the others.

    Parameters
    ----------
    labels : array of int, any shape
        Labels 0 .. n_labels-1, or, with `zero_unsure`, 1 .. n_labels and 0 for "unknown".
    n_labels : int
        Number of labels, 2 or more, not counting the 0 of `zero_unsure`.
    gt_prob : float
        How sure the labels are, in (0, 1).
    zero_unsure : bool, default True
        0 means "unknown": all labels get the energy ``log(n_labels)``, and label l gets row l-1.

    Returns
    -------
    (n_labels, npixels) ndarray of float32

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If a label is out of range, or another argument is.

    Notes
    -----
    The original takes negative labels for others without a word, raises AssertionError for
    gt_prob, and stops at uint8 labels that contain a 0.

    Examples
    --------
    >>> unary_from_labels([0, 1], 2, 0.9, zero_unsure=False).round(3)
    array([[0.105, 2.303],
           [2.303, 0.105]], dtype=float32)
    """
    given = as_array("labels", labels).reshape(-1)
    if given.dtype.kind not in "iub":
        raise TypeError(
            f"labels must be integers, got dtype {given.dtype}; convert them with .astype(int), "
            f"or use unary_from_softmax for probabilities"
        )
    count = as_size("n_labels", n_labels, minimum=2)
    sure = as_real("gt_prob", gt_prob)
    if not 0 < sure < 1:
        raise ValueError(f"gt_prob must be between 0 and 1, both excluded, got {gt_prob!r}")
    first = 1 if zero_unsure else 0
    if given.size and (given.min() < 0 or given.max() >= count + first):
        raise ValueError(
            f"labels must lie in 0 .. {count - 1 + first} for n_labels={count} and "
            f"zero_unsure={bool(zero_unsure)}, got {given.min()} .. {given.max()}"
        )
    energies = np.full((count, given.size), -np.log((1.0 - sure) / (count - 1)), np.float32)
    # Row -1 for "unknown" is overwritten in the next step.
    energies[given.astype(np.intp) - first, np.arange(given.size)] = -np.log(sure)
    if zero_unsure:
        energies[:, given == 0] = -np.log(1.0 / count)
    return energies


def compute_unary(labels: npt.ArrayLike, M: int, GT_PROB: float = 0.5) -> Float32Array:
    """`unary_from_labels` under its old name; warns with DeprecationWarning."""
    _warn_of_old_name("compute_unary", "unary_from_labels")
    return unary_from_labels(labels, M, GT_PROB)


def unary_from_softmax(
    sm: npt.ArrayLike, scale: float | None = None, clip: float | None = 1e-5
) -> Float32Array:
    """Unary energies of class probabilities, ``U = -log(clip(p, clip, 1))``.

    Parameters
    ----------
    sm : (nlabels, ...) array of float
        Probabilities, labels first.
    scale : float, optional
        How sure the probabilities are, in (0, 1]: ``p = scale * sm + (1 - scale) / nlabels``.
    clip : float or None, default 1e-5
        The smallest probability that is believed. None believes all, and gives infinite
        energies for 0, which no CRF takes.

    Returns
    -------
    (nlabels, npixels) ndarray of float32

    Raises
    ------
    TypeError, ValueError
        If `sm` has no dimension or holds NaN, or `scale` or `clip` is out of range.

    Notes
    -----
    The original raises AssertionError for scale, and lets NaN pass.

    Examples
    --------
    >>> unary_from_softmax([[1.0], [0.0]]).round(2) + 0
    array([[ 0.  ],
           [11.51]], dtype=float32)
    """
    p = as_float_array("sm", as_array("sm", sm))
    if p.ndim == 0 or p.shape[0] == 0:
        raise ValueError(f"sm must have shape (nlabels, ...), got {p.shape}")
    if scale is not None:
        sure = as_real("scale", scale)
        if not 0 < sure <= 1:
            raise ValueError(f"scale must be above 0 and at most 1, got {scale!r}")
        # In float64, as the original has it.
        p = sure * p + (1 - sure) * (np.ones(p.shape) / p.shape[0])
    if clip is not None:
        smallest = as_real("clip", clip)
        if not 0 <= smallest <= 1:
            raise ValueError(f"clip must be between 0 and 1, got {clip!r}")
        p = np.clip(p, smallest, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        energies = -np.log(p).reshape(p.shape[0], p.size // p.shape[0])
    return energies.astype(np.float32)


def softmax_to_unary(sm: npt.ArrayLike, GT_PROB: float = 1) -> Float32Array:
    """`unary_from_softmax` under its old name and without clip; warns DeprecationWarning."""
    _warn_of_old_name("softmax_to_unary", "unary_from_softmax")
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(sdims: Any, shape: Sequence[int]) -> Float32Array:
    """Features of a spatial kernel on a grid, for `DenseCRF.addPairwiseEnergy`.

    Parameters
    ----------
    sdims : sequence of float
        Standard deviations in the order of `shape`, so rows first for an image; or one for all.
    shape : sequence of int
        The grid.

    Returns
    -------
    (d, npixels) ndarray of float32

    Raises
    ------
    TypeError, ValueError
        If `sdims` and `shape` disagree or hold what is no standard deviation or size.

    Notes
    -----
    `DenseCRF2D.addPairwiseGaussian` has x first, so the two differ a little: the lattice depends
    on the order. The original mixes up the pixels where `sdims` and `shape` disagree.

    Examples
    --------
    >>> create_pairwise_gaussian((1, 2), (2, 2))
    array([[0. , 0. , 1. , 1. ],
           [0. , 0.5, 0. , 0.5]], dtype=float32)
    """
    if np.ndim(shape) != 1 or len(shape) == 0:
        raise ValueError(f"shape must be a sequence of sizes such as img.shape[:2], got {shape!r}")
    grid = tuple(as_size(f"shape[{i}]", n, minimum=1) for i, n in enumerate(shape))
    positions = np.indices(grid, dtype=np.float32)
    sigmas = as_sigmas("sdims", sdims, len(grid), "entry of shape")
    return _scaled("sdims", positions, sigmas)


def create_pairwise_bilateral(
    sdims: Any, schan: Any, img: npt.ArrayLike, chdim: int = -1
) -> Float32Array:
    """Features of an appearance kernel on an image, for `DenseCRF.addPairwiseEnergy`.

    Parameters
    ----------
    sdims : sequence of float
        Standard deviations of the position in the order of the image's axes without the
        channels, so rows first; or one for all.
    schan : float or sequence of float
        Standard deviations of the channels, in the image's own units.
    img : array of float or int
        The image, any number of axes.
    chdim : int, default -1
        The axis of the channels, 2 for an (h, w, 3) image. -1 means that there are none, and
        not the last axis.

    Returns
    -------
    (d, npixels) ndarray of float32
        Positions first, then channels.

    Raises
    ------
    TypeError, ValueError
        If the standard deviations do not fit the image, or values are not finite.

    Notes
    -----
    `DenseCRF2D.addPairwiseBilateral` has x first, so the two differ a little. The original leaves
    channels and axes without a standard deviation as they are; here that is an error.

    Examples
    --------
    >>> create_pairwise_bilateral((1, 2), 10, [[20, 30]])
    array([[0. , 0. ],
           [0. , 0.5],
           [2. , 3. ]], dtype=float32)
    """
    values = as_array("img", img)
    if chdim == -1:
        channels = values[np.newaxis]
    else:
        channels = np.moveaxis(values, axis_index("chdim", chdim, values.ndim), 0)
    if channels.ndim < 2 or channels.size == 0:
        raise ValueError(f"img must have pixels and channels, got shape {values.shape}")
    grid = channels.shape[1:]
    hint = f"axis of the image {grid}; chdim={chdim}, -1 means no channels"
    space = as_sigmas("sdims", sdims, len(grid), hint)
    color = as_sigmas("schan", schan, channels.shape[0], f"channel; chdim={chdim}")
    colors = as_float32("img", channels, ndim=channels.ndim)
    return np.concatenate(
        [
            _scaled("sdims", np.indices(grid, dtype=np.float32), space),
            _scaled("schan", colors.copy(), color),
        ]
    )


def _scaled(name: str, table: Float32Array, sigmas: list[np.float32]) -> Float32Array:
    """Divide the rows of a table that may be changed, and make them flat."""
    rows = table.reshape(len(sigmas), -1)
    with np.errstate(over="ignore", under="ignore"):  # found in the next lines
        rows /= np.array(sigmas, dtype=np.float32)[:, None]
    check_reach(f"{name} must keep features", rows, "use larger ones")
    return rows


def _warn_of_old_name(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated, use {new}", DeprecationWarning, stacklevel=3)
