"""Dense CRF and ConvCRF as functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from densefield._model import Output
from densefield.conv_crf import Start
from densefield.kernels import Kernel, Normalization
from densefield.layer import Layer, WindowForm, kernel_form, sigmas_of
from densefield.torch.operator import mean_field
from densefield.window import WindowShape

CompatibilityTensors: TypeAlias = Tensor | Sequence[Tensor] | None


def dense_crf(
    logits: Tensor,
    image: Tensor | None = None,
    *,
    kernels: Sequence[Kernel],
    weights: Tensor | None = None,
    sigmas: Tensor | None = None,
    compatibility: CompatibilityTensors = None,
    normalization: Normalization = "symmetric",
    iterations: int = 10,
    exclude_self: bool = False,
    output: Output = "marginals",
) -> Tensor:
    """Infer the fully connected CRF, differentiably.

    ``q = softmax(logits - sum_m w_m mu K_m q)``, iterated; see `densefield.DenseCRF`.

    Parameters
    ----------
    logits : (B, C, *grid) tensor of float
        Scores of a network or log p: minus the unary energies. float64 is computed in float64,
        all else in float32; the result has the dtype of the logits.
    image : (B, channels, *grid) tensor, optional
        What the bilateral kernels look at, not rescaled: standard deviations for 8-bit colours
        go with values of 0 to 255.
    kernels : sequence of Gaussian or Bilateral
        The kernels; their weights and standard deviations hold where no tensor is given.
    weights : (M,) tensor, optional
        Weights of the kernels.
    sigmas : (S,) tensor, optional
        Standard deviations of the kernels, of each those of space, then those of colour.
    compatibility : tensor or sequence of tensors, optional
        ``()`` the weight of Potts, ``(C,)`` a diagonal or ``(C, C)`` a matrix; one for all
        kernels, or a sequence of one per kernel. By default Potts of weight 1.
    normalization, iterations, exclude_self, output
        As for `densefield.DenseCRF`.

    Returns
    -------
    (B, C, *grid) tensor
        Marginals or scores, on the device of the logits.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or value.
    RuntimeError
        If tensors are on different devices or on one that is neither the CPU nor CUDA, or a
        second derivative is taken.

    Notes
    -----
    Tensors on a GPU stay there, and the current stream does the work. It is waited for once, for
    the numbers that learn, and, by a dense CRF, where a lattice is built. NaN is a ValueError on
    the CPU, and passed on by a ConvCRF on a GPU, where looking for it would mean to wait.

    Gradients reach logits, image, weights, sigmas and compatibility, those of them that require
    any. Backward runs the inference again, so that nothing but the inputs is kept.
    """
    layer = make_layer(
        kernels,
        compatibility,
        normalization=normalization,
        iterations=iterations,
        exclude_self=exclude_self,
        output=output,
    )
    return _infer(layer, logits, image, kernels, weights, sigmas, compatibility)


def conv_crf(
    logits: Tensor,
    image: Tensor | None = None,
    *,
    kernels: Sequence[Kernel],
    weights: Tensor | None = None,
    sigmas: Tensor | None = None,
    compatibility: CompatibilityTensors = None,
    unary_weight: Tensor | None = None,
    filter_size: int = 7,
    shape: WindowShape = "square",
    downsampling: int = 1,
    start_from: Start = "marginals",
    normalization: Normalization = "symmetric",
    iterations: int = 10,
    exclude_self: bool = False,
    output: Output = "marginals",
) -> Tensor:
    """Infer the CRF with kernels cut to a window, differentiably; see `densefield.ConvCRF`.

    Parameters
    ----------
    logits, image, kernels, weights, sigmas, compatibility
        As for `dense_crf`.
    unary_weight : (1,) or (C,) tensor, optional
        Factor of the unary, normalised to ``-log p``; by default 1.
    filter_size, shape, downsampling, start_from
        As for `densefield.ConvCRF`.
    normalization, iterations, exclude_self, output
        As for `densefield.DenseCRF`.

    Returns
    -------
    (B, C, *grid) tensor
        Marginals or scores, on the device of the logits.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `dense_crf`.
    """
    layer = make_layer(
        kernels,
        compatibility,
        normalization=normalization,
        iterations=iterations,
        exclude_self=exclude_self,
        output=output,
        window=WindowForm(
            filter_size=filter_size, shape=shape, downsampling=downsampling, start_from=start_from
        ),
    )
    return _infer(layer, logits, image, kernels, weights, sigmas, compatibility, unary_weight)


def make_layer(
    kernels: Sequence[Kernel],
    compatibility: CompatibilityTensors,
    *,
    normalization: Normalization,
    iterations: int,
    exclude_self: bool,
    output: Output,
    window: WindowForm | None = None,
) -> str:
    """Return the layer as text: all but the numbers that tensors hold."""
    tensors = _one_or_several(compatibility)
    return Layer(
        kernels=tuple(kernel_form(kernel) for kernel in kernels),
        compatibility_shapes=tuple(tuple(tensor.shape) for tensor in tensors) or ((),),
        normalization=normalization,
        iterations=iterations,
        exclude_self=exclude_self,
        output=output,
        window=window,
    ).to_text()


def apply_layer(
    layer: str,
    logits: Tensor,
    image: Tensor | None,
    *,
    weights: Tensor,
    sigmas: Tensor,
    compatibility: Sequence[Tensor],
    unary_weight: Tensor,
) -> Tensor:
    """Infer a batch by a layer with its numbers, after all checks."""
    check_inputs(logits, image)
    check_parameters(logits, weights=weights, sigmas=sigmas, unary_weight=unary_weight)
    for tensor in compatibility:
        check_parameters(logits, compatibility=tensor)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    flat = torch.cat([tensor.double().reshape(-1) for tensor in compatibility])
    result = mean_field(
        -logits.to(dtype),
        None if image is None else image.to(dtype),
        weights.double(),
        sigmas.double(),
        flat,
        unary_weight.double().reshape(-1),
        layer,
    )
    return result.to(logits.dtype)


def check_inputs(logits: Tensor, image: Tensor | None) -> None:
    """Raise unless logits and image are batches of one grid, on a device that can compute."""
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}; use logits.float()")
    if logits.ndim < 3:
        raise ValueError(
            f"logits must have shape (B, C, *grid), got {tuple(logits.shape)}; "
            f"add a batch axis with logits[None]"
        )
    if image is not None:
        if image.ndim != logits.ndim:
            raise ValueError(
                f"image must have shape (B, channels, *grid) for logits of shape "
                f"{tuple(logits.shape)}, got {tuple(image.shape)}; give a grey image one channel"
            )
        same = image.shape[0] == logits.shape[0] and image.shape[2:] == logits.shape[2:]
        if not same:
            raise ValueError(
                f"image must have the batch and grid of the logits, {tuple(logits.shape)}, got "
                f"{tuple(image.shape)}; channels come second, permute(0, 3, 1, 2) brings them there"
            )
        if image.device != logits.device:
            raise RuntimeError(
                f"logits and image must be on one device, got {logits.device} and {image.device}; "
                f"move one with .to(device)"
            )
    if logits.device.type not in ("cpu", "cuda", "meta"):
        raise RuntimeError(
            f"logits are on {logits.device}, and this layer computes on the CPU and on CUDA "
            f"devices only; move them with .cpu(), and its result back"
        )


def check_parameters(logits: Tensor, **tensors: Tensor) -> None:
    """Raise unless what learns is where the logits are."""
    for name, tensor in tensors.items():
        if tensor.device != logits.device:
            raise RuntimeError(
                f"logits and {name} must be on one device, got {logits.device} and "
                f"{tensor.device}; move the module or the tensor with .to({str(logits.device)!r})"
            )


def _infer(
    layer: str,
    logits: Tensor,
    image: Tensor | None,
    kernels: Sequence[Kernel],
    weights: Tensor | None,
    sigmas: Tensor | None,
    compatibility: CompatibilityTensors,
    unary_weight: Tensor | None = None,
) -> Tensor:
    """Fill in the numbers that no tensor was given for."""

    def numbers(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)

    return apply_layer(
        layer,
        logits,
        image,
        weights=numbers([k.weight for k in kernels]) if weights is None else weights,
        sigmas=numbers(sigmas_of(kernels)) if sigmas is None else sigmas,
        compatibility=_one_or_several(compatibility) or [numbers([1.0])],
        unary_weight=numbers([1.0]) if unary_weight is None else unary_weight,
    )


def _one_or_several(compatibility: CompatibilityTensors) -> list[Tensor]:
    if compatibility is None:
        return []
    return [compatibility] if isinstance(compatibility, Tensor) else list(compatibility)
