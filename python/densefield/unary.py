"""Unary energies from what a network, an annotator or another method gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from densefield._arrays import (
    FloatArray,
    as_count,
    as_float_array,
    as_labels,
    as_number,
    axis_index,
)


def unary_from_probabilities(
    probabilities: npt.ArrayLike, *, epsilon: float = 1e-5, check_finite: bool = True
) -> FloatArray:
    """Unary energies of class probabilities.

    ``U = -log(clip(p, epsilon, 1))``, maths §1.

    Parameters
    ----------
    probabilities : (C, *grid) or (N, C) array of float
        Any shape; values from 0 to 1.
    epsilon : float, default 1e-5
        The smallest probability that is believed: it bounds the energy of a label.
    check_finite : bool, default True
        Refuse NaN and infinity.

    Returns
    -------
    ndarray of float32 or float64
        Energies in the shape given; float64 only for float64.

    Raises
    ------
    ValueError
        If a value lies outside [0, 1] by more than 1e-3 (logits go to `unary_from_logits`),
        is not finite, or epsilon is not in (0, 1).

    Examples
    --------
    >>> unary_from_probabilities([[1.0], [0.0]]).round(2)
    array([[ 0.  ],
           [11.51]])
    """
    p = np.atleast_1d(as_float_array("probabilities", probabilities, check_finite=check_finite))
    epsilon = as_number("epsilon", epsilon, positive=True)
    if epsilon >= 1:
        raise ValueError(f"epsilon must be below 1, got {epsilon}")
    tolerance = 1e-3  # what rounding to half precision and upsampling can add
    if p.size and (p.min() < -tolerance or p.max() > 1 + tolerance):
        raise ValueError(
            f"probabilities must lie in [0, 1], got values from {p.min():g} to {p.max():g}; "
            f"for network scores use unary_from_logits"
        )
    # Not below what the array's precision can hold: the logarithm of 0 is infinite.
    energies = np.clip(p, max(epsilon, float(np.finfo(p.dtype).tiny)), 1)
    np.log(energies, out=energies)
    np.negative(energies, out=energies)
    energies += 0  # -log(1) is -0
    return energies


def unary_from_logits(
    logits: npt.ArrayLike, *, label_axis: int = 0, check_finite: bool = True
) -> FloatArray:
    """Unary energies of a network's raw scores.

    ``U = -log_softmax(z)``, maths §1.

    Parameters
    ----------
    logits : (C, *grid) array of float
        Scores before the softmax.
    label_axis : int, default 0
        Where the labels are.
    check_finite : bool, default True
        Refuse NaN and infinity.

    Returns
    -------
    ndarray of float32 or float64
        Energies in the shape given, 0 or more; float64 only for float64.

    Raises
    ------
    ValueError
        If a value is not finite or there is no such axis.

    Examples
    --------
    >>> unary_from_logits([[0.0], [0.0]]).round(3)
    array([[0.693],
           [0.693]])
    """
    z = as_float_array("logits", logits, check_finite=check_finite)
    axis = axis_index("label_axis", label_axis, z.ndim)
    if z.size == 0:
        return z.copy()
    largest = z.max(axis=axis, keepdims=True)
    log_sum: FloatArray = np.log(np.exp(z - largest).sum(axis=axis, keepdims=True)) + largest
    return log_sum - z


def unary_from_labels(
    labels: npt.ArrayLike,
    num_labels: int,
    *,
    confidence: float = 0.7,
    unknown: int | None = None,
) -> FloatArray:
    """Unary energies of hard labels that are right with a given probability.

    A node with label l gets ``U[l] = -log(confidence)`` and
    ``U[l'] = -log((1 - confidence) / (C - 1))`` for the others; an unknown node gets
    ``log(C)`` for every label.

    Parameters
    ----------
    labels : (*grid) array of int
        Labels 0 .. C-1.
    num_labels : int
        C, 2 or more.
    confidence : float, default 0.7
        How sure the labels are (`gt_prob` in older packages), in (0, 1).
    unknown : int, optional
        A value that stands for "no label here", for example 255 or -1.

    Returns
    -------
    (C, *grid) ndarray of float32

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If a label lies outside 0 .. C-1 and is not `unknown`.

    Examples
    --------
    >>> unary_from_labels([0, 1], 2, confidence=0.9).round(3)
    array([[0.105, 2.303],
           [2.303, 0.105]], dtype=float32)
    """
    given = as_labels(labels, "for probabilities use unary_from_probabilities")
    if unknown is not None and not isinstance(unknown, int | np.integer):
        raise TypeError(
            f"unknown must be an integer or None, got {type(unknown).__name__} {unknown!r}"
        )
    count = as_count("num_labels", num_labels, minimum=2)
    confidence = as_number("confidence", confidence, positive=True)
    if confidence >= 1:
        raise ValueError(f"confidence must be below 1, got {confidence}")
    known = np.ones(given.shape, bool) if unknown is None else given != unknown
    wrong = known & ((given < 0) | (given >= count))
    if wrong.any():
        raise ValueError(
            f"labels must lie in 0 .. {count - 1}, got {int(wrong.sum())} others, "
            f"for example {given[wrong][0]}; name a value for 'no label' with unknown="
        )
    energies = np.full((count, *given.shape), -np.log((1 - confidence) / (count - 1)), np.float32)
    energies[:, ~known] = np.log(count)
    np.put_along_axis(
        energies,
        np.where(known, given, 0)[None].astype(np.intp),
        np.where(known, -np.log(confidence), np.log(count))[None].astype(np.float32),
        axis=0,
    )
    return energies
