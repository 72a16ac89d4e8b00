"""Batches of images as one field of a ConvCRF: every image as if it were alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import densefield as df
from densefield._recording import Recording
from densefield.conv_batch import ConvBatch
from device_libraries import on
from image_batches import make_batch

Array = NDArray[Any]
KERNELS = [
    df.Gaussian(sigma_space=1.7, weight=1.2, normalization="after"),
    df.Bilateral(sigma_space=2.5, sigma_color=0.7, weight=0.9),
    df.Bilateral(sigma_space=None, sigma_color=0.8, weight=0.6),
]
MATRIX = np.array([[0.0, 1.0, 2.0], [0.5, 0.0, 1.0], [2.0, 1.0, 0.1]])
OPTIONS: list[dict[str, Any]] = [
    {},
    {"shape": "diamond", "filter_size": 3},
    {"filter_size": 21},  # too wide for tiles of shared memory
    {"downsampling": 2},
    {"downsampling": 3, "normalization": "none", "shape": "diamond", "filter_size": 2},
    {"downsampling": 2, "exclude_self": True, "filter_size": 3},
    {"exclude_self": True, "compatibility": MATRIX},
    {"unary_weight": [0.5, 1.0, 1.5], "start_from": "log_marginals", "output": "scores"},
    {"iterations": 0},
]
GRIDS = [(13,), (6, 9), (1, 5), (4, 1)]


def make_model(kind: type[df.ConvCRF], **options: Any) -> df.ConvCRF:
    return kind(KERNELS, **{"filter_size": 5, "iterations": 3} | options)


def infer_one_by_one(unary: Any, image: Any, **options: Any) -> Array:
    crf = make_model(df.ConvCRF, **options)
    pairs = zip(unary, image, strict=True)
    return np.array([crf.infer(u, pixels, channel_axis=0) for u, pixels in pairs])


def infer_at_once(unary: Any, image: Any, **options: Any) -> Any:
    return make_model(ConvBatch, **options).infer(unary, image, label_axis=1, channel_axis=1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_image_has_the_bits_that_it_has_alone(
    grid: tuple[int, ...], options: dict[str, Any], backend: Any
) -> None:
    unary, image = make_batch(3, grid)
    for size in (1, 2, 3):
        result = infer_at_once(unary[:size], image[:size], **options)
        expected = infer_one_by_one(unary[:size], image[:size], **options)
        np.testing.assert_array_equal(result, expected)


def test_large_images_have_the_bits_that_they_have_alone(backend: Any) -> None:
    # Several bands, tasks and blocks of each image, which begin elsewhere in the batch.
    unary, image = make_batch(3, (70, 37))
    for options in ({}, {"downsampling": 3}):
        result = infer_at_once(unary, image, **options)
        np.testing.assert_array_equal(result, infer_one_by_one(unary, image, **options))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("grid", [(13,), (6, 9)], ids=str)
def test_gradients_are_those_of_each_image_and_their_sums(
    grid: tuple[int, ...], options: dict[str, Any], backend: Any
) -> None:
    unary, image = make_batch(3, grid, "f8")
    upstream = np.random.default_rng(9).normal(size=unary.shape)
    _, vjp = make_model(ConvBatch, **options).infer_vjp(unary, image, label_axis=1, channel_axis=1)
    joined, single = vjp(upstream), []
    for u, pixels, grad in zip(unary, image, upstream, strict=True):
        _, vjp = make_model(df.ConvCRF, **options).infer_vjp(u, pixels, channel_axis=0)
        single.append(vjp(grad))
    # Float64 rounds to 1e-16; sums of a few thousand products of either sign to less than 1e-12.
    close: dict[str, float] = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(joined.unary, [one.unary for one in single], **close)
    np.testing.assert_allclose(joined.image, [one.image for one in single], **close)
    for name in ("weights", "compatibility", "unary_weight"):
        parts = [getattr(one, name) for one in single]
        if parts[0] is not None:
            np.testing.assert_allclose(getattr(joined, name), np.sum(parts, axis=0), **close)
    for m, sigmas in enumerate(joined.sigmas or ()):
        for name in ("sigma_space", "sigma_color"):
            parts = [getattr((one.sigmas or ())[m], name) for one in single]
            if parts[0] is not None:
                np.testing.assert_allclose(getattr(sigmas, name), np.sum(parts, axis=0), **close)
    assert np.any(joined.unary) and (options.get("iterations") == 0 or np.any(joined.weights))


def test_standard_deviations_belong_to_the_axes_of_an_image(backend: Any) -> None:
    unary, image = make_batch(2, (5, 7))
    kernels = [df.Bilateral(sigma_space=(1.5, 3.0), sigma_color=(0.7, 0.9))]
    result = ConvBatch(kernels, 5).infer(unary, image, label_axis=1, channel_axis=1)
    alone = df.ConvCRF(kernels, 5).infer(unary[1], image[1], channel_axis=0)
    np.testing.assert_array_equal(result[1], alone)


def num_recorded(device: str, size: int, options: dict[str, Any]) -> int:
    unary, image = make_batch(size, (6, 9))
    crf = make_model(ConvBatch, device=device, **options)
    prepared = crf.prepare(image, channel_axis=1)
    there, out = on(device, unary, np.zeros_like(unary))
    with Recording(device) as graph:
        prepared.infer(there, label_axis=1, out=out, check_finite=False)
    return graph.num_steps


@pytest.mark.parametrize("options", [{}, {"downsampling": 2}], ids=str)
def test_a_batch_takes_as_many_launches_as_two_images(options: dict[str, Any], device: str) -> None:
    few = num_recorded(device, 2, options)
    assert few > 3
    assert num_recorded(device, 5, options) == few


def test_nan_stays_in_its_image(device: str) -> None:
    unary, image = make_batch(3, (6, 9))
    unary[1] = np.nan
    there = on(device, unary, image)
    for options in ({}, {"downsampling": 2}, {"filter_size": 21}):
        crf = make_model(ConvBatch, **options)
        q: Any = crf.infer(*there, label_axis=1, channel_axis=1, check_finite=False)
        is_nan = np.isnan(q.numpy()).any(axis=(1, 2, 3))
        np.testing.assert_array_equal(is_nan, [False, True, False])
