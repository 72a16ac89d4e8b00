"""Mean-field inference, divergence and energy of the dense CRF: maths §2 [KK11]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Float64Array, as_matrix
from .operators import Apply

# Operators are pairs (apply, diagonal) or the Operator tuples that start with these two.
KernelList = Sequence[tuple[Apply, Float64Array] | tuple[Apply, Float64Array, Apply]]

_SMALLEST_PROBABILITY = 1e-20  # q log q is 0 at q = 0; below this the term is 0 to 1e-18


def softmax(logits: ArrayLike, *, axis: int = 0) -> Float64Array:
    """exp(logits) scaled to sum 1 along an axis."""
    return np.asarray(np.exp(log_softmax(logits, axis=axis)))


def log_softmax(logits: ArrayLike, *, axis: int = 0) -> Float64Array:
    """Logarithm of `softmax`, without overflow."""
    scores = np.asarray(logits, dtype=np.float64)
    shifted = scores - scores.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def unary_from_probabilities(
    probabilities: ArrayLike, *, smallest_probability: float = 1e-5
) -> Float64Array:
    """-log of probabilities that are clipped from below: maths §1."""
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), smallest_probability, 1.0)
    return np.asarray(-np.log(clipped))


def potts(num_labels: int) -> Float64Array:
    """Potts compatibility (C, C): 1 for different labels, 0 for equal ones."""
    return 1.0 - np.eye(num_labels)


def mean_field(
    unary: ArrayLike,
    operators: KernelList,
    compatibilities: Sequence[ArrayLike],
    *,
    iterations: int,
    exclude_self: bool = False,
) -> list[Float64Array]:
    """Marginals before the first and after every iteration.

    ``Q^0 = softmax(-U)``, ``Q^t = softmax(-U - sum_m A_m K_m Q^{t-1})``: maths §2 and §6.

    Parameters
    ----------
    unary : (C, N) array of float
        Energies -log p.
    operators : sequence of (apply, diagonal)
        Each ``apply`` maps (N, C) to (N, C); each ``diagonal`` has shape (N,).
    compatibilities : sequence of (C, C) arrays
        A_m = w_m mu_m of each operator; ``w * potts(C)`` for Potts.
    iterations : int
        T.
    exclude_self : bool
        Leave out j = i, as [KK11] does, by subtracting the diagonal.

    Returns
    -------
    list of T + 1 (C, N) ndarrays of float64
    """
    energies = as_matrix("unary", unary, axes="(C, N)")
    marginals = [softmax(-energies)]
    for _ in range(iterations):
        message = _pairwise_gradient(
            marginals[-1], operators, compatibilities, exclude_self=exclude_self
        )
        marginals.append(softmax(-energies - message))
    return marginals


def kl_divergence(
    marginals: ArrayLike,
    unary: ArrayLike,
    operators: KernelList,
    compatibilities: Sequence[ArrayLike],
    *,
    exclude_self: bool = False,
    pairwise_factor: float = 0.5,
) -> float:
    """KL(Q || P) up to the constant log Z: maths §2.

    Parameters
    ----------
    marginals, unary : (C, N) arrays of float
        Q and U.
    operators, compatibilities, exclude_self
        As for `mean_field`.
    pairwise_factor : float
        Factor of the sum over ordered pairs; 1 is what older packages print.

    Returns
    -------
    float
    """
    q = as_matrix("marginals", marginals, axes="(C, N)")
    energies = as_matrix("unary", unary, axes="(C, N)")
    negative_entropy = float(np.sum(q * np.log(np.maximum(q, _SMALLEST_PROBABILITY))))
    pairwise = _pairwise_gradient(q, operators, compatibilities, exclude_self=exclude_self)
    return negative_entropy + float(np.sum(q * (energies + pairwise_factor * pairwise)))


def energy(
    labels: ArrayLike,
    unary: ArrayLike,
    operators: KernelList,
    compatibilities: Sequence[ArrayLike],
    *,
    exclude_self: bool = False,
) -> float:
    """E(x) of a labelling: unary terms and half the sum over ordered pairs, maths §1.

    With ``exclude_self`` and symmetric kernels and compatibilities this is the sum over i < j;
    without it the terms ``0.5 * k(f_i, f_i) * mu(x_i, x_i)`` are added (0 for Potts).

    Parameters
    ----------
    labels : (N,) array of int
        x.
    unary, operators, compatibilities, exclude_self
        As for `mean_field`.

    Returns
    -------
    float
    """
    energies = as_matrix("unary", unary, axes="(C, N)")
    chosen = np.asarray(labels)
    if chosen.shape != energies.shape[1:]:
        raise ValueError(
            f"labels must have shape {energies.shape[1:]}, got {chosen.shape}; "
            f"flatten the grid in C order"
        )
    # The entropy of a one-hot Q is 0, so its divergence is the energy of the labelling.
    one_hot = (chosen[None, :] == np.arange(len(energies))[:, None]).astype(np.float64)
    return kl_divergence(one_hot, energies, operators, compatibilities, exclude_self=exclude_self)


def _pairwise_gradient(
    marginals: Float64Array,
    operators: KernelList,
    compatibilities: Sequence[ArrayLike],
    *,
    exclude_self: bool,
) -> Float64Array:
    """sum_m A_m K_m Q, (C, N)."""
    total = np.zeros_like(marginals)
    for operator, compatibility in zip(operators, compatibilities, strict=True):
        apply, diagonal = operator[0], operator[1]
        message = apply(marginals.T).T
        if exclude_self:
            message = message - diagonal * marginals
        total += np.asarray(compatibility, dtype=np.float64) @ message
    return total
