"""Dense CRF and ConvCRF in JAX: values, jit, grad, vmap, and gradients against differences."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import densefield as df

jax = pytest.importorskip("jax", reason="JAX is not installed: the extra is 'jax'")
checks = pytest.importorskip("jax.test_util")
adapter = pytest.importorskip("densefield.jax")

GRID = (4, 5)
KERNELS = [
    df.Gaussian(sigma_space=1.37, weight=0.7, method="lattice"),
    df.Bilateral(sigma_space=(2.17, 3.41), sigma_color=0.63, weight=0.9),
]


@pytest.fixture
def double_precision() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def make_batch(size: int = 2, dtype: type = np.float32) -> tuple[Any, Any]:
    rng = np.random.default_rng(7)
    logits, image = rng.normal(size=(size, 3, *GRID)), rng.normal(size=(size, 2, *GRID))
    return logits.astype(dtype), image.astype(dtype)


def refine(logits: Any, image: Any, **options: Any) -> Any:
    return adapter.dense_crf(logits, image, kernels=KERNELS, iterations=3, **options)


# Values


def test_dense_crf_is_that_of_numpy() -> None:
    (logits,), (image,) = make_batch(1)
    expected = df.DenseCRF(KERNELS, iterations=3).infer(-logits, image, channel_axis=0)
    # Numbers are float32 there: 1e-7 of a standard deviation is rounded off.
    np.testing.assert_allclose(refine(logits, image), expected, atol=1e-5)


def test_conv_crf_is_that_of_numpy() -> None:
    (logits,), (image,) = make_batch(1)
    result = adapter.conv_crf(logits, image, kernels=KERNELS, filter_size=3, output="scores")
    crf = df.ConvCRF(KERNELS, filter_size=3, output="scores")
    np.testing.assert_allclose(result, crf.infer(-logits, image, channel_axis=0), atol=1e-4)


def test_arrays_replace_the_numbers_of_the_kernels() -> None:
    (logits,), (image,) = make_batch(1)
    matrix = np.array([[0.0, 1.0, 2.0], [0.5, 0.0, 1.0], [2.0, 1.0, 0.0]], np.float32)
    result = refine(
        logits,
        image,
        weights=np.array([0.5, 2.0], np.float32),
        sigmas=np.array([1.0, 4.0, 5.0, 2.0], np.float32),
        compatibility=matrix,
    )
    kernels = [
        df.Gaussian(sigma_space=1, weight=0.5, method="lattice"),
        df.Bilateral(sigma_space=(4, 5), sigma_color=2, weight=2),
    ]
    crf = df.DenseCRF(kernels, compatibility=matrix, iterations=3)
    np.testing.assert_array_equal(result, crf.infer(-logits, image, channel_axis=0))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(name: str) -> None:
    (logits,), (image,) = make_batch(1)
    half = jax.numpy.asarray(logits, name)
    result = refine(half, image)
    assert result.dtype == name
    assert np.array_equal(result, refine(half.astype("float32"), image).astype(name))


@pytest.mark.usefixtures("double_precision")
def test_float64_is_computed_in_float64() -> None:
    (logits,), (image,) = make_batch(1, np.float64)
    expected = df.DenseCRF(KERNELS, iterations=3).infer(-logits, image, channel_axis=0)
    np.testing.assert_array_equal(refine(logits, image), expected)


# Transformations


def test_jit_does_not_change_the_bits() -> None:
    (logits,), (image,) = make_batch(1)
    assert np.array_equal(jax.jit(refine)(logits, image), refine(logits, image))


def test_vmap_infers_every_image_of_a_batch() -> None:
    logits, image = make_batch(3)
    result = jax.jit(jax.vmap(refine))(logits, image)
    for b in range(3):
        assert np.array_equal(result[b], refine(logits[b], image[b]))


def test_gradients_of_a_batch_are_those_of_its_images() -> None:
    logits, image = make_batch(2)
    weights = np.array([0.7, 0.9], np.float32)

    def loss(logits: Any, image: Any, weights: Any) -> Any:
        return (refine(logits, image, weights=weights) ** 2).sum()

    gradient = jax.grad(loss, argnums=(0, 1, 2))
    batch = jax.vmap(gradient, in_axes=(0, 0, None))(logits, image, weights)
    for b in range(2):
        for whole, own in zip(batch, gradient(logits[b], image[b], weights), strict=True):
            assert np.array_equal(whole[b], own) and np.abs(own).max() > 0


# Central differences in float64


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("shape", [(), (3,), (3, 3)], ids=["potts", "vector", "matrix"])
def test_gradients_of_the_dense_crf(shape: tuple[int, ...]) -> None:
    def infer(logits: Any, image: Any, weights: Any, sigmas: Any, mu: Any) -> Any:
        return refine(logits, image, weights=weights, sigmas=sigmas, compatibility=mu)

    (logits,), (image,) = make_batch(1, np.float64)
    numbers = np.array([0.7, 0.9]), np.array([1.37, 2.17, 3.41, 0.63])
    mu = np.random.default_rng(3).normal(size=shape)
    checks.check_grads(
        infer, (logits, image, *numbers, mu), order=1, modes=["rev"], eps=1e-6, rtol=1e-6
    )


@pytest.mark.usefixtures("double_precision")
def test_gradients_of_the_conv_crf() -> None:
    def infer(logits: Any, image: Any, sigmas: Any, mu: Any, factor: Any) -> Any:
        return adapter.conv_crf(
            logits,
            image,
            kernels=KERNELS,
            sigmas=sigmas,
            compatibility=[mu, -mu],
            unary_weight=factor,
            filter_size=3,
            iterations=2,
        )

    (logits,), (image,) = make_batch(1, np.float64)
    sigmas, mu = np.array([1.37, 2.17, 3.41, 0.63]), np.array([-1.0, 0.3, -0.5])
    inputs = (logits, image, sigmas, mu, np.array([0.8]))
    checks.check_grads(infer, inputs, order=1, modes=["rev"], eps=1e-6, rtol=1e-6)


@pytest.mark.usefixtures("double_precision")
def test_a_zeroed_gradient_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from densefield import layer

    right = layer.infer_vjp
    monkeypatch.setattr(layer, "infer_vjp", lambda *a, **k: [0 * g for g in right(*a, **k)])
    (logits,), (image,) = make_batch(1, np.float64)
    with pytest.raises(AssertionError):
        checks.check_grads(
            lambda x: refine(x, image), (logits,), order=1, modes=["rev"], eps=1e-6, rtol=1e-6
        )


def test_only_wanted_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from densefield import layer

    right, wanted = layer.infer_vjp, []

    def watched(*arguments: Any, **options: Any) -> list[Any]:
        wanted.append(list(options["wanted"]))
        return right(*arguments, **options)

    monkeypatch.setattr(layer, "infer_vjp", watched)
    (logits,), (image,) = make_batch(1)
    jax.block_until_ready(jax.jit(jax.grad(lambda x: refine(x, image).max()))(logits))
    assert wanted == [[True, False, False, False, False, False]]


# Errors


def test_import_of_the_package_does_not_import_jax() -> None:
    program = "import sys, densefield; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_jax_the_error_names_the_extra() -> None:
    program = "import sys; sys.modules['jax'] = None; import densefield.jax"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert b"pip install 'densefield[jax]'" in done.stderr


BAD_INPUTS = {
    "integer logits": (lambda x, i: (x.astype(int), i), TypeError, "logits must be floating"),
    "one axis": (lambda x, i: (x[0, 0], None), ValueError, "for batches use jax.vmap"),
    "other grid": (lambda x, i: (x, i[..., 1:]), ValueError, "with the grid of the logits"),
    "no channels": (lambda x, i: (x, i[0]), ValueError, "gives a grey image one"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_are_refused(name: str) -> None:
    change, error, text = BAD_INPUTS[name]
    (logits,), (image,) = make_batch(1)
    with pytest.raises(error, match=text):
        refine(*change(logits, image))
