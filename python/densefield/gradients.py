"""Gradients of inference: what they look like, and the function that computes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from densefield._arrays import (
    FloatArray,
    Shape,
    as_floats_in_place,
    as_precision,
    channels_first,
    copy_back,
)
from densefield._place import Place
from densefield.compatibility import Checked, Potts
from densefield.kernels import Bilateral, Features, Gaussian, Kernel

if TYPE_CHECKING:
    from densefield._densefield import _KernelSpec, _RecordedInference
    from densefield.inference import PreparedCRF

Float64Array: TypeAlias = npt.NDArray[np.float64]
ParameterGradient: TypeAlias = float | Float64Array
Wanted: TypeAlias = Literal["unary", "image", "weights", "sigmas", "features", "compatibility"]
Checkpoint: TypeAlias = Literal["store", "recompute"]

ALL_GRADIENTS: tuple[Wanted, ...] = get_args(Wanted)


class SigmaGradient(NamedTuple):
    """Gradient of one kernel by its standard deviations.

    Where one number stands for all axes (or channels), its gradient is the sum of theirs.

    Attributes
    ----------
    sigma_space : (grid axes,) ndarray of float64, or None
        In the order of the array's axes, per grid step; None if the kernel has no position.
    sigma_color : (channels,) ndarray of float64, or None
        Per unit of the image; None if the kernel looks at no image.
    """

    sigma_space: Float64Array | None
    sigma_color: Float64Array | None


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of a function of the marginals, by everything that the marginals depend on.

    None stands for what was not wanted, and for what the model does not have.

    Attributes
    ----------
    unary : ndarray, shape and dtype of the marginals
        By the unary energies.
    image : ndarray, shape of the image, dtype of the marginals
        By the image's values; None if no kernel looks at an image.
    weights : (kernels,) ndarray of float64
        By each kernel's weight.
    sigmas : tuple of SigmaGradient or None
        By each kernel's standard deviations; None for a `Features` kernel.
    features : tuple of ndarray or None
        By the feature vectors of each `Features` kernel, in their shape; None for others.
    compatibility : float, or ndarray of float64
        By the model's compatibility: the weight of `Potts`, or an array of its shape (C,) or
        (C, C). The sum over the kernels that use it.
    kernel_compatibility : tuple of float, ndarray or None
        By each kernel's own compatibility; None for kernels without one.
    """

    unary: FloatArray | None = None
    image: FloatArray | None = None
    weights: Float64Array | None = None
    sigmas: tuple[SigmaGradient | None, ...] | None = None
    features: tuple[FloatArray | None, ...] | None = None
    compatibility: ParameterGradient | None = None
    kernel_compatibility: tuple[ParameterGradient | None, ...] | None = None


def as_wanted(wants: Iterable[Wanted]) -> frozenset[Wanted]:
    """Return the names of gradients as a set, or raise with the names there are."""
    known = ", ".join(map(repr, ALL_GRADIENTS))
    if isinstance(wants, str) or not isinstance(wants, Iterable):
        raise TypeError(f"wants must be a sequence of names among {known}, got {wants!r}")
    names = list(wants)
    for name in names:
        if name not in ALL_GRADIENTS:
            raise ValueError(f"wants must hold names among {known}, got {name!r}")
    return frozenset(names)


def checkpoint_interval(checkpoint: str, iterations: int) -> int:
    """Return how many updates lie between marginals that are kept."""
    if checkpoint not in get_args(Checkpoint):
        raise ValueError(
            f"checkpoint must be 'store' or 'recompute', got {checkpoint!r}; 'store' is faster, "
            f"'recompute' needs less memory"
        )
    # The square root makes what is kept and what is computed again at a time about equal.
    return 1 if checkpoint == "store" else max(1, math.isqrt(max(iterations, 1) - 1) + 1)


def compatibility_gradient(
    checked: Checked, weight: float, by_product: Sequence[float]
) -> tuple[float, ParameterGradient]:
    """Return the gradients by a kernel's weight and mu, from that by weight * mu.

    `by_product` has the form in which the core takes it: see `compatibility_terms`.
    """
    if isinstance(checked, Potts):
        # The core has -weight * Potts weight; the constant part moves no marginal.
        return -checked.weight * by_product[0], -weight * by_product[0]
    by_array = np.asarray(by_product, np.float64).reshape(checked.shape)
    return float(np.vdot(checked, by_array)), weight * by_array


class InferenceVjp:
    """The way back through one inference: call it with the gradient by the marginals.

    Made by `DenseCRF.infer_vjp`; may be called any number of times, from several threads.

    Attributes
    ----------
    iterations : int
        Updates that the inference made, and that are differentiated.
    nbytes : int
        Bytes kept for the way back, besides the model's tables.
    """

    def __init__(
        self,
        prepared: PreparedCRF,
        core: _RecordedInference | None,
        shape: Shape,
        label_axis: int,
    ) -> None:
        self._prepared = prepared
        self._core = core
        self._shape = shape
        self._axis = label_axis
        self.iterations = prepared.crf.iterations if core is None else core.num_updates

    @property
    def nbytes(self) -> int:
        """Bytes kept for the way back, besides the model's tables."""
        return 0 if self._core is None else self._core.nbytes

    def __repr__(self) -> str:
        return f"InferenceVjp(shape={self._shape}, iterations={self.iterations})"

    def __call__(
        self,
        grad_q: npt.ArrayLike,
        *,
        wants: Iterable[Wanted] = ALL_GRADIENTS,
        check_finite: bool = True,
    ) -> Gradients:
        """Gradients of L from ``grad_q = dL/dq``.

        Parameters
        ----------
        grad_q : array of float
            Gradient by the marginals, in their shape.
        wants : sequence of str
            Names of what is computed: "unary", "image", "weights", "sigmas", "features",
            "compatibility"; by default all. Without "image", "sigmas" and "features" it
            takes about half the time.
        check_finite : bool, default True
            Refuse NaN and infinity in `grad_q`.

        Returns
        -------
        Gradients

        Raises
        ------
        TypeError, ValueError
            If `grad_q` has the wrong type, shape or values, or a name is unknown.
        KeyboardInterrupt
            On Ctrl-C, between two updates.
        """
        wanted = as_wanted(wants)
        with self._prepared._home.place_of(grad_q=grad_q) as place:
            given = place.take("grad_q", grad_q)
            values = as_floats_in_place("grad_q", given, check_finite=check_finite)
            if values.shape != self._shape:
                raise ValueError(
                    f"grad_q must have the shape of the marginals, {self._shape}, "
                    f"got {values.shape}"
                )
            upstream = as_precision("grad_q", values, self._prepared.dtype)
            return self._reverse(place, wanted, upstream)

    def _reverse(self, place: Place, wanted: frozenset[Wanted], upstream: FloatArray) -> Gradients:
        reverse = Reverse(self._prepared, place, wanted, self._shape, self._axis)
        return reverse.run(self._core, upstream)


class Reverse:
    """One call of the reverse pass: arrays for the core to fill, and their names after."""

    def __init__(
        self,
        prepared: PreparedCRF,
        place: Place,
        wanted: frozenset[Wanted],
        shape: Shape,
        axis: int,
    ) -> None:
        self._prepared = prepared
        self._place = place
        self._wanted = wanted
        self._axis = axis
        self._kernels = prepared.crf.kernels
        dtype = prepared.dtype
        self._unary = place.empty(shape, dtype) if "unary" in wanted else None
        looks_at_image = any(isinstance(kernel, Bilateral) for kernel in self._kernels)
        self._image: FloatArray | None = None
        self._image_table: FloatArray | None = None
        if "image" in wanted and looks_at_image and prepared._image_source is not None:
            self._image = place.zeros(prepared._image_source.shape, dtype)
            self._image_table = prepared._image_source.table(self._image)
        self._features = tuple(
            place.zeros(kernel.array.shape, dtype)
            if isinstance(kernel, Features) and "features" in wanted
            else None
            for kernel in self._kernels
        )

    def run(self, core: _RecordedInference | None, grad_q: FloatArray) -> Gradients:
        """Go back through an inference and name what comes out."""
        parts: list[tuple[list[float], list[float]]]
        if core is None:
            parts = self._zero_parts(grad_q.shape[self._axis])
        else:
            table = None if self._unary is None else channels_first(self._unary, self._axis)
            requests = [self._request(m) for m in range(len(self._kernels))]
            parts = core.reverse(channels_first(grad_q, self._axis), table, requests)
            if table is not None and self._unary is not None:
                copy_back(table, self._unary, self._axis)
        self._finish_image()
        return self._named(parts)

    def _finish_image(self) -> None:
        source = self._prepared._image_source
        if source is not None and self._image is not None and self._image_table is not None:
            source.copy_back(self._image_table, self._image)

    def _given_back(self, result: FloatArray | None) -> FloatArray | None:
        return None if result is None else self._place.given_back(result)

    def _features_given_back(self) -> tuple[FloatArray | None, ...] | None:
        if "features" not in self._wanted:
            return None
        return tuple(self._given_back(features) for features in self._features)

    def _request(self, m: int) -> tuple[_KernelSpec | None, FloatArray | None]:
        """Return what the core differentiates kernel m by, and where node values go."""
        spec, values = self._prepared._specs[m], self._value_gradient(m)
        if isinstance(self._kernels[m], Features):
            return (None, None) if values is None else (spec, values)
        if values is not None:
            return spec, values
        return (spec if "sigmas" in self._wanted else None), None

    def _value_gradient(self, m: int) -> FloatArray | None:
        """Return where the gradient by kernel m's feature values goes, (d, nodes)."""
        features = self._features[m]
        if features is not None:
            return channels_first(features, -1)
        return self._image_table if isinstance(self._kernels[m], Bilateral) else None

    def _zero_parts(self, num_labels: int) -> list[tuple[list[float], list[float]]]:
        """Return what the core would say of a grid without nodes."""
        terms = self._prepared._compatibility(num_labels)
        sizes = [self._num_sigmas(kernel) for kernel in self._kernels]
        return [([0.0] * len(t[1]), [0.0] * n) for t, n in zip(terms, sizes, strict=True)]

    def _num_sigmas(self, kernel: Kernel) -> int:
        if not isinstance(kernel, Gaussian | Bilateral):
            return 0
        source = self._prepared._image_source
        axes = 0 if kernel.sigma_space is None else self._prepared._num_axes
        if isinstance(kernel, Gaussian) or source is None:
            return axes
        return axes + (1 if source.channel_axis is None else source.shape[source.channel_axis])

    def _named(self, parts: list[tuple[list[float], list[float]]]) -> Gradients:
        crf = self._prepared.crf
        by_weight, by_own = [], []
        of_model: ParameterGradient = (
            0.0 if isinstance(crf.compatibility, Potts) else np.zeros(crf.compatibility.shape)
        )
        for kernel, (by_product, _) in zip(self._kernels, parts, strict=True):
            own = kernel.checked_compatibility
            mu = crf.compatibility if own is None else own
            weight, by_mu = compatibility_gradient(mu, kernel.weight, by_product)
            by_weight.append(weight)
            by_own.append(None if own is None else by_mu)
            if own is None:
                of_model = of_model + by_mu
        wants_mu = "compatibility" in self._wanted
        sigmas = tuple(self._sigmas(k, p[1]) for k, p in zip(self._kernels, parts, strict=True))
        return Gradients(
            unary=self._given_back(self._unary),
            image=self._given_back(self._image),
            weights=np.array(by_weight, np.float64) if "weights" in self._wanted else None,
            sigmas=sigmas if "sigmas" in self._wanted else None,
            features=self._features_given_back(),
            compatibility=of_model if wants_mu else None,
            kernel_compatibility=tuple(by_own) if wants_mu else None,
        )

    def _sigmas(self, kernel: Kernel, values: list[float]) -> SigmaGradient | None:
        if isinstance(kernel, Features) or "sigmas" not in self._wanted:
            return None
        array = np.asarray(values, np.float64)
        axes = self._prepared._num_axes
        if isinstance(kernel, Gaussian):
            on_grid = bool(self._prepared._grid_sigma(kernel))
            return SigmaGradient(array if on_grid else array[::-1].copy(), None)
        assert isinstance(kernel, Bilateral)
        if kernel.sigma_space is None:
            return SigmaGradient(None, array)
        # The core has x first, that is the last axis.
        return SigmaGradient(array[:axes][::-1].copy(), array[axes:].copy())
