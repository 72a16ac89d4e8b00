"""A CRF bound to an image, and inferences on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from densefield import _densefield
from densefield._arrays import (
    FloatArray,
    Shape,
    as_dtype,
    as_floats_in_place,
    as_grid,
    as_labels,
    as_precision,
    as_sigma,
    axis_index,
    channels_first,
    check_out,
    copy_back,
    negate,
    spread_sigma,
)
from densefield._place import HOST, Destination, Home, Place
from densefield.compatibility import CompatibilityTerms, compatibility_terms
from densefield.gradients import Checkpoint, InferenceVjp, checkpoint_interval
from densefield.image import ImageSource, image_channels
from densefield.kernels import Bilateral, Features, Gaussian, Kernel
from densefield.lattice import LatticeSize
from densefield.stepping import Callback, Inference, check_callback, reporter

if TYPE_CHECKING:
    from densefield._densefield import _CrfModel, _KernelSpec, _MeanField
    from densefield.crf import DenseCRF


class PreparedCRF:
    """A `DenseCRF` bound to an image: lattices and normalisations, ready for any unary.

    Made by `DenseCRF.prepare`. It never changes; several threads may use one at once.
    """

    def __init__(
        self,
        crf: DenseCRF,
        image: npt.ArrayLike | None,
        *,
        shape: Sequence[int] | None,
        channel_axis: int | None,
        dtype: npt.DTypeLike,
        check_finite: bool,
        place: Place = HOST,
    ) -> None:
        self.crf = crf
        self.dtype = as_dtype(dtype)
        self._image_source: ImageSource | None = None
        self._specs: list[_KernelSpec] = []
        grid = None if shape is None else as_grid("shape", shape, self.dtype.itemsize)
        if image is None:
            channels, self.shape = None, self._grid_without_image(grid)
        else:
            channels, self.shape, self._image_source = image_channels(
                image, grid, channel_axis, self.dtype, check_finite=check_finite
            )
        self._home = Home(place, crf.device)
        with place.models_on(crf.device):
            self._core = self._build(channels, place) if math.prod(self.shape) else None

    @staticmethod
    def grid_of(unary: FloatArray, label_axis: int) -> Shape:
        """Return the grid of a unary: its shape without the labels."""
        if unary.ndim < 2:
            raise ValueError(
                f"unary must have shape (C, *grid) or (C, N), got {unary.shape}; "
                f"for one label per node in a flat array use unary_from_labels first"
            )
        axis = axis_index("label_axis", label_axis, unary.ndim)
        if unary.shape[axis] == 0:
            raise ValueError(f"unary must have at least one label, got shape {unary.shape}")
        return unary.shape[:axis] + unary.shape[axis + 1 :]

    @property
    def lattices(self) -> tuple[LatticeSize, ...]:
        """Size of each kernel's lattice, in the order of the kernels."""
        return () if self._core is None else tuple(LatticeSize(*s) for s in self._core.lattices)

    @property
    def nbytes(self) -> int:
        """Bytes of the tables that are kept between inferences.

        An inference needs about 8 bytes per node and label and 4 to 12 per lattice vertex and
        label on top (float32).
        """
        return 0 if self._core is None else self._core.nbytes

    @property
    def _num_axes(self) -> int:
        return len(self.shape)  # those that nodes have positions along

    def __repr__(self) -> str:
        return f"PreparedCRF(shape={self.shape}, dtype={self.dtype}, nbytes={self.nbytes})"

    def infer(
        self,
        unary: npt.ArrayLike,
        *,
        label_axis: int = 0,
        out: FloatArray | None = None,
        callback: Callback | None = None,
        check_finite: bool = True,
    ) -> FloatArray:
        """Approximate marginals for one unary; see `DenseCRF.infer`."""
        with self._home.place_of(unary=unary, out=out) as place:
            return self._infer(place, unary, label_axis, out, callback, check_finite)

    def _infer(
        self,
        place: Place,
        unary: npt.ArrayLike,
        label_axis: int,
        out: FloatArray | None,
        callback: Callback | None,
        check_finite: bool,
    ) -> FloatArray:
        values, axis = self._unary(place.take("unary", unary), label_axis, check_finite)
        given = place.take("out", out)
        if given is not None:
            check_out(given, values.shape, self.dtype)

        def result() -> FloatArray:
            return place.empty(values.shape, self.dtype) if given is None else given

        check_callback(callback)
        if self._core is None:
            self._compatibility(values.shape[axis])  # a misfit is an error here too
            return place.given_back(result())
        keeps = callback is not None or self.crf.tolerance > 0
        if self._has_scores_at_the_end_only:
            self._check_nothing_looks_at_marginals(keeps)
            if self.crf.iterations == 0:
                return place.given_back(negate(values, result()))
        # A callback may write to the unary, and `out` may be the unary.
        changes = callback is not None or given is not None
        keeps |= self.crf.iterations == 0
        field = self._field(channels_first(values, axis), keeps, changes)
        report = None
        if callback is not None:
            report = reporter(field, callback, place, values.shape, axis, self.dtype)
        field.run(self.crf.iterations, self.crf.tolerance, report, to := Destination(result, axis))
        return place.given_back(to.finished())

    def infer_vjp(
        self,
        unary: npt.ArrayLike,
        *,
        label_axis: int = 0,
        check_finite: bool = True,
        checkpoint: Checkpoint = "store",
    ) -> tuple[FloatArray, InferenceVjp]:
        """Approximate marginals and the way back from them; see `DenseCRF.infer_vjp`."""
        with self._home.place_of(unary=unary) as place:
            return self._infer_vjp(place, unary, label_axis, check_finite, checkpoint)

    def _infer_vjp(
        self,
        place: Place,
        unary: npt.ArrayLike,
        label_axis: int,
        check_finite: bool,
        checkpoint: Checkpoint,
    ) -> tuple[FloatArray, InferenceVjp]:
        values, axis = self._unary(place.take("unary", unary), label_axis, check_finite)
        interval = checkpoint_interval(checkpoint, self.crf.iterations)
        terms = self._compatibility(values.shape[axis])
        result = place.empty(values.shape, self.dtype)
        if self._core is None:
            return place.given_back(result), InferenceVjp(self, None, values.shape, axis)
        double = self.dtype == np.float64
        kind = _densefield.RecordedInferenceF64 if double else _densefield.RecordedInferenceF32
        scores = self._has_scores_at_the_end_only
        if scores:
            self._check_nothing_looks_at_marginals(self.crf.tolerance > 0)
        recorded = kind(self._core, terms, channels_first(values, axis), interval, scores)
        table = channels_first(result, axis)
        recorded.run(self.crf.iterations, self.crf.tolerance, table)
        copy_back(table, result, axis)
        if scores and self.crf.iterations == 0:
            negate(values, result)
        return place.given_back(result), InferenceVjp(self, recorded, values.shape, axis)

    def start(
        self, unary: npt.ArrayLike, *, label_axis: int = 0, check_finite: bool = True
    ) -> Inference:
        """Start an inference whose updates you make yourself; see `Inference`."""
        with self._home.place_of(unary=unary) as place:
            return self._start_at(place, unary, label_axis, check_finite)

    def _start_at(
        self, place: Place, unary: npt.ArrayLike, label_axis: int, check_finite: bool
    ) -> Inference:
        values, axis = self._unary(place.take("unary", unary), label_axis, check_finite)
        return Inference(self, place, values, axis)

    def kl_divergence(
        self,
        q: npt.ArrayLike,
        unary: npt.ArrayLike,
        *,
        label_axis: int = 0,
        check_finite: bool = True,
    ) -> float:
        """KL divergence of marginals to the model; see `DenseCRF.kl_divergence`."""
        with self._home.place_of(q=q, unary=unary) as place:
            return self._kl_divergence(place, q, unary, label_axis, check_finite)

    def _kl_divergence(
        self,
        place: Place,
        q: npt.ArrayLike,
        unary: npt.ArrayLike,
        label_axis: int,
        check_finite: bool,
    ) -> float:
        values, axis = self._unary(place.take("unary", unary), label_axis, check_finite)
        marginals = as_floats_in_place("q", place.take("q", q), check_finite=check_finite)
        if marginals.shape != values.shape:
            raise ValueError(
                f"q must have the shape of the unary, {values.shape}, got {marginals.shape}"
            )
        entropy, unary_part, pairs, own = self._energy_terms(values, marginals, axis)
        return entropy + unary_part + 0.5 * (pairs - own)

    def energy(
        self,
        labels: npt.ArrayLike,
        unary: npt.ArrayLike,
        *,
        label_axis: int = 0,
        check_finite: bool = True,
    ) -> float:
        """Energy of a labelling; see `DenseCRF.energy`."""
        with self._home.place_of(labels=labels, unary=unary) as place:
            return self._energy(place, labels, unary, label_axis, check_finite)

    def _energy(
        self,
        place: Place,
        labels: npt.ArrayLike,
        unary: npt.ArrayLike,
        label_axis: int,
        check_finite: bool,
    ) -> float:
        values, axis = self._unary(place.take("unary", unary), label_axis, check_finite)
        given = as_labels(place.take("labels", labels), "for marginals use argmax over the labels")
        if given.shape != self.shape:
            raise ValueError(f"labels must have the grid's shape {self.shape}, got {given.shape}")
        count = values.shape[axis]
        if given.size and (given.min() < 0 or given.max() >= count):
            raise ValueError(
                f"labels must lie in 0 .. {count - 1}, got {given.min()} .. {given.max()}"
            )
        one_hot = np.zeros(values.shape, self.dtype)
        np.put_along_axis(one_hot, np.expand_dims(given.astype(np.intp), axis), 1, axis)
        _, unary_part, pairs, own = self._energy_terms(values, one_hot, axis)
        return unary_part + 0.5 * (pairs - own)

    def _unary(
        self, unary: npt.ArrayLike, label_axis: int, check_finite: bool
    ) -> tuple[FloatArray, int]:
        values = as_floats_in_place("unary", unary, check_finite=check_finite)
        grid = self.grid_of(values, label_axis)
        if grid != self.shape:
            raise ValueError(
                f"unary must have shape (C, {', '.join(map(str, self.shape))}) for this image, "
                f"got {values.shape}; if its labels are not the first axis, set label_axis; "
                f"if the image has no channels, prepare it with channel_axis=None"
            )
        axis = axis_index("label_axis", label_axis, values.ndim)
        return as_precision("unary", values, self.dtype), axis

    def _compatibility(self, num_labels: int) -> list[CompatibilityTerms]:
        terms = []
        for kernel in self.crf.kernels:
            mu = kernel.checked_compatibility
            mu = self.crf.compatibility if mu is None else mu
            terms.append(compatibility_terms(mu, kernel.weight, num_labels, self.dtype))
        return terms

    @property
    def _has_scores_at_the_end_only(self) -> bool:
        return self.crf.output == "scores"

    def _check_nothing_looks_at_marginals(self, looks: bool) -> None:
        if looks:
            raise ValueError(
                "output='scores' excludes a callback and tolerance, which look at marginals; "
                "use output='marginals', or leave them out"
            )

    def _field(
        self, table: FloatArray, keeps_marginals: bool, unary_may_change: bool
    ) -> _MeanField:
        kind = _densefield.MeanFieldF64 if self.dtype == np.float64 else _densefield.MeanFieldF32
        assert self._core is not None
        terms, scores = self._compatibility(table.shape[0]), self.crf.output == "scores"
        return kind(self._core, terms, table, keeps_marginals, scores, unary_may_change)

    def _energy_terms(
        self, unary: FloatArray, marginals: FloatArray, axis: int
    ) -> tuple[float, float, float, float]:
        if self._core is None:
            return 0.0, 0.0, 0.0, 0.0
        q = as_precision("q", marginals, self.dtype)
        terms, table = self._compatibility(unary.shape[axis]), self._energies(unary, axis)
        return self._core.energy_terms(terms, table, channels_first(q, axis))

    def _energies(self, unary: FloatArray, axis: int) -> FloatArray:
        return channels_first(unary, axis)

    def _grid_without_image(self, grid: Shape | None) -> Shape:
        if grid is None:
            raise ValueError("image or shape must be given: the grid is not known otherwise")
        if any(isinstance(kernel, Bilateral) for kernel in self.crf.kernels):
            raise ValueError(
                "image must be given, because a Bilateral kernel looks at it; "
                "without an image use Gaussian or Features kernels only"
            )
        return grid

    def _build(self, channels: FloatArray | None, place: Place) -> _CrfModel:
        double = self.dtype == np.float64
        spec = _densefield.KernelSpecF64 if double else _densefield.KernelSpecF32
        model = _densefield.CrfModelF64 if double else _densefield.CrfModelF32
        self._specs = [
            spec(
                *self._features(kernel, channels, place),
                kernel.normalization or self.crf.normalization,
                self._grid_sigma(kernel),
            )
            for kernel in self.crf.kernels
        ]
        return model(list(self.shape), self._specs, self.crf.exclude_self)

    def _sigma_space(self, kernel: Gaussian | Bilateral) -> list[float]:
        assert kernel.sigma_space is not None
        sigma = as_sigma("sigma_space", kernel.sigma_space)
        return spread_sigma("sigma_space", sigma, self._num_axes, "grid axes", self.dtype)

    def _grid_sigma(self, kernel: Kernel) -> list[float]:
        """Return one standard deviation per axis for a kernel computed on the grid, else none."""
        if not isinstance(kernel, Gaussian) or kernel.method != "grid":
            return []
        if len(self.shape) > _densefield.max_grid_kernel_axes:
            return []
        return self._sigma_space(kernel)

    def _features(
        self, kernel: Kernel, channels: FloatArray | None, place: Place
    ) -> tuple[list[float], FloatArray, list[float]]:
        """Return standard deviations of x, y, .., the values, and their standard deviations."""
        none = np.empty((0, math.prod(self.shape)), self.dtype)
        if self._grid_sigma(kernel):
            return [], none, []
        if isinstance(kernel, Features):
            given = place.take("features", kernel.array)
            table = as_precision("features", given, self.dtype)
            nodes = math.prod(self.shape)
            if table.shape[:-1] not in (self.shape, (nodes,)):
                raise ValueError(
                    f"features must have shape (N, d) or (*grid, d) for the grid {self.shape} "
                    f"of {nodes} nodes, got {table.shape}"
                )
            return [], channels_first(table, -1), [1.0] * table.shape[-1]
        assert isinstance(kernel, Gaussian | Bilateral)
        space = [] if kernel.sigma_space is None else self._sigma_space(kernel)
        # The core takes x first, that is the last axis.
        space.reverse()
        if isinstance(kernel, Gaussian):
            return space, none, []
        assert channels is not None
        if self._num_axes + channels.shape[0] > _densefield.max_dim:
            raise ValueError(
                f"image must have up to {_densefield.max_dim - self._num_axes} channels for a "
                f"Bilateral kernel on this grid, got {channels.shape[0]}; if the image has no "
                f"channels, set channel_axis=None; if they come first, channel_axis=0"
            )
        color = spread_sigma(
            "sigma_color",
            as_sigma("sigma_color", kernel.sigma_color),
            channels.shape[0],
            "image channels",
            self.dtype,
        )
        return space, channels, color
