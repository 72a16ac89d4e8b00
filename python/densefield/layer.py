"""A model without its numbers, as a function of arrays: what the layers of frameworks call.

A `Layer` says which kernels there are and how they are used; it is text, so that a compiled
graph can hold it. What can be learned - weights, standard deviations, compatibilities - comes
beside it in flat arrays, and unary and image in batches.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from densefield._arrays import FloatArray, Shape
from densefield._model import Output
from densefield.compatibility import Checked, Potts
from densefield.conv_batch import ConvBatch, images_at_once
from densefield.conv_crf import ConvCRF, Start
from densefield.crf import DenseCRF
from densefield.gradients import Gradients
from densefield.kernels import Bilateral, Gaussian, Kernel, Normalization
from densefield.window import WindowShape

Numbers: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class KernelForm:
    """What kind of kernel, and how many standard deviations it has."""

    kind: Literal["gaussian", "bilateral"]
    num_space: int  # 0: without positions, 1: the same along all axes, else one per axis
    num_color: int  # 1: the same for all channels, else one per channel
    normalization: Normalization | None
    method: Literal["grid", "lattice"]


@dataclass(frozen=True, kw_only=True)
class WindowForm:
    """What makes the model a ConvCRF."""

    filter_size: int
    shape: WindowShape
    downsampling: int
    start_from: Start


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A CRF model without weights, standard deviations and compatibilities."""

    kernels: tuple[KernelForm, ...]
    compatibility_shapes: tuple[Shape, ...]  # one for all kernels, or one per kernel
    normalization: Normalization
    iterations: int
    exclude_self: bool
    output: Output
    window: WindowForm | None = None

    def to_text(self) -> str:
        """Write as a Python literal, in terms that a compiler of Python can follow."""
        return str(asdict(self))

    @property
    def num_sigmas(self) -> int:
        """Standard deviations of all kernels together."""
        return sum(kernel.num_space + kernel.num_color for kernel in self.kernels)


@lru_cache(maxsize=128)
def layer_from_text(text: str) -> Layer:
    """Read what `Layer.to_text` wrote."""
    values = ast.literal_eval(text)
    window = values.pop("window")
    kernels = tuple(KernelForm(**kernel) for kernel in values.pop("kernels"))
    return Layer(
        kernels=kernels,
        window=None if window is None else WindowForm(**window),
        **values,
    )


class Learnable(NamedTuple):
    """The numbers of a layer."""

    weights: Numbers  # (M,) of the kernels
    sigmas: Numbers  # of each kernel those of positions, then those of colours
    compatibility: Numbers  # raveled, one after another; a number is the weight of Potts
    unary_weight: Numbers  # (1,) or (C,), looked at by a ConvCRF alone


def kernel_form(kernel: Kernel) -> KernelForm:
    """Return the form of a Gaussian or Bilateral kernel."""
    if not isinstance(kernel, Gaussian | Bilateral):
        raise TypeError(
            f"kernels of a layer must be Gaussian or Bilateral, got {type(kernel).__name__}; "
            f"give feature vectors as channels of the image to Bilateral(sigma_space=None, ..)"
        )
    return KernelForm(
        kind="gaussian" if isinstance(kernel, Gaussian) else "bilateral",
        num_space=len(_space(kernel)),
        num_color=len(_color(kernel)),
        normalization=kernel.normalization,
        method=kernel.method if isinstance(kernel, Gaussian) else "lattice",
    )


def sigmas_of(kernels: Sequence[Kernel]) -> list[float]:
    """Return the standard deviations of all kernels in the order of `Learnable.sigmas`."""
    return [sigma for kernel in kernels for sigma in (*_space(kernel), *_color(kernel))]


# Kernels hold their standard deviations as tuples, whatever they were given.
def _space(kernel: Kernel) -> tuple[float, ...]:
    sigma = kernel.sigma_space if isinstance(kernel, Gaussian | Bilateral) else None
    return () if sigma is None else cast("tuple[float, ...]", sigma)


def _color(kernel: Kernel) -> tuple[float, ...]:
    return cast("tuple[float, ...]", kernel.sigma_color) if isinstance(kernel, Bilateral) else ()


def model(layer: Layer, learnable: Learnable, *, of_batch: bool = False) -> DenseCRF:
    """Return the CRF of a layer with its numbers; `of_batch`: a `ConvBatch`."""
    mu = _compatibilities(layer, learnable.compatibility)
    own: Sequence[Checked | None] = mu if len(mu) > 1 else [None] * len(layer.kernels)
    kernels: list[Kernel] = []
    first = 0
    for form, weight, compatibility in zip(layer.kernels, learnable.weights, own, strict=True):
        middle, last = first + form.num_space, first + form.num_space + form.num_color
        options: dict[str, Any] = {
            "weight": float(weight),
            "compatibility": compatibility,
            "normalization": form.normalization,
        }
        space = learnable.sigmas[first:middle].tolist() or None
        if form.kind == "gaussian":
            assert space is not None
            kernels.append(Gaussian(sigma_space=space, method=form.method, **options))
        else:
            color = learnable.sigmas[middle:last].tolist()
            kernels.append(Bilateral(sigma_space=space, sigma_color=color, **options))
        first = last
    options = {
        "compatibility": mu[0] if len(mu) == 1 else None,
        "normalization": layer.normalization,
        "iterations": layer.iterations,
        "exclude_self": layer.exclude_self,
        "output": layer.output,
    }
    if layer.window is None:
        return DenseCRF(kernels, **options)
    return (ConvBatch if of_batch else ConvCRF)(
        kernels,
        **options,
        filter_size=layer.window.filter_size,
        shape=layer.window.shape,
        downsampling=layer.window.downsampling,
        start_from=layer.window.start_from,
        unary_weight=_one_or_all(learnable.unary_weight),
    )


def _compatibilities(layer: Layer, values: Numbers) -> list[Checked]:
    result: list[Checked] = []
    first = 0
    for shape in layer.compatibility_shapes:
        last = first + math.prod(shape)
        part = values[first:last].reshape(shape)
        result.append(part if shape else Potts(float(part)))
        first = last
    return result


def _one_or_all(values: Numbers) -> float | Numbers:
    return float(values[0]) if len(values) == 1 else values


def infer(
    layer: Layer,
    unary: FloatArray,
    image: FloatArray | None,
    learnable: Learnable,
    *,
    out: FloatArray | None = None,
    check_finite: bool = True,
) -> FloatArray:
    """Infer every field of a batch.

    Unary, image and `out` are NumPy's arrays, or another library's on a device.

    Parameters
    ----------
    layer : Layer
    unary : (B, C, *grid) array of float
    image : (B, channels, *grid) array of float or None
    learnable : Learnable
    out : (B, C, *grid) array, optional
        Where the result goes; by default a new array of NumPy's.
    check_finite : bool, default True
        Refuse NaN and infinity.

    Returns
    -------
    (B, C, *grid) array
    """
    result = np.empty(unary.shape, unary.dtype) if out is None else out
    for crf, b, axis in _fields(layer, learnable, unary, check_finite):
        crf.infer(
            unary[b],
            _of_batch(image, b),
            label_axis=axis,
            channel_axis=axis,
            out=result[b],
            check_finite=check_finite,
        )
    return result


def infer_vjp(
    layer: Layer,
    unary: FloatArray,
    image: FloatArray | None,
    learnable: Learnable,
    grad: FloatArray,
    *,
    wanted: Sequence[bool],
    zeros_like: Callable[[Any], Any] = np.zeros_like,
    check_finite: bool = True,
) -> list[FloatArray]:
    """Differentiate ``sum(grad * infer(..))``; the inference is run again.

    Parameters
    ----------
    layer, unary, image, learnable
        As for `infer`.
    grad : (B, C, *grid) array of float
        The gradient arriving at the result.
    wanted : sequence of 6 bools
        For unary, image and the four arrays of `learnable`: whether its gradient is wanted.
    zeros_like : callable, default numpy.zeros_like
        Makes the gradients of unary and image.
    check_finite : bool, default True
        Refuse NaN and infinity in unary and image.

    Returns
    -------
    list of arrays
        The wanted gradients, each of the shape and dtype of what it belongs to; those of
        `learnable` are NumPy's.
    """
    inputs = dict(zip(INPUTS, (unary, image, *learnable), strict=True))
    names = [name for name, is_wanted in zip(INPUTS, wanted, strict=True) if is_wanted]
    totals = {
        name: (zeros_like if name in ("unary", "image") else np.zeros_like)(inputs[name])
        for name in names
    }
    if "unary_weight" in totals:
        # One factor for each label, which is never taken for the model without a factor.
        factor = np.broadcast_to(learnable.unary_weight, unary.shape[1:2])
        learnable = learnable._replace(unary_weight=factor.copy())
    wants: list[Any] = [name for name in names if name != "unary_weight"]  # it comes with all
    for crf, b, axis in _fields(layer, learnable, unary, check_finite):
        _, vjp = crf.infer_vjp(
            unary[b],
            _of_batch(image, b),
            label_axis=axis,
            channel_axis=axis,
            check_finite=check_finite,
        )
        gradients = vjp(grad[b], wants=wants, check_finite=False)
        for name, total in totals.items():
            if name in ("unary", "image"):
                part = getattr(gradients, name)
                total[b] = 0 if part is None else part  # no kernel may look at the image
            else:
                total += _flat(layer, name, gradients, total.size)
    return list(totals.values())


# Names of what a layer is given, and of the gradients, in this order.
INPUTS = ("unary", "image", *Learnable._fields)


def _flat(layer: Layer, name: str, gradients: Any, size: int) -> Numbers:
    """Return one of the gradients of `Learnable`, in its order."""
    if name == "sigmas":
        parts = _sigma_parts(layer, gradients)
    elif name == "compatibility" and len(layer.compatibility_shapes) > 1:
        parts = [
            np.asarray(part, np.float64).ravel() for part in gradients.kernel_compatibility or ()
        ]
    elif name == "unary_weight":
        if layer.window is None:
            return np.zeros(size)  # a dense CRF does not look at it
        by_label = np.asarray(gradients.unary_weight, np.float64)
        return by_label.sum(keepdims=True) if size == 1 else by_label
    else:
        parts = [np.ravel(getattr(gradients, name))]
    return np.concatenate(parts) if parts else np.empty(0)


def _sigma_parts(layer: Layer, gradients: Gradients) -> list[Numbers]:
    parts: list[Numbers] = []
    for form, sigma in zip(layer.kernels, gradients.sigmas or (), strict=True):
        assert sigma is not None
        for count, part in (
            (form.num_space, sigma.sigma_space),
            (form.num_color, sigma.sigma_color),
        ):
            if count:
                assert part is not None
                # One number for all axes has the sum of their gradients.
                parts.append(part.sum(keepdims=True) if count == 1 else part)
    return parts


class _Field(NamedTuple):
    """What of a batch is inferred at once: one image, or several joined."""

    crf: DenseCRF
    images: int | slice
    axis: int  # of labels and channels


def _fields(
    layer: Layer, learnable: Learnable, unary: FloatArray, check_finite: bool
) -> Iterator[_Field]:
    count, size = len(unary), 1
    if layer.window is not None and count > 1:
        size = min(count, images_at_once(unary[0], is_finite=check_finite))
    crf = model(layer, learnable, of_batch=size > 1)
    for first in range(0, count, size):
        images = slice(first, min(first + size, count)) if size > 1 else first
        yield _Field(crf, images, int(size > 1))


def _of_batch(image: FloatArray | None, images: int | slice) -> FloatArray | None:
    return None if image is None else image[images]
