"""Inference as an operator of PyTorch: ``densefield::mean_field`` with its derivative.

The operator sees plain tensors and the layer as text, so that it can be compiled, exported
and checked by `torch.library.opcheck`. PyTorch's own library is not linked: tensors in host
memory are NumPy arrays without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densefield import layer as layers
from densefield._arrays import FloatArray
from densefield.layer import Learnable, layer_from_text

_DEVICES = ("cpu", "cuda")


@torch.library.custom_op("densefield::mean_field", mutates_args=(), device_types=_DEVICES)
def mean_field(
    unary: Tensor,
    image: Tensor | None,
    weights: Tensor,
    sigmas: Tensor,
    compatibility: Tensor,
    unary_weight: Tensor,
    layer: str,
) -> Tensor:
    """Infer a batch.

    Parameters
    ----------
    unary : (B, C, *grid) tensor of float32 or float64
    image : (B, channels, *grid) tensor of the same dtype, or None
    weights, sigmas, compatibility, unary_weight : flat tensors of float64
        As in `densefield.layer.Learnable`.
    layer : str
        `densefield.layer.Layer.to_text`.

    Returns
    -------
    (B, C, *grid) tensor, contiguous
    """
    result = unary.new_empty(unary.shape)
    layers.infer(
        layer_from_text(layer),
        _array(unary),
        _image(image),
        _learnable(weights, sigmas, compatibility, unary_weight),
        out=_array(result),
        check_finite=_is_checked(unary),
    )
    return result


@mean_field.register_fake
def _(
    unary: Tensor,
    image: Tensor | None,
    weights: Tensor,
    sigmas: Tensor,
    compatibility: Tensor,
    unary_weight: Tensor,
    layer: str,
) -> Tensor:
    return unary.new_empty(unary.shape)


@torch.library.custom_op("densefield::mean_field_backward", mutates_args=(), device_types=_DEVICES)
def mean_field_backward(
    grad: Tensor,
    unary: Tensor,
    image: Tensor | None,
    weights: Tensor,
    sigmas: Tensor,
    compatibility: Tensor,
    unary_weight: Tensor,
    layer: str,
    wanted: Sequence[bool],
) -> list[Tensor]:
    """Differentiate ``sum(grad * mean_field(..))``: the gradients of the wanted inputs, in order.

    The inference is run again: only the inputs are kept between forward and backward.
    """
    gradients = layers.infer_vjp(
        layer_from_text(layer),
        _array(unary),
        _image(image),
        _learnable(weights, sigmas, compatibility, unary_weight),
        _array(grad),
        wanted=wanted,
        zeros_like=_zeros_like,
        check_finite=_is_checked(unary),
    )
    return [torch.as_tensor(gradient, device=unary.device) for gradient in gradients]


@mean_field_backward.register_fake
def _(
    grad: Tensor,
    unary: Tensor,
    image: Tensor | None,
    weights: Tensor,
    sigmas: Tensor,
    compatibility: Tensor,
    unary_weight: Tensor,
    layer: str,
    wanted: Sequence[bool],
) -> list[Tensor]:
    inputs = (unary, image, weights, sigmas, compatibility, unary_weight)
    return [
        tensor.new_empty(tensor.shape)
        for tensor, is_wanted in zip(inputs, wanted, strict=True)
        if is_wanted and tensor is not None
    ]


def _keep_inputs(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Any, ...], output: Tensor
) -> None:
    *tensors, ctx.layer = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[: len(tensors)])
    gradients = iter(mean_field_backward(grad, *tensors, ctx.layer, wanted))
    return (*(next(gradients) if is_wanted else None for is_wanted in wanted), None)


mean_field.register_autograd(_backward, setup_context=_keep_inputs)


def _keep_nothing(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Any, ...], output: list[Tensor]
) -> None:
    pass


def _no_second_derivative(ctx: torch.autograd.function.FunctionCtx, grads: list[Tensor]) -> None:
    raise RuntimeError(
        "densefield has no second derivatives: backward was called through a gradient; "
        "leave out create_graph=True, or detach the gradient"
    )


mean_field_backward.register_autograd(_no_second_derivative, setup_context=_keep_nothing)


# What densefield reads a tensor as: on a device, as the tensor that it is.
def _array(tensor: Tensor) -> FloatArray:
    values: Any = tensor.detach() if tensor.is_cuda else tensor.detach().numpy()
    array: FloatArray = values
    return array


def _image(image: Tensor | None) -> FloatArray | None:
    return None if image is None else _array(image)


def _zeros_like(array: Any) -> Any:
    return torch.zeros_like(array) if isinstance(array, Tensor) else np.zeros_like(array)


def _is_checked(unary: Tensor) -> bool:
    """Whether NaN is refused: on a device that would mean to wait, so it is passed on there."""
    return not unary.is_cuda


def _learnable(*tensors: Tensor) -> Learnable:
    """Return the numbers on the host: from a device in one copy, which waits for it."""
    flat = torch.cat([tensor.detach().double() for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])
    return Learnable(*np.split(flat, ends[:-1]))
