"""A ConvCRF bound to an image: the tables of its windows, and its published options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from densefield import _densefield
from densefield._arrays import FloatArray, Shape, channels_first, copy_back
from densefield._place import HOST, Place
from densefield.compatibility import Checked, CompatibilityTerms, Potts, compatibility_terms
from densefield.conv_gradients import ConvInferenceVjp
from densefield.gradients import Checkpoint, checkpoint_interval
from densefield.inference import PreparedCRF
from densefield.kernels import Kernel
from densefield.lattice import LatticeSize
from densefield.weighted_unary import WeightedUnary
from densefield.window import check_window_grid

if TYPE_CHECKING:
    from densefield._densefield import _ConvField, _ConvModel, _WindowTerm
    from densefield.conv_crf import ConvCRF


class KernelGroup(NamedTuple):
    """Kernels that share a compatibility: their weights are merged into one table."""

    compatibility: Checked
    kernels: list[Kernel]
    indices: list[int]  # of the kernels among all of the model

    def weight(self, kernel: Kernel) -> float:
        """Return the kernel's weight in the table.

        A Potts group has the compatibility ``[l = l'] - 1``, so its weights are negative.
        """
        own = kernel.checked_compatibility
        potts = self.compatibility if own is None else own
        return -kernel.weight * potts.weight if isinstance(potts, Potts) else kernel.weight

    def weight_gradient(self, kernel: Kernel, crf: ConvCRF, by_product: float) -> float:
        """Return the gradient by the kernel's weight from that by its weight in the table."""
        own = kernel.checked_compatibility
        mu = crf.compatibility if own is None else own
        return -mu.weight * by_product if isinstance(mu, Potts) else by_product

    def terms(self, num_labels: int, dtype: np.dtype[Any]) -> CompatibilityTerms:
        """Return the compatibility for the core."""
        if isinstance(self.compatibility, Potts):
            return "scalar", [1.0], -1.0
        return compatibility_terms(self.compatibility, 1.0, num_labels, dtype)


def group_kernels(crf: ConvCRF) -> list[KernelGroup]:
    """Group the kernels that may share a table.

    Normalised kernels between cells of several nodes cannot: their scales are the nodes' own.
    Nor can kernels with an array of their own, whose gradient is each kernel's.
    """
    groups: list[KernelGroup] = []
    for index, kernel in enumerate(crf.kernels):
        own = kernel.checked_compatibility
        mu = crf.compatibility if own is None else own
        mode = kernel.normalization or crf.normalization
        alone = crf.downsampling > 1 and mode != "none"
        for group in groups:
            same = (group.compatibility is mu and own is None) or (
                isinstance(group.compatibility, Potts) and isinstance(mu, Potts)
            )
            first = group.kernels[0].normalization or crf.normalization
            if same and not alone and (crf.downsampling == 1 or first == "none"):
                group.kernels.append(kernel)
                group.indices.append(index)
                break
        else:
            groups.append(KernelGroup(mu, [kernel], [index]))
    return groups


def cell_phase(grid: Shape, cell_size: int) -> list[int]:
    """Return how many nodes of the first cell lie outside the grid, for each axis.

    The cells are as many as are needed; what they are too large by is split between both
    ends, the larger half first.
    """
    return [(-n % cell_size + 1) // 2 for n in grid]


class PreparedConvCRF(PreparedCRF):
    """A `ConvCRF` bound to an image: merged window weights, ready for any unary.

    Made by `ConvCRF.prepare`. It never changes; several threads may use one at once.
    """

    crf: ConvCRF
    _is_batch = False  # whether the first axis of the grid counts images

    def __init__(
        self,
        crf: ConvCRF,
        image: npt.ArrayLike | None,
        *,
        shape: Sequence[int] | None,
        channel_axis: int | None,
        dtype: npt.DTypeLike,
        check_finite: bool,
        place: Place = HOST,
        phase: list[int] | None = None,  # of a tile, whose cells are those of its image
    ) -> None:
        self._phase = phase
        self.groups = group_kernels(crf)
        self.terms: list[list[_WindowTerm]] = []  # of every group
        super().__init__(
            crf,
            image,
            shape=shape,
            channel_axis=channel_axis,
            dtype=dtype,
            check_finite=check_finite,
            place=place,
        )

    @property
    def lattices(self) -> tuple[LatticeSize, ...]:
        """No lattices: windows need none."""
        return ()

    def __repr__(self) -> str:
        return f"PreparedConvCRF(shape={self.shape}, dtype={self.dtype}, nbytes={self.nbytes})"

    def _build(self, channels: FloatArray | None, place: Place) -> Any:
        check_window_grid(self.shape)
        double = self.dtype == np.float64
        term = _densefield.WindowTermF64 if double else _densefield.WindowTermF32
        model = _densefield.ConvModelF64 if double else _densefield.ConvModelF32
        largest = float(np.finfo(self.dtype).max)
        self.terms = []
        for group in self.groups:
            terms: list[_WindowTerm] = []
            for kernel in group.kernels:
                weight = group.weight(kernel)
                if not abs(weight) <= largest:
                    raise ValueError(
                        f"weight must fit {self.dtype}, got {weight:g}; use a smaller one: "
                        f"above about 100 a kernel alone decides"
                    )
                mode = kernel.normalization or self.crf.normalization
                terms.append(term(*self._features(kernel, channels, place), mode, weight))
            self.terms.append(terms)
        crf = self.crf
        return model(
            list(self.shape),
            crf.shape,
            crf.filter_size,
            crf.downsampling,
            self._cell_phase(),
            self._is_batch,
            self.terms,
            crf.exclude_self,
        )

    def _cell_phase(self) -> list[int]:
        return cell_phase(self.shape, self.crf.downsampling) if self._phase is None else self._phase

    def _grid_sigma(self, kernel: Kernel) -> list[float]:
        return []

    def _compatibility(self, num_labels: int) -> list[CompatibilityTerms]:
        super()._compatibility(num_labels)  # checks every kernel's own
        return [group.terms(num_labels, self.dtype) for group in self.groups]

    @property
    def _has_scores_at_the_end_only(self) -> bool:
        return False

    def _field(
        self, table: FloatArray, keeps_marginals: bool, unary_may_change: bool
    ) -> _ConvField:
        kind = _densefield.ConvFieldF64 if self.dtype == np.float64 else _densefield.ConvFieldF32
        core = cast("_ConvModel", self._core)
        terms = self._compatibility(table.shape[0])
        scores = self.crf.output == "scores"
        if not self.crf.has_published_options:
            return kind(core, terms, table, scores, unary_may_change)
        weighted = self._weighted(table)
        field = kind(core, terms, weighted.energies, scores, False)
        field.load(weighted.start)
        return field

    def _weighted(self, table: FloatArray) -> WeightedUnary:
        return WeightedUnary(table, self.crf.unary_weight, self.crf.start_from)

    def infer_vjp(
        self,
        unary: npt.ArrayLike,
        *,
        label_axis: int = 0,
        check_finite: bool = True,
        checkpoint: Checkpoint = "store",
    ) -> tuple[FloatArray, ConvInferenceVjp]:
        """Approximate marginals or scores and the way back from them; see `ConvCRF.infer_vjp`."""
        result, vjp = super().infer_vjp(
            unary, label_axis=label_axis, check_finite=check_finite, checkpoint=checkpoint
        )
        return result, cast("ConvInferenceVjp", vjp)

    def _infer_vjp(
        self,
        place: Place,
        unary: npt.ArrayLike,
        label_axis: int,
        check_finite: bool,
        checkpoint: Checkpoint,
    ) -> tuple[FloatArray, ConvInferenceVjp]:
        values, axis = self._unary(place.take("unary", unary), label_axis, check_finite)
        interval = checkpoint_interval(checkpoint, self.crf.iterations)
        terms = self._compatibility(values.shape[axis])
        result = place.empty(values.shape, self.dtype)
        table, start, weighted = channels_first(values, axis), None, None
        if self.crf.has_published_options:
            weighted = self._weighted(table)
            table, start = weighted.energies, weighted.start
        recorded = None
        if self._core is not None:
            double = self.dtype == np.float64
            kind = (
                _densefield.RecordedConvInferenceF64
                if double
                else _densefield.RecordedConvInferenceF32
            )
            core = cast("_ConvModel", self._core)
            scores = self.crf.output == "scores"
            recorded = kind(core, terms, table, start, scores, interval)
            out = channels_first(result, axis)
            recorded.run(self.crf.iterations, self.crf.tolerance, out)
            copy_back(out, result, axis)
        vjp = ConvInferenceVjp(self, recorded, values.shape, axis, weighted)
        return place.given_back(result), vjp

    def _energies(self, unary: FloatArray, axis: int) -> FloatArray:
        table = super()._energies(unary, axis)
        return self._weighted(table).energies if self.crf.has_published_options else table
