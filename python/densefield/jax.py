"""Dense random fields as functions of JAX arrays: under `jax.jit`, `jax.grad` and `jax.vmap`.

Inference runs on the host. On the CPU the compiled program calls it where its arrays are, as a
handler of XLA's typed foreign function interface; on other platforms it is a callback of JAX,
which copies them there and back.
"""

from __future__ import annotations

from collections.abc import Sequence
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

from densefield import _densefield
from densefield import layer as layers
from densefield._arrays import FloatArray
from densefield._model import Output
from densefield.conv_crf import Start
from densefield.kernels import Kernel, Normalization
from densefield.layer import (
    INPUTS,
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
        If an argument has the wrong type or shape.
    jax.errors.JaxRuntimeError
        If values are refused (NaN, standard deviations not above 0): JAX's error, with the text
        of ours.

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
    """Infer from unary, image or None, and the arrays of `Learnable`, flat."""
    return _compute(text, (), dict(zip(INPUTS, inputs, strict=True)))[0]


def _forward(text: str, *primals: Any) -> tuple[Array, Any]:
    """Infer, and keep the inputs with those marked that are differentiated for."""
    values = [None if primal is None else primal.value for primal in primals]
    # As structure, not as values, so that they are known while a program is traced.
    marks = [() if primal is not None and primal.perturbed else None for primal in primals]
    return _mean_field(text, *values), (values, marks)


def _backward(text: str, kept: Any, grad: Any) -> tuple[Array | None, ...]:
    values, marks = kept
    if isinstance(grad, jax.custom_derivatives.SymbolicZero):
        grad = jnp.zeros(grad.shape, grad.dtype)
    wanted = tuple(name for name, mark in zip(INPUTS, marks, strict=True) if mark is not None)
    inputs = dict(zip(INPUTS, values, strict=True))
    gradients = dict(zip(wanted, _compute(text, wanted, inputs | {"grad": grad}), strict=True))
    return tuple(
        gradients.get(name, None if value is None else jnp.zeros_like(value))
        for name, value in inputs.items()
    )


_mean_field.defvjp(_forward, _backward, symbolic_zeros=True)


# Compiled also where the caller's program is not, so that calls of the same shapes trace it once.
@partial(jax.jit, static_argnums=(0, 1))
def _compute(text: str, wanted: tuple[str, ...], inputs: dict[str, Array | None]) -> list[Array]:
    """Have `_fill` compute the result, or the `wanted` gradients if there are any."""
    arrays: dict[str, Array] = {k: array for k, array in inputs.items() if array is not None}
    texts = {"layer": text, "names": " ".join(arrays), "wanted": " ".join(wanted)}
    # The result is like the unary, and a gradient like what it belongs to.
    shapes = [
        jax.ShapeDtypeStruct(arrays[name].shape, arrays[name].dtype)
        for name in wanted or ("unary",)
    ]

    def call_handler(*arguments: Array) -> list[Array]:
        return jax.ffi.ffi_call(_TARGET, shapes, vmap_method="sequential")(*arguments, **texts)

    def call_back(*arguments: Array) -> list[Array]:
        return jax.pure_callback(results_of, shapes, *arguments, vmap_method="sequential")

    def results_of(*arguments: Array) -> list[FloatArray]:
        results = [np.empty(shape.shape, shape.dtype) for shape in shapes]
        _fill([np.asarray(array) for array in arguments], results, **texts)
        return results

    return jax.lax.platform_dependent(*arrays.values(), cpu=call_handler, default=call_back)


def _fill(
    arguments: Sequence[FloatArray],
    results: Sequence[FloatArray],
    *,
    layer: str,
    names: str,
    wanted: str,
) -> None:
    """Write the result, or the wanted gradients, to where a program of JAX wants them.

    Parameters
    ----------
    arguments : sequence of arrays
        Read-only. They and the results are the program's memory, which is valid only until the
        function returns.
    results : sequence of arrays
        The result of `layers.infer`, or the wanted gradients.
    layer : str
        `Layer.to_text`.
    names : str
        What the arguments are, of `INPUTS` and ``grad``, with spaces between.
    wanted : str
        Names of the inputs whose gradients are wanted; none: infer.
    """
    given = dict(zip(names.split(), arguments, strict=True))
    learnable = Learnable(*(np.asarray(given[name], np.float64) for name in Learnable._fields))
    image = given["image"][None] if "image" in given else None
    inputs = layer_from_text(layer), given["unary"][None], image, learnable
    if not wanted:
        layers.infer(*inputs, out=results[0][None])
        return
    is_wanted = [name in wanted.split() for name in INPUTS]
    gradients = layers.infer_vjp(*inputs, given["grad"][None], wanted=is_wanted)
    for gradient, result in zip(gradients, results, strict=True):
        result[...] = gradient.reshape(result.shape)


_TARGET = "densefield_mean_field"
jax.ffi.register_ffi_target(_TARGET, _densefield.jax_handler(_fill), platform="cpu")
