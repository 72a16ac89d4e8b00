"""The published options of ConvCRF on unaries that are arrays on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import densefield as df
from device_libraries import KERNELS, Exporter, Interface, example, on, strided

OPTIONS: list[dict[str, Any]] = [
    {"unary_weight": 1.5},
    {"unary_weight": [0.5, 1.0, 2.0]},
    {"start_from": "log_marginals"},
    {"output": "scores"},
    {"downsampling": 2, "start_from": "log_marginals", "output": "scores"},
    {"unary_weight": 0.7, "exclude_self": True, "normalization": "none"},
]
# Both sum up to three terms and take a logarithm in their own way; four updates follow.
TOLERANCE = {"f4": 1e-5, "f8": 1e-12}


def assert_close(actual: Any, expected: Any, dtype: str) -> None:
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_results_are_the_cpus(options: dict[str, Any], dtype: str, device: str) -> None:
    unary, image = example(3, dtype)
    crf = df.ConvCRF(KERNELS, 5, iterations=4, **options)
    expected = df.ConvCRF(KERNELS, 5, iterations=4, device="cpu", **options).infer(unary, image)
    result: Any = crf.infer(*on(device, unary, image))
    assert (result.device, result.dtype) == (f"{device}:0", unary.dtype)
    assert_close(result.numpy(), expected, dtype)


@pytest.mark.parametrize("kind", [Exporter, Interface])
def test_arrays_of_other_libraries(kind: Any, device: str) -> None:
    unary, image = example()
    crf = df.ConvCRF(KERNELS, start_from="log_marginals", output="scores")
    expected: Any = crf.infer(*on(device, unary, image))
    result: Any = crf.infer(*(kind(array) for array in on(device, unary, image)))
    np.testing.assert_array_equal(result.numpy(), expected.numpy())


@pytest.mark.parametrize("label_axis", [0, 1, 2])
def test_strides_and_axes(label_axis: int, device: str) -> None:
    unary, image = example()
    crf = df.ConvCRF(KERNELS, unary_weight=[0.5, 1.0, 2.0], output="scores")
    expected: Any = crf.infer(*on(device, unary, image))
    there = strided(np.moveaxis(unary, 0, label_axis), device)
    (pixels,) = on(device, image)
    result, vjp = crf.infer_vjp(there, pixels, label_axis=label_axis)
    np.testing.assert_array_equal(np.moveaxis(result.numpy(), label_axis, 0), expected.numpy())
    back = crf.infer_vjp(*on(device, unary, image))[1]
    of_plain: Any = back(*on(device, unary)).unary
    of_strided: Any = vjp(there).unary
    np.testing.assert_array_equal(np.moveaxis(of_strided.numpy(), label_axis, 0), of_plain.numpy())


def test_the_unary_may_be_the_place_of_the_result(device: str) -> None:
    unary, image = on(device, *example())
    crf = df.ConvCRF(KERNELS, unary_weight=2)
    expected: Any = crf.infer(unary, image)
    assert crf.infer(unary, image, out=unary) is unary
    np.testing.assert_array_equal(unary.numpy(), expected.numpy())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("iterations", [0, 3])
def test_gradients_are_the_cpus(options: dict[str, Any], iterations: int, device: str) -> None:
    unary, image = example(3, "f8")
    grad = np.random.default_rng(1).normal(size=unary.shape)
    models = [
        df.ConvCRF(KERNELS, 5, iterations=iterations, device=where, **options)
        for where in ("cpu", None)
    ]
    expected = models[0].infer_vjp(unary, image)[1](grad)
    actual: Any = models[1].infer_vjp(*on(device, unary, image))[1](*on(device, grad))
    assert_close(actual.unary.numpy(), expected.unary, "f8")
    assert_close(actual.image.numpy(), expected.image, "f8")
    assert_close(actual.weights, expected.weights, "f8")
    assert_close(actual.unary_weight, expected.unary_weight, "f8")
    assert np.ndim(actual.unary_weight) == np.ndim(options.get("unary_weight", 1.0))


def test_the_gradient_by_the_weight_alone(device: str) -> None:
    unary, image = on(device, *example(3, "f8"))
    vjp = df.ConvCRF(KERNELS, unary_weight=2).infer_vjp(unary, image)[1]
    gradients = vjp(unary, wants=["weights"])
    assert gradients.unary is None
    assert gradients.unary_weight == vjp(unary).unary_weight


def test_many_labels_and_nodes_have_one_sum(device: str) -> None:
    # More nodes than a block of the sum takes, and more weights than one launch carries.
    rng = np.random.default_rng(2)
    unary = rng.uniform(0, 3, (300, 4500))
    weight = rng.uniform(0.5, 2, 300)
    crf = df.ConvCRF([df.Gaussian(sigma_space=1)], 3, unary_weight=weight, iterations=1)
    expected = crf.infer_vjp(unary)[1](unary)
    for _ in range(2):
        actual: Any = crf.infer_vjp(df.to_device(unary, device))[1](df.to_device(unary, device))
        assert_close(actual.unary.numpy(), expected.unary, "f8")
        assert_close(actual.unary_weight, expected.unary_weight, "f8")


@pytest.mark.parametrize("start", ["host", "device"])
def test_the_way_back_may_begin_elsewhere(start: str, device: str) -> None:
    unary, image = example(3, "f8")
    crf = df.ConvCRF(KERNELS, unary_weight=[0.5, 1.0, 2.0], device=device)
    prepared = crf.prepare(image, dtype=np.float64)
    (there,) = on(device, unary)
    expected = prepared.infer_vjp(unary)[1](unary)
    given, grad = (unary, there) if start == "host" else (there, unary)
    actual: Any = prepared.infer_vjp(given)[1](grad)
    by_unary = actual.unary.numpy() if start == "host" else actual.unary
    assert_close(by_unary, expected.unary, "f8")
    assert_close(actual.unary_weight, expected.unary_weight, "f8")


def test_energies_and_updates_one_by_one(device: str) -> None:
    unary, image = example(3, "f8")
    crf = df.ConvCRF(KERNELS, unary_weight=1.5, start_from="log_marginals")
    on_cpu = df.ConvCRF(KERNELS, unary_weight=1.5, start_from="log_marginals", device="cpu")
    arrays = on(device, unary, image)
    inference, expected = crf.start(*arrays), on_cpu.start(unary, image)
    inference.step()
    expected.step()
    assert inference.kl_divergence() == pytest.approx(expected.kl_divergence(), rel=1e-12)
    labels = unary.argmin(axis=0)
    energy = crf.energy(df.to_device(labels, device), *arrays)
    assert energy == pytest.approx(on_cpu.energy(labels, unary, image), rel=1e-12)


def test_a_wrong_number_of_weights_is_an_error(device: str) -> None:
    crf = df.ConvCRF([df.Gaussian(sigma_space=1)], unary_weight=[1.0, 2.0])
    with pytest.raises(ValueError, match="unary_weight has 2 values, but the unary has 3 labels"):
        crf.infer(df.to_device(np.zeros((3, 4, 4)), device))


def test_grids_without_nodes(device: str) -> None:
    unary: Any = df.to_device(np.zeros((3, 0, 4), "f4"), device)
    crf = df.ConvCRF([df.Gaussian(sigma_space=1)], unary_weight=[1.0, 2.0, 3.0])
    q, vjp = crf.infer_vjp(unary)
    assert q.shape == (3, 0, 4)
    np.testing.assert_array_equal(vjp(unary).unary_weight, np.zeros(3))
