"""Layers of a ConvCRF on batches: which images are joined to one field, and what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import densefield as df
from densefield import conv_batch
from densefield import layer as layers
from densefield._devices import on_device
from device_libraries import on
from image_batches import make_batch

Array = NDArray[Any]
KERNELS = [
    df.Gaussian(sigma_space=1.7, weight=1.2),
    df.Bilateral(sigma_space=2.5, sigma_color=0.7, weight=0.9),
]


class Batch:
    """An array of a device with as much indexing as a layer needs."""

    def __init__(self, array: df.DeviceArray) -> None:
        self.array = array
        self.shape = array.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> df.DeviceArray:
        array, step = self.array, self.array._strides[0]
        if isinstance(index, slice):
            first, last, _ = index.indices(len(self))
            return array._view([last - first, *array.shape[1:]], array._strides, first * step)
        return array._view(array.shape[1:], array._strides[1:], index * step)

    def __setitem__(self, index: int | slice, value: Any) -> None:
        self[index]._copy_from(value, 1.0)


def make_layer(**options: Any) -> tuple[layers.Layer, layers.Learnable]:
    window = layers.WindowForm(
        filter_size=3, shape="square", downsampling=1, start_from="marginals"
    )
    settings: dict[str, Any] = {
        "kernels": tuple(layers.kernel_form(kernel) for kernel in KERNELS),
        "compatibility_shapes": ((),),
        "normalization": "symmetric",
        "iterations": 2,
        "exclude_self": False,
        "output": "marginals",
        "window": window,
    }
    numbers = layers.Learnable(
        np.array([kernel.weight for kernel in KERNELS]),
        np.array(layers.sigmas_of(KERNELS)),
        np.ones(1),
        np.ones(1),
    )
    return layers.Layer(**settings | options), numbers


def batch_on(device: str, unary: Array, image: Array) -> tuple[Any, Any]:
    return Batch(df.to_device(unary, device)), Batch(df.to_device(image, device))


@pytest.fixture
def unary_shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Note what unaries `ConvCRF.infer` and `infer_vjp` are called with."""
    shapes: list[tuple[int, ...]] = []
    for name in ("infer", "infer_vjp"):
        original = getattr(df.ConvCRF, name)

        def noting(
            self: Any, unary: Any, *arguments: Any, original: Any = original, **named: Any
        ) -> Any:
            shapes.append(tuple(unary.shape))
            return original(self, unary, *arguments, **named)

        monkeypatch.setattr(df.ConvCRF, name, noting)
    return shapes


def test_layers_join_the_images_of_a_batch_on_a_device(
    device: str, unary_shapes: list[tuple[int, ...]]
) -> None:
    layer, numbers = make_layer()
    unary, image = batch_on(device, *make_batch(3, (6, 9)))
    out = Batch(df.to_device(np.zeros(unary.shape, "f4"), device))
    layers.infer(layer, unary, image, numbers, out=out, check_finite=False)
    assert unary_shapes == [(3, 3, 6, 9)]
    for b in range(3):
        alone: Any = layers.model(layer, numbers).infer(unary[b], image[b], channel_axis=0)
        np.testing.assert_array_equal(out[b].numpy(), alone.numpy())


def test_gradients_of_layers_of_joined_images(
    device: str, unary_shapes: list[tuple[int, ...]]
) -> None:
    layer, numbers = make_layer()
    batch = make_batch(3, (6, 9), "f8")
    unary, image = batch_on(device, *batch)

    def gradients_of(part: slice) -> list[Any]:
        return layers.infer_vjp(
            layer,
            Batch(unary[part]),  # type: ignore[arg-type]
            Batch(image[part]),  # type: ignore[arg-type]
            numbers,
            Batch(unary[part]),  # type: ignore[arg-type]
            wanted=[True] * 6,
            zeros_like=lambda given: (
                Batch(df.to_device(np.zeros(given.shape), device))
                if isinstance(given, Batch)
                else np.zeros_like(given)
            ),
        )

    joined = gradients_of(slice(0, 3))
    assert unary_shapes == [(3, 3, 6, 9)]
    single = [gradients_of(slice(b, b + 1)) for b in range(3)]
    assert unary_shapes[1:] == 3 * [(3, 6, 9)]
    for k, values in enumerate(joined):
        if isinstance(values, Batch):
            expected = np.concatenate([one[k].array.numpy() for one in single])
            np.testing.assert_allclose(values.array.numpy(), expected, rtol=1e-10, atol=1e-12)
        else:
            total = np.sum([one[k] for one in single], axis=0)
            np.testing.assert_allclose(values, total, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("most", "sizes"), [(3, [3, 2]), (2, [2, 2, 1]), (1, [None] * 5)])
def test_large_batches_are_several_fields(
    most: int,
    sizes: list[int | None],
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    unary_shapes: list[tuple[int, ...]],
) -> None:
    monkeypatch.setattr(conv_batch, "_MOST_NODES_ON_DEVICE", most * 7 * 5)
    layer, numbers = make_layer()
    unary, image = batch_on(device, *make_batch(5, (7, 5)))
    out = Batch(df.to_device(np.zeros(unary.shape, "f4"), device))
    layers.infer(layer, unary, image, numbers, out=out, check_finite=False)
    assert unary_shapes == [(3, 7, 5) if size is None else (size, 3, 7, 5) for size in sizes]
    whole = infer_at_once_of_layer(layer, numbers, unary, image)
    np.testing.assert_array_equal(out.array.numpy(), whole)


def infer_at_once_of_layer(layer: Any, numbers: Any, unary: Any, image: Any) -> Array:
    crf = layers.model(layer, numbers, of_batch=True)
    q: Any = crf.infer(unary.array, image.array, label_axis=1, channel_axis=1)
    return np.asarray(q.numpy())


@pytest.mark.parametrize(
    ("grid", "options"),
    [((2, 3, 4), {}), ((6, 9), {"window": None})],
    ids=["volumes", "dense"],
)
def test_other_batches_go_image_by_image(
    grid: tuple[int, ...], options: dict[str, Any], device: str
) -> None:
    layer, numbers = make_layer(**options)
    unary, image = batch_on(device, *make_batch(2, grid))
    out = Batch(df.to_device(np.zeros(unary.shape, "f4"), device))
    layers.infer(layer, unary, image, numbers, out=out, check_finite=False)
    for b in range(2):
        alone: Any = layers.model(layer, numbers).infer(unary[b], image[b], channel_axis=0)
        np.testing.assert_array_equal(out[b].numpy(), alone.numpy())


def test_an_empty_batch_stays_empty(device: str) -> None:
    layer, numbers = make_layer()
    unary, image = (Batch(array) for array in on(device, *make_batch(0, (6, 9))))
    result = layers.infer(layer, unary, image, numbers, out=unary)  # type: ignore[arg-type]
    assert result.shape == (0, 3, 6, 9)


def test_layers_join_small_images_on_the_host(unary_shapes: list[tuple[int, ...]]) -> None:
    layer, numbers = make_layer()
    with on_device("cpu"):
        unary, image = make_batch(4, (40, 60))
        result = layers.infer(layer, unary, image, numbers)
        assert unary_shapes == [(3, 3, 40, 60), (1, 3, 40, 60)]
        crf = layers.model(layer, numbers)
        for b in range(4):
            alone = crf.infer(unary[b], image[b], channel_axis=0)
            np.testing.assert_array_equal(result[b], alone)


def test_images_that_may_hold_nan_are_not_joined_on_the_host() -> None:
    layer, numbers = make_layer()
    with on_device("cpu"):
        unary, image = make_batch(3, (6, 9))
        unary[1] = np.nan
        result = layers.infer(layer, unary, image, numbers, check_finite=False)
    np.testing.assert_array_equal(np.isnan(result).any(axis=(1, 2, 3)), [False, True, False])
