"""Derivative of the whole inference, backwards through its updates: maths §6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Float64Array, as_matrix
from .gradients import NormalizedKernel, softmax_vjp
from .mean_field import mean_field


class MeanFieldGradients(NamedTuple):
    """Gradients of a loss of the last marginals, or of the last scores."""

    unary: Float64Array  # (C, N)
    compatibilities: list[Float64Array]  # (C, C) of each kernel: of A_m = w_m mu_m
    features: list[Float64Array]  # (N, d) of each kernel


def mean_field_vjp(
    unary: ArrayLike,
    kernels: Sequence[NormalizedKernel],
    compatibilities: Sequence[ArrayLike],
    grad_out: ArrayLike,
    *,
    iterations: int,
    exclude_self: bool = False,
    of_scores: bool = False,
) -> MeanFieldGradients:
    """Differentiate ``sum(grad_out * mean_field(..)[-1])``.

    Parameters
    ----------
    unary : (C, N) array of float
        Energies -log p.
    kernels : sequence of NormalizedKernel
        K_m with their normalisations.
    compatibilities : sequence of (C, C) arrays
        A_m = w_m mu_m of each kernel; their gradients go to weights and mu by
        `compatibility_vjp`, those of the features to image and standard deviations by
        `bilateral_features_vjp`.
    grad_out : (C, N) array of float
        The gradient arriving at the last marginals.
    iterations, exclude_self
        As for `mean_field`.
    of_scores : bool
        The gradient arrives at the scores instead, which the last softmax is taken of.

    Returns
    -------
    MeanFieldGradients
    """
    energies = as_matrix("unary", unary, axes="(C, N)")
    matrices = [np.asarray(matrix, dtype=np.float64) for matrix in compatibilities]
    operators = [kernel.operator for kernel in kernels]
    marginals = mean_field(
        energies, operators, matrices, iterations=iterations, exclude_self=exclude_self
    )
    result = MeanFieldGradients(
        np.zeros_like(energies),
        [np.zeros_like(matrix) for matrix in matrices],
        [np.zeros((kernel.kernel.num_points, kernel.kernel.dim)) for kernel in kernels],
    )
    grad = as_matrix("grad_out", grad_out, axes="(C, N)")
    for step in range(iterations, -1, -1):
        is_scores = of_scores and step == iterations
        grad_scores = grad if is_scores else softmax_vjp(marginals[step], grad)
        np.subtract(result.unary, grad_scores, out=result.unary)
        if step == 0:
            break
        grad = np.zeros_like(energies)
        for m, (kernel, matrix) in enumerate(zip(kernels, matrices, strict=True)):
            # scores = -U - sum_m A_m (K_m Q)
            q = marginals[step - 1]
            message = kernel.operator.apply(q.T).T
            if exclude_self:
                message -= kernel.operator.diagonal * q
            result.compatibilities[m][...] -= grad_scores @ message.T
            grad_q, grad_features = kernel.vjp(
                q.T, -(matrix.T @ grad_scores).T, exclude_self=exclude_self
            )
            grad += grad_q.T
            result.features[m][...] += grad_features
    return result
