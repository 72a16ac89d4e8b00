"""Losses of scores at labelled nodes, with their gradients, in float64.

All take scores z in place of marginals q = softmax(z): where float32 would round a marginal to
0, its logarithm and the gradient by z are still numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Float64Array: TypeAlias = npt.NDArray[np.float64]
LossName: TypeAlias = Literal["cross_entropy", "soft_iou", "soft_accuracy"]
Loss: TypeAlias = Callable[[Float64Array, npt.NDArray[np.intp]], tuple[float, Float64Array]]

LOSS_NAMES: tuple[LossName, ...] = get_args(LossName)


def cross_entropy(scores: Float64Array, truth: npt.NDArray[np.intp]) -> tuple[float, Float64Array]:
    """Mean over nodes of ``-log q[truth]``, with q the softmax of the scores.

    Parameters
    ----------
    scores : (C, N) array of float64
        Scores of N labelled nodes, 1 or more.
    truth : (N,) array of int
        Labels 0 .. C-1.

    Returns
    -------
    loss : float
    gradient : (C, N) ndarray of float64
        By the scores: ``(q - [l = truth]) / N``.
    """
    nodes = np.arange(truth.size)
    shifted = scores - scores.max(axis=0)
    at_truth = shifted[truth, nodes]
    q = np.exp(shifted, out=shifted)
    sums = q.sum(axis=0)
    loss = float(np.mean(np.log(sums) - at_truth))
    q /= sums * truth.size
    q[truth, nodes] -= 1 / truth.size
    return loss, q


def soft_iou(scores: Float64Array, truth: npt.NDArray[np.intp]) -> tuple[float, Float64Array]:
    """Return 1 minus the mean, over the labels that occur, of the soft intersection over union.

    ``IoU_l = sum_i q_i(l) y_i(l) / sum_i (q_i(l) + y_i(l) - q_i(l) y_i(l))`` with y the labels as
    0 and 1, and q the softmax of the scores: for q of 0 and 1 the usual intersection over union.

    Parameters
    ----------
    scores, truth
        As for `cross_entropy`.

    Returns
    -------
    loss : float
        From 0 to 1.
    gradient : (C, N) ndarray of float64
        By the scores.
    """
    nodes = np.arange(truth.size)
    q = _softmax(scores)
    counts = np.bincount(truth, minlength=len(scores)).astype(np.float64)
    at_truth = q[truth, nodes]
    intersections = np.bincount(truth, weights=at_truth, minlength=len(scores))
    occurs = counts > 0
    unions = np.where(occurs, q.sum(axis=1) + counts - intersections, 1)
    share = occurs / occurs.sum()
    loss = 1 - float(share @ (intersections / unions))
    # Where y = 0, q adds to the union alone; where y = 1, to the intersection alone.
    by_q = np.repeat((share * intersections / unions**2)[:, None], truth.size, axis=1)
    by_q[truth, nodes] = -(share / unions)[truth]
    by_q -= np.einsum("cn,cn->n", q, by_q)
    by_q *= q
    return loss, by_q


def soft_accuracy(scores: Float64Array, truth: npt.NDArray[np.intp]) -> tuple[float, Float64Array]:
    """Return 1 minus the mean over nodes of ``q[truth]``, with q the softmax of the scores.

    Parameters
    ----------
    scores, truth
        As for `cross_entropy`.

    Returns
    -------
    loss : float
        From 0 to 1.
    gradient : (C, N) ndarray of float64
        By the scores: ``q[truth] (q - [l = truth]) / N``.
    """
    nodes = np.arange(truth.size)
    q = _softmax(scores)
    at_truth = q[truth, nodes]
    loss = 1 - float(at_truth.mean())
    q[truth, nodes] -= 1
    q *= at_truth / truth.size
    return loss, q


def _softmax(scores: Float64Array) -> Float64Array:
    q: Float64Array = np.exp(scores - scores.max(axis=0))
    q /= q.sum(axis=0)
    return q


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "soft_iou": soft_iou,
    "soft_accuracy": soft_accuracy,
}
