"""Gradients of ConvCRF inference: from what the core returns to names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from densefield._arrays import FloatArray, Shape, channels_first, copy_back
from densefield._place import Place
from densefield.compatibility import Potts
from densefield.gradients import (
    Gradients,
    InferenceVjp,
    ParameterGradient,
    Reverse,
    SigmaGradient,
    Wanted,
)
from densefield.weighted_unary import WeightedUnary, arrays_like

if TYPE_CHECKING:
    from densefield._densefield import (
        _RecordedConvInference,
        _RecordedInference,
        _WindowTerm,
    )
    from densefield.conv_inference import PreparedConvCRF

# By a group's compatibility, and by weight and standard deviations of its terms.
GroupParts: TypeAlias = tuple[list[float], list[tuple[float, list[float]]]]
TermRequest: TypeAlias = "tuple[_WindowTerm, FloatArray | None]"

_OF_TERMS: frozenset[Wanted] = frozenset({"image", "weights", "sigmas", "features"})


@dataclass(frozen=True, eq=False)
class ConvGradients(Gradients):
    """Gradients of a function of a ConvCRF's result.

    Those of `Gradients`, and one more.

    Attributes
    ----------
    unary_weight : float, or (C,) ndarray of float64
        By the factor of the unary, in its form; None for a model with no published option.
    """

    unary_weight: ParameterGradient | None = None


class ConvInferenceVjp(InferenceVjp):
    """The way back through one ConvCRF inference; see `InferenceVjp`.

    Made by `ConvCRF.infer_vjp`. It is called with the gradient by the result, marginals or
    scores, and returns `ConvGradients`.
    """

    def __init__(
        self,
        prepared: PreparedConvCRF,
        core: _RecordedConvInference | None,
        shape: Shape,
        label_axis: int,
        weighted: WeightedUnary | None,
    ) -> None:
        super().__init__(prepared, cast("_RecordedInference | None", core), shape, label_axis)
        self._recorded = core
        self._weighted = weighted

    def _reverse(
        self, place: Place, wanted: frozenset[Wanted], upstream: FloatArray
    ) -> ConvGradients:
        prepared = cast("PreparedConvCRF", self._prepared)
        reverse = _ConvReverse(prepared, place, wanted, self._shape, self._axis)
        return reverse.run_groups(self._recorded, upstream, self._weighted)


class _ConvReverse(Reverse):
    """One call of the reverse pass, group by group of kernels."""

    _prepared: PreparedConvCRF

    def run_groups(
        self,
        core: _RecordedConvInference | None,
        grad_result: FloatArray,
        weighted: WeightedUnary | None,
    ) -> ConvGradients:
        by_unary_weight: ParameterGradient | None = None
        if core is None:
            parts = self._no_parts(grad_result.shape[self._axis])
            if weighted is not None:
                by_unary_weight = weighted.reverse(weighted.log_p, weighted.log_p, None)
        else:
            upstream = channels_first(grad_result, self._axis)
            own = None if self._unary is None else channels_first(self._unary, self._axis)
            requests = [self._group_request(g) for g in range(len(self._prepared.groups))]
            if weighted is None:
                parts = core.reverse(upstream, own, None, requests)
            else:
                energies, start = arrays_like(upstream, 2)
                parts = core.reverse(upstream, energies, start, requests)
                by_unary_weight = weighted.reverse(energies, start, own)
            if self._unary is not None and own is not None:
                copy_back(own, self._unary, self._axis)
        self._finish_image()
        return self._named_groups(parts, by_unary_weight)

    def _wants_terms(self, g: int) -> bool:
        # The weight of Potts is a part of the kernels' weights in the table.
        is_potts = isinstance(self._prepared.groups[g].compatibility, Potts)
        return bool(self._wanted & _OF_TERMS) or ("compatibility" in self._wanted and is_potts)

    def _group_request(self, g: int) -> list[TermRequest]:
        if not self._wants_terms(g):
            return []
        terms = self._prepared.terms[g]
        return [
            (term, self._value_gradient(m))
            for term, m in zip(terms, self._prepared.groups[g].indices, strict=True)
        ]

    def _no_parts(self, num_labels: int) -> list[GroupParts]:
        """Return what the core would say of a grid without nodes."""
        parts: list[GroupParts] = []
        terms = self._prepared._compatibility(num_labels)
        for group, (_, values, _) in zip(self._prepared.groups, terms, strict=True):
            sizes = [self._num_sigmas(kernel) for kernel in group.kernels]
            parts.append(([0.0] * len(values), [(0.0, [0.0] * n) for n in sizes]))
        return parts

    def _named_groups(
        self, parts: Sequence[GroupParts], unary_weight: ParameterGradient | None
    ) -> ConvGradients:
        crf = self._prepared.crf
        by_weight = np.zeros(len(self._kernels))
        by_own: list[ParameterGradient | None] = [None] * len(self._kernels)
        sigmas: list[SigmaGradient | None] = [None] * len(self._kernels)
        of_model: Any = (
            0.0 if isinstance(crf.compatibility, Potts) else np.zeros(crf.compatibility.shape)
        )
        for group, (by_form, terms) in zip(self._prepared.groups, parts, strict=True):
            for m, (by_product, by_sigma) in zip(group.indices, terms, strict=False):
                sigmas[m] = self._sigmas(self._kernels[m], by_sigma)
                by_weight[m] = group.weight_gradient(self._kernels[m], crf, by_product)
                own = self._kernels[m].checked_compatibility
                if isinstance(own, Potts):
                    by_own[m] = -self._kernels[m].weight * by_product
                elif own is None and isinstance(crf.compatibility, Potts):
                    of_model = of_model - self._kernels[m].weight * by_product
            if isinstance(group.compatibility, Potts):
                continue
            by_array = np.reshape(by_form, group.compatibility.shape)
            if self._kernels[group.indices[0]].checked_compatibility is None:
                of_model = of_model + by_array
            else:
                by_own[group.indices[0]] = by_array
        wants_mu = "compatibility" in self._wanted
        return ConvGradients(
            unary=self._given_back(self._unary),
            image=self._given_back(self._image),
            weights=by_weight if "weights" in self._wanted else None,
            sigmas=tuple(sigmas) if "sigmas" in self._wanted else None,
            features=self._features_given_back(),
            compatibility=of_model if wants_mu else None,
            kernel_compatibility=tuple(by_own) if wants_mu else None,
            unary_weight=unary_weight,
        )
