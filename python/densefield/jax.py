"""Dense random fields as functions of JAX arrays: under `jax.jit`, `jax.grad` and `jax.vmap`.

Inference runs on the host, called back from the compiled program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError(
        "densefield.jax needs JAX, which is not installed; "
        "install it with: pip install 'densefield[jax]'"
    ) from error

from densefield import layer as layers
from densefield._model import Output
from densefield.conv_crf import Start
from densefield.kernels import Kernel, Normalization
from densefield.layer import (
    Layer,
    Learnable,
    WindowForm,
    kernel_form,
    layer_from_text,
    sigmas_of,
)
from densefield.window import WindowShape

__all__ = ["conv_crf", "dense_crf"]

Array: TypeAlias = Any  # a jax.Array, or what becomes one
Compatibility: TypeAlias = Array | Sequence[Array] | None


def dense_crf(
    logits: Array,
    image: Array | None = None,
    *,
    kernels: Sequence[Kernel],
    weights: Array | None = None,
    sigmas: Array | None = None,
    compatibility: Compatibility = None,
    normalization: Normalization = "symmetric",
    iterations: int = 10,
    exclude_self: bool = False,
    output: Output = "marginals",
) -> Array:
    """Infer the fully connected CRF, differentiably.

    ``q = softmax(logits - sum_m w_m mu K_m q)``, iterated; see `densefield.DenseCRF`.

    Parameters
    ----------
    logits : (C, *grid) array of float
        Scores of a network or log p: minus the unary energies. float64 is computed in float64,
        all else in float32; the result has the dtype of the logits. For batches use `jax.vmap`.
    image : (channels, *grid) array, optional
        What the bilateral kernels look at, not rescaled: standard deviations for 8-bit colours
        go with values of 0 to 255.
    kernels : sequence of Gaussian or Bilateral
        The kernels; their weights and standard deviations hold where no array is given.
    weights : (M,) array, optional
        Weights of the kernels.
    sigmas : (S,) array, optional
        Standard deviations of the kernels, of each those of space, then those of colour.
    compatibility : array or list or tuple of arrays, optional
        ``()`` the weight of Potts, ``(C,)`` a diagonal or ``(C, C)`` a matrix; one for all
        kernels, or a list of one per kernel. By default Potts of weight 1.
    normalization, iterations, exclude_self, output
        As for `densefield.DenseCRF`.

    Returns
    -------
    (C, *grid) array
        Marginals or scores.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape. Values that are refused (NaN, standard
        deviations not above 0) raise JAX's error of the callback, with the text of ours.

    Notes
    -----
    Gradients reach logits, image, weights, sigmas and compatibility, and only those that are
    differentiated for are computed. The reverse pass runs the inference again. No second
    derivatives, and no forward mode.

    Examples
    --------
    >>> import densefield as df
    >>> q = dense_crf(np.zeros((2, 4, 5), np.float32), kernels=[df.Gaussian(sigma_space=1)])
    >>> q.shape
    (2, 4, 5)
    """
    return _infer(
        logits,
        image,
        kernels,
        weights,
        sigmas,
        compatibility,
        None,
        normalization=normalization,
        iterations=iterations,
        exclude_self=exclude_self,
        output=output,
    )


def conv_crf(
    logits: Array,
    image: Array | None = None,
    *,
    kernels: Sequence[Kernel],
    weights: Array | None = None,
    sigmas: Array | None = None,
    compatibility: Compatibility = None,
    unary_weight: Array | None = None,
    filter_size: int = 7,
    shape: WindowShape = "square",
    downsampling: int = 1,
    start_from: Start = "marginals",
    normalization: Normalization = "symmetric",
    iterations: int = 10,
    exclude_self: bool = False,
    output: Output = "marginals",
) -> Array:
    """Infer the CRF with kernels cut to a window, differentiably; see `densefield.ConvCRF`.

    Parameters
    ----------
    logits, image, kernels, weights, sigmas, compatibility
        As for `dense_crf`.
    unary_weight : (1,) or (C,) array, optional
        Factor of the unary, normalised to ``-log p``; by default 1.
    filter_size, shape, downsampling, start_from
        As for `densefield.ConvCRF`.
    normalization, iterations, exclude_self, output
        As for `densefield.DenseCRF`.

    Returns
    -------
    (C, *grid) array
        Marginals or scores.

    Raises
    ------
    TypeError, ValueError
        As for `dense_crf`.
    """
    window = WindowForm(
        filter_size=filter_size, shape=shape, downsampling=downsampling, start_from=start_from
    )
    return _infer(
        logits,
        image,
        kernels,
        weights,
        sigmas,
        compatibility,
        unary_weight,
        normalization=normalization,
        iterations=iterations,
        exclude_self=exclude_self,
        output=output,
        window=window,
    )


def _infer(
    logits: Array,
    image: Array | None,
    kernels: Sequence[Kernel],
    weights: Array | None,
    sigmas: Array | None,
    compatibility: Compatibility,
    unary_weight: Array | None,
    **options: Any,
) -> Array:
    """Check, fill in the numbers that no array was given for, and flatten them."""
    logits = jnp.asarray(logits)
    image = None if image is None else jnp.asarray(image)
    _check_inputs(logits, image)
    dtype = jnp.float64 if logits.dtype == jnp.float64 else jnp.float32
    several = compatibility if isinstance(compatibility, list | tuple) else [compatibility]
    tables = [jnp.asarray(1.0 if mu is None else mu, dtype) for mu in several]
    text = Layer(
        kernels=tuple(kernel_form(kernel) for kernel in kernels),
        compatibility_shapes=tuple(table.shape for table in tables),
        **options,
    ).to_text()
    result = _mean_field(
        text,
        -logits.astype(dtype),
        None if image is None else image.astype(dtype),
        jnp.asarray([k.weight for k in kernels] if weights is None else weights, dtype),
        jnp.asarray(sigmas_of(kernels) if sigmas is None else sigmas, dtype),
        jnp.concatenate([table.reshape(-1) for table in tables]),
        jnp.asarray([1.0] if unary_weight is None else unary_weight, dtype).reshape(-1),
    )
    return result.astype(logits.dtype)


def _check_inputs(logits: Array, image: Array | None) -> None:
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(
            f"logits must be floating point, got {logits.dtype}; use logits.astype(jnp.float32)"
        )
    if logits.ndim < 2:
        raise ValueError(
            f"logits must have shape (C, *grid), got {logits.shape}; for batches use jax.vmap"
        )
    if image is not None and (image.ndim != logits.ndim or image.shape[1:] != logits.shape[1:]):
        raise ValueError(
            f"image must have shape (channels, *grid) with the grid of the logits, "
            f"{logits.shape[1:]}, got {image.shape}; jnp.moveaxis(image, -1, 0) brings channels "
            f"to the front, image[None] gives a grey image one"
        )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mean_field(text: str, *inputs: Array) -> Array:
    """Call inference back: unary, image or None, and the arrays of `Learnable`, flat."""
    unary = inputs[0]

    def infer(unary: Array, image: Array | None, *numbers: Array) -> Any:
        batch = None if image is None else np.asarray(image)[None]
        return layers.infer(
            layer_from_text(text), np.asarray(unary)[None], batch, _learnable(numbers)
        )[0]

    return _call_back(infer, jax.ShapeDtypeStruct(unary.shape, unary.dtype), *inputs)


def _forward(text: str, *primals: Any) -> tuple[Array, Any]:
    """Infer, and keep the inputs with those marked that are differentiated for."""
    values = [None if primal is None else primal.value for primal in primals]
    # As structure, not as values, so that they are known while a program is traced.
    marks = [() if primal is not None and primal.perturbed else None for primal in primals]
    return _mean_field(text, *values), (values, marks)


def _backward(text: str, kept: Any, grad: Any) -> tuple[Array | None, ...]:
    values, marks = kept
    wanted = [mark is not None for mark in marks]
    if isinstance(grad, jax.custom_derivatives.SymbolicZero):
        grad = jnp.zeros(grad.shape, grad.dtype)
    shapes = [
        jax.ShapeDtypeStruct(value.shape, value.dtype)
        for value, is_wanted in zip(values, wanted, strict=True)
        if is_wanted
    ]

    def infer_vjp(grad: Array, unary: Array, image: Array | None, *numbers: Array) -> Any:
        gradients = layers.infer_vjp(
            layer_from_text(text),
            np.asarray(unary)[None],
            None if image is None else np.asarray(image)[None],
            _learnable(numbers),
            np.asarray(grad)[None],
            wanted=wanted,
        )
        return [
            np.asarray(gradient, shape.dtype).reshape(shape.shape)
            for gradient, shape in zip(gradients, shapes, strict=True)
        ]

    gradients = iter(_call_back(infer_vjp, shapes, grad, *values))
    zeros = [None if value is None else jnp.zeros_like(value) for value in values]
    return tuple(
        next(gradients) if is_wanted else zero
        for is_wanted, zero in zip(wanted, zeros, strict=True)
    )


_mean_field.defvjp(_forward, _backward, symbolic_zeros=True)


def _call_back(function: Callable[..., Any], shapes: Any, *arguments: Array) -> Any:
    return jax.pure_callback(function, shapes, *arguments, vmap_method="sequential")


def _learnable(numbers: Sequence[Array]) -> Learnable:
    return Learnable(*(np.asarray(array, np.float64) for array in numbers))
