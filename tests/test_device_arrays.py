"""Arrays on a device go in, are computed where they are, and come back as their library's."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import densefield as df
from conftest import Backend, reason_to_skip
from densefield import _densefield
from densefield import layer as layers
from device_libraries import (
    KERNELS,
    MODELS,
    Exporter,
    FakeCuPy,
    Interface,
    OldExporter,
    example,
    on,
    pointer_of,
    strided,
    watching,
)


def host(array: Any) -> Any:
    return array.array.numpy() if isinstance(array, Exporter) else array.numpy()


def test_what_goes_to_a_device_comes_back(device: str) -> None:
    for dtype in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"):
        array = np.arange(12).reshape(3, 4).astype(dtype)
        there = df.to_device(array[:, ::-1], device)
        assert (there.shape, there.dtype, there.ndim, there.size) == ((3, 4), array.dtype, 2, 12)
        np.testing.assert_array_equal(there.numpy(), array[:, ::-1])
        assert there.device == f"{device}:0"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("num_labels", [1, 2, 5])
def test_marginals_are_those_of_numpy_arrays(
    model: Any, dtype: str, num_labels: int, device: str
) -> None:
    unary, image = example(num_labels, dtype)
    expected = model(KERNELS, iterations=3, device=device).infer(unary, image)
    result = model(KERNELS, iterations=3).infer(*on(device, unary, image))
    assert (result.device, result.dtype) == (f"{device}:0", unary.dtype)
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("kind", [Exporter, OldExporter, Interface])
def test_any_object_with_a_protocol_is_an_array(kind: Any, device: str) -> None:
    unary, image = example()
    expected = df.DenseCRF(KERNELS, iterations=2, device=device).infer(unary, image)
    result: Any = df.DenseCRF(KERNELS, iterations=2).infer(
        kind(df.to_device(unary, device)), kind(df.to_device(image, device))
    )
    assert isinstance(result, df.DeviceArray)
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2"])
def test_other_types_are_converted_where_they_are(dtype: str, device: str) -> None:
    unary = example()[0].astype(dtype)
    expected = df.DenseCRF(KERNELS[:1], device=device).infer(unary)
    result: Any = df.DenseCRF(KERNELS[:1]).infer(df.to_device(unary, device))
    np.testing.assert_array_equal(result.numpy(), expected)


def test_numbers_of_16_bits_are_read_exactly(device: str) -> None:
    every = np.arange(2**16, dtype=np.uint16)
    half = every.view(np.float16)
    numbers = half[np.isfinite(half)].reshape(1, -1)
    crf = df.DenseCRF([], output="scores", iterations=0)
    result: Any = crf.infer(df.to_device(numbers, device))
    np.testing.assert_array_equal(result.numpy(), -numbers.astype("f4"))


@pytest.mark.parametrize("label_axis", [0, 1, 2])
def test_strides_and_axes(label_axis: int, device: str) -> None:
    unary, image = example()
    expected = df.DenseCRF(KERNELS, iterations=2, device=device).infer(unary, image)
    moved = np.moveaxis(unary, 0, label_axis)
    result: Any = df.DenseCRF(KERNELS, iterations=2).infer(
        strided(moved, device), strided(image, device), label_axis=label_axis
    )
    np.testing.assert_array_equal(np.moveaxis(result.numpy(), label_axis, 0), expected)


def test_an_image_without_channels(device: str) -> None:
    unary, image = example()
    expected = df.DenseCRF(KERNELS, device=device).infer(unary, image[..., 0])
    result: Any = df.DenseCRF(KERNELS).infer(*on(device, unary, image[..., 0]))
    np.testing.assert_array_equal(result.numpy(), expected)


def test_out_is_filled_and_returned(device: str) -> None:
    unary, image = on(device, *example())
    out: Any = df.to_device(np.zeros(unary.shape, "f4"), device)
    assert df.DenseCRF(KERNELS).infer(unary, image, out=out) is out
    expected: Any = df.DenseCRF(KERNELS).infer(unary, image)
    np.testing.assert_array_equal(out.numpy(), expected.numpy())


def test_inputs_are_not_changed(device: str) -> None:
    arrays = example()
    there = on(device, *arrays)
    df.DenseCRF(KERNELS).infer_vjp(*there)[1](there[0])
    for before, after in zip(arrays, there, strict=True):
        np.testing.assert_array_equal(after.numpy(), before)


def test_results_are_of_the_callers_library(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = FakeCuPy(device)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    unary, image = map(cupy.asarray, example())
    result: Any = df.DenseCRF(KERNELS).infer(unary, image)
    assert result is cupy.made[-1]
    # All work is on its current stream, and asked for its arrays with that.
    assert unary.streams == [cupy.handle]
    expected = df.DenseCRF(KERNELS, device=device).infer(*example())
    np.testing.assert_array_equal(host(result), expected)


def test_callers_with_a_stream_do_not_wait(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = FakeCuPy(device)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    unary, image = map(cupy.asarray, example())
    calls: list[str] = []
    with watching(calls, "wait_for_stream", "count_non_finite"):
        df.ConvCRF(KERNELS).infer(unary, image, check_finite=False)
        assert calls == []
        df.ConvCRF(KERNELS).infer(unary, image)
        assert calls == ["count_non_finite"]  # once for both


def test_callers_without_a_known_stream_wait_at_the_end(device: str) -> None:
    calls: list[str] = []
    arrays = [Exporter(array) for array in on(device, *example())]
    with watching(calls, "wait_for_stream"):
        df.ConvCRF(KERNELS).infer(arrays[0], arrays[1])
    assert calls == ["wait_for_stream"]


def test_a_prepared_model_and_its_caller_wait_for_each_other(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = df.DenseCRF(KERNELS).prepare(df.to_device(example()[1], device))
    cupy = FakeCuPy(device)
    cupy.handle = 2  # another stream than the model's: CUDA's own of each thread
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    unary = cupy.asarray(example()[0])
    calls: list[str] = []
    with watching(calls, "order_streams"):
        result: Any = prepared.infer(unary)
    assert unary.streams == [_densefield.own_stream(device)]
    assert calls == ["order_streams"]  # the caller's stream after the model's
    expected = df.DenseCRF(KERNELS, device=device).infer(*example())
    np.testing.assert_array_equal(host(result), expected)


def test_a_consumer_names_its_stream(device: str) -> None:
    array = df.to_device(np.ones(3), device)
    for stream in (None, 1, 2, -1, _densefield.own_stream(device)):
        array.__dlpack__(stream=stream)
    if device == "cuda-emulated":  # which knows what streams there are
        with pytest.raises(RuntimeError, match="waiting for a stream"):
            array.__dlpack__(stream=0xBAD0)


def test_an_interface_names_its_stream(device: str) -> None:
    if device != "cuda-emulated":
        pytest.skip("only the emulated device knows what streams there are")
    unary = Interface(df.to_device(example()[0], device), stream=0xBAD0)
    with pytest.raises(RuntimeError, match="waiting for a stream"):
        df.DenseCRF([]).infer(unary)


def test_dlpack_capsules_keep_the_memory_and_give_it_back(device: str) -> None:
    array = df.to_device(np.arange(5.0), device)
    for version in (None, (0, 8), (1, 0), (1, 3)):
        capsule = array.__dlpack__(max_version=version)
        kept = _densefield.from_dlpack(capsule, array.stream)
        with pytest.raises(ValueError, match="used before"):
            _densefield.from_dlpack(capsule, array.stream)
        assert pointer_of(kept) == pointer_of(array)
    del array
    np.testing.assert_array_equal(kept.numpy(), np.arange(5.0))


def test_memory_of_the_emulated_device_is_never_taken_for_a_gpus() -> None:
    if reason_to_skip(Backend("cuda-emulated", "base", 1)):
        pytest.skip("the emulated device is not built")
    array = df.to_device(np.ones(3), "cuda-emulated")
    assert array.__dlpack_device__() == (12, 0)  # an extension, which no library knows
    assert not hasattr(array, "__cuda_array_interface__")


@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_of_numpy_arrays(model: Any, device: str) -> None:
    unary, image = example(3, "f8")
    grad = np.random.default_rng(1).normal(size=unary.shape)
    q, vjp = model(KERNELS, iterations=3, device=device).infer_vjp(unary, image)
    expected = vjp(grad)
    there, back = model(KERNELS, iterations=3).infer_vjp(*on(device, unary, image))
    result = back(df.to_device(grad, device))
    np.testing.assert_array_equal(there.numpy(), q)
    np.testing.assert_array_equal(result.unary.numpy(), expected.unary)
    np.testing.assert_array_equal(result.image.numpy(), expected.image)
    np.testing.assert_array_equal(result.weights, expected.weights)
    for own, of_numpy in zip(result.sigmas, expected.sigmas, strict=True):
        np.testing.assert_array_equal(own.sigma_space, of_numpy.sigma_space)


def test_feature_arrays_on_a_device(device: str) -> None:
    unary, image = example(3, "f8")
    features = np.concatenate([image / 20.0, np.ones((9, 11, 1))], axis=-1)
    on_host = df.DenseCRF([df.Features(features, weight=2)], device=device)
    on_device = df.DenseCRF([df.Features(df.to_device(features, device), weight=2)])
    (there,) = on(device, unary)
    result: Any = on_device.infer(there)
    np.testing.assert_array_equal(result.numpy(), on_host.infer(unary))
    expected = on_host.infer_vjp(unary)[1](unary).features
    gradients: Any = on_device.infer_vjp(there)[1](there).features
    np.testing.assert_array_equal(gradients[0].numpy(), expected[0])  # type: ignore[index]


def test_updates_one_by_one(device: str) -> None:
    unary, image = example()
    expected = df.DenseCRF(KERNELS, device=device).start(unary, image)
    inference: Any = df.DenseCRF(KERNELS).start(*on(device, unary, image))
    for _ in range(2):
        assert inference.step() == expected.step()
    np.testing.assert_array_equal(inference.q.numpy(), expected.q)
    assert inference.kl_divergence() == expected.kl_divergence()
    inference.q = df.to_device(np.full(unary.shape, 1 / 3), device)
    np.testing.assert_array_equal(inference.q.numpy(), np.full(unary.shape, 1 / 3, "f4"))


def test_a_callback_gets_arrays_of_the_caller(device: str) -> None:
    seen: list[Any] = []
    arrays = on(device, *example())
    result: Any = df.DenseCRF(KERNELS, iterations=2).infer(
        *arrays, callback=lambda _, q: seen.append(q)
    )
    assert [q.device for q in seen] == [f"{device}:0"] * 2
    np.testing.assert_array_equal(seen[-1].numpy(), result.numpy())


def test_energies(device: str) -> None:
    unary, image = example(3, "f8")
    crf, there = df.DenseCRF(KERNELS, device=device), df.DenseCRF(KERNELS)
    q = crf.infer(unary, image)
    labels = q.argmax(axis=0)
    arrays = on(device, unary, image)
    assert there.energy(df.to_device(labels, device), *arrays) == crf.energy(labels, unary, image)
    assert there.kl_divergence(df.to_device(q, device), *arrays) == crf.kl_divergence(
        q, unary, image
    )


def test_a_prepared_model_takes_arrays_of_host_and_device(device: str) -> None:
    unary, image = example()
    prepared = df.DenseCRF(KERNELS, device=device).prepare(image)
    result: Any = prepared.infer(df.to_device(unary, device))
    np.testing.assert_array_equal(result.numpy(), prepared.infer(unary))


@pytest.mark.parametrize("step", ["splat", "slice", "blur", "filter"])
@pytest.mark.parametrize("shape", [(), (4,)])
def test_lattices(step: str, shape: tuple[int, ...], device: str) -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(60, 3))
    there: Any = df.PermutohedralLattice(df.to_device(features, device))
    expected: Any = df.PermutohedralLattice(features, device=device)
    rows = 60 if step in ("splat", "filter") else expected.num_vertices
    values = rng.normal(size=(rows, *shape))
    result = getattr(there, step)(df.to_device(values, device))
    np.testing.assert_array_equal(result.numpy(), getattr(expected, step)(values))
    np.testing.assert_array_equal(getattr(there, step)(values), getattr(expected, step)(values))


@pytest.mark.parametrize("shape", [(), (4,)])
def test_gradients_of_lattices(shape: tuple[int, ...], device: str) -> None:
    rng = np.random.default_rng(3)
    features, values, grad = rng.normal(size=(60, 3)), *rng.normal(size=(2, 60, *shape))
    expected = df.PermutohedralLattice(features, device=device).vjp(values, grad)
    there = df.PermutohedralLattice(df.to_device(features, device))
    result: Any = there.vjp(*on(device, values, grad))
    for own, of_numpy in zip(result, expected, strict=True):
        np.testing.assert_array_equal(own.numpy(), of_numpy)


@pytest.mark.parametrize("step", ["apply", "apply_transpose"])
def test_windows(step: str, device: str) -> None:
    rng = np.random.default_rng(4)
    features, values = rng.normal(size=(8, 9, 2)), rng.normal(size=(8, 9, 3))
    there = df.WindowKernel(df.to_device(features, device), 5, normalization="before")
    expected = df.WindowKernel(features, 5, normalization="before", device=device)
    result: Any = getattr(there, step)(df.to_device(values, device))
    np.testing.assert_array_equal(result.numpy(), getattr(expected, step)(values))


def test_gradients_of_windows(device: str) -> None:
    rng = np.random.default_rng(5)
    features, values, grad = rng.normal(size=(8, 9, 2)), *rng.normal(size=(2, 8, 9, 3))
    there = df.WindowKernel(df.to_device(features, device), 5, normalization="symmetric")
    expected = df.WindowKernel(features, 5, normalization="symmetric", device=device)
    result: Any = there.vjp(*on(device, values, grad))
    for own, of_numpy in zip(result, expected.vjp(values, grad), strict=True):
        np.testing.assert_array_equal(own.numpy(), of_numpy)


def test_grids_without_nodes(device: str) -> None:
    unary: Any = df.to_device(np.zeros((3, 0, 4), "f4"), device)
    result: Any = df.DenseCRF(KERNELS[:1]).infer(unary)
    assert result.shape == (3, 0, 4)
    assert result.numpy().shape == (3, 0, 4)


@pytest.mark.parametrize(
    ("window", "unary_weight"),
    [
        (None, [1.0]),
        (
            layers.WindowForm(
                filter_size=3, shape="square", downsampling=1, start_from="log_marginals"
            ),
            [0.5, 1.0, 2.0],
        ),
    ],
    ids=["dense", "conv"],
)
def test_batches_of_layers_are_computed_where_they_are(
    device: str, window: layers.WindowForm | None, unary_weight: list[float]
) -> None:
    unary, image = example(3, "f8")
    pixels = np.moveaxis(image, -1, 0).astype("f8")
    form = layers.Layer(
        kernels=tuple(layers.kernel_form(kernel) for kernel in KERNELS),
        compatibility_shapes=((),),
        normalization="symmetric",
        iterations=2,
        exclude_self=False,
        output="marginals" if window is None else "scores",
        window=window,
    )
    numbers = layers.Learnable(
        np.ones(2), np.array(layers.sigmas_of(KERNELS)), np.ones(1), np.array(unary_weight)
    )
    there: Any = [df.to_device(unary, device)], [df.to_device(pixels, device)]
    out: Any = [df.to_device(np.zeros_like(unary), device)]
    layers.infer(form, *there, numbers, out=out, check_finite=False)
    crf = layers.model(form, numbers)
    q, vjp = crf.infer_vjp(there[0][0], there[1][0], channel_axis=0)
    np.testing.assert_array_equal(out[0].numpy(), q.numpy())
    gradients: Any = layers.infer_vjp(
        form,
        *there,
        numbers,
        there[0],
        wanted=[True, True, True, False, False, False],
        zeros_like=lambda batch: [None] * len(batch),
    )
    expected: Any = vjp(there[0][0])
    np.testing.assert_array_equal(gradients[0][0].numpy(), expected.unary.numpy())
    np.testing.assert_array_equal(gradients[1][0].numpy(), expected.image.numpy())
    np.testing.assert_array_equal(gradients[2], expected.weights)
