"""Exact sums at some of the nodes, in float64: what every fast result is compared with.

All N terms of a sum are added, but only for a sample of the nodes, since all of them would take
N^2 exponentials. Kernels are normalised on the left, (K v)_i / (K 1)_i, because that needs the
norm at the sampled nodes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from densefield import reference

Floats = npt.NDArray[np.float64]

SAMPLES = 128  # nodes; a root mean square over them and all labels is good to a few percent
_CHUNK_BYTES = 64 << 20


def sample_nodes(num_nodes: int, seed: int = 11) -> npt.NDArray[np.int64]:
    """Return the nodes whose sums are computed, in ascending order."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(num_nodes, min(SAMPLES, num_nodes), replace=False)
    return np.sort(chosen).astype(np.int64)


def unsure_nodes(unary: npt.ArrayLike, seed: int = 11) -> npt.NDArray[np.int64]:
    """Return nodes of the least sure tenth, for energies (C, *grid).

    Elsewhere one label has won before any message is added, and every method is right.
    """
    energies = np.asarray(unary)
    table = np.sort(energies.reshape(len(energies), -1), axis=0)
    margin = table[1] - table[0] if len(table) > 1 else table[0]
    unsure = np.argsort(margin, kind="stable")[: max(1, len(margin) // 10)]
    return np.sort(unsure[sample_nodes(len(unsure), seed)])


def normalized_sums(
    features: npt.ArrayLike, values: npt.ArrayLike, nodes: npt.NDArray[np.int64]
) -> Floats:
    """Return (K v) / (K 1) at some nodes, (R, C), for features (N, d) and values (N, C)."""
    points = np.asarray(features, np.float64)
    table = np.asarray(values, np.float64)
    squares = (points**2).sum(axis=1)
    out = np.empty((len(nodes), table.shape[1]))
    rows = max(1, _CHUNK_BYTES // (8 * len(points)))
    for first in range(0, len(nodes), rows):
        chunk = nodes[first : first + rows]
        # -|a - b|^2 / 2; rounding may leave a point a hair away from itself.
        exponent = points[chunk] @ points.T
        exponent -= 0.5 * squares
        exponent -= 0.5 * squares[chunk, None]
        weights = np.exp(np.minimum(exponent, 0, out=exponent), out=exponent)
        out[first : first + rows] = weights @ table / weights.sum(axis=1, keepdims=True)
    return out


def one_update(
    unary: npt.ArrayLike,
    kernels: Sequence[tuple[npt.ArrayLike, float]],
    nodes: npt.NDArray[np.int64],
) -> Floats:
    """Return the marginals after one update at some nodes, (R, C).

    ``kernels`` are features (N, d) and Potts weights; unary is (C, N). maths §2 with §3 `after`.
    """
    energies = np.asarray(unary, np.float64)
    marginals = reference.softmax(-energies).T
    scores = -energies[:, nodes].T
    for features, weight in kernels:
        scores += weight * normalized_sums(features, marginals, nodes)
    return reference.softmax(scores, axis=1)


def relative_error(result: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Root mean square of the difference over that of what is expected."""
    wanted = np.asarray(expected, np.float64)
    difference = np.asarray(result, np.float64) - wanted
    return float(np.sqrt((difference**2).sum() / (wanted**2).sum()))


def rms_difference(result: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Root mean square of the difference."""
    difference = np.asarray(result, np.float64) - np.asarray(expected, np.float64)
    return float(np.sqrt((difference**2).mean()))


def grid_features(
    grid: Sequence[int], sigma: float, image: npt.NDArray[Any] | None = None, color: float = 1.0
) -> Floats:
    """Return features (N, d) of a spatial or, with an image, a bilateral kernel."""
    axes = [np.arange(n, dtype=np.float64) / sigma for n in grid]
    position = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(grid))
    if image is None:
        return position
    values = np.asarray(image, np.float64).reshape(len(position), -1) / color
    return np.concatenate([position[:, ::-1], values], axis=1)
