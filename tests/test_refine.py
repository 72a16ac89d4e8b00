"""The one-liner `refine` and its default model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import densefield as df

Array = NDArray[Any]


def disc() -> tuple[Array, Array, Array]:
    """Return a photograph of a disc, blurry probabilities of it, and its true labels."""
    y, x = np.mgrid[:40, :50]
    radius = np.hypot(y - 20, x - 25)
    truth = (radius < 12).astype(np.int64)
    noise = np.random.default_rng(0).normal(scale=2.0, size=(40, 50, 3))
    image = np.clip(60 + 120 * truth[..., None] + noise, 0, 255).astype(np.uint8)
    foreground = 1 / (1 + np.exp((radius - 13.5) / 3))  # a little too large, and blurred
    return image, np.stack([1 - foreground, foreground]), truth


@pytest.mark.usefixtures("backend")
def test_labels_follow_the_outline() -> None:
    image, probabilities, truth = disc()
    wrong_before = int((probabilities.argmax(0) != truth).sum())
    labels = df.refine(image, probabilities)
    assert wrong_before > 80
    assert (labels != truth).sum() < wrong_before / 4


def test_labels_are_the_most_probable_ones_of_the_default_model() -> None:
    image, probabilities, _ = disc()
    labels, q = df.refine(image, probabilities, return_marginals=True)
    expected = df.default_crf().infer(df.unary_from_probabilities(probabilities), image)
    np.testing.assert_array_equal(q, expected)
    np.testing.assert_array_equal(labels, expected.argmax(0))
    assert labels.dtype == np.intp


@pytest.mark.parametrize("label_axis", [1, 2, -1])
def test_label_axis_is_where_the_classes_are(label_axis: int) -> None:
    image, probabilities, _ = disc()
    moved = np.moveaxis(probabilities, 0, label_axis)
    labels, q = df.refine(image, moved, label_axis=label_axis, return_marginals=True)
    np.testing.assert_array_equal(labels, df.refine(image, probabilities))
    assert q.shape == moved.shape


def test_channel_axis_is_where_the_channels_are() -> None:
    image, probabilities, _ = disc()
    labels = df.refine(np.moveaxis(image, -1, 0), probabilities, channel_axis=0)
    np.testing.assert_array_equal(labels, df.refine(image, probabilities))


def test_grey_images_need_no_channel_axis() -> None:
    image, probabilities, _ = disc()
    grey = image[..., 0]
    expected = df.refine(grey[..., None], probabilities)
    np.testing.assert_array_equal(df.refine(grey, probabilities), expected)


def test_own_model_is_used() -> None:
    image, probabilities, _ = disc()
    labels = df.refine(image, probabilities, crf=df.DenseCRF([]))
    np.testing.assert_array_equal(labels, probabilities.argmax(0))


def test_arguments_are_not_changed() -> None:
    image, probabilities, _ = disc()
    before = image.copy(), probabilities.copy()
    df.refine(image, probabilities)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(probabilities, before[1])


def test_volumes_are_refined() -> None:
    volume = np.zeros((6, 7, 8), np.uint8)
    volume[2:5, 2:5, 2:6] = 200
    foreground = np.where(volume > 100, 0.8, 0.3)
    labels = df.refine(volume, np.stack([1 - foreground, foreground]))
    np.testing.assert_array_equal(labels, volume > 100)


def test_no_pixels_give_no_labels() -> None:
    assert df.refine(np.zeros((0, 5, 3), np.uint8), np.zeros((2, 0, 5))).shape == (0, 5)


@pytest.mark.parametrize(
    ("image", "probabilities", "options", "error", "text"),
    [
        ("photo.png", np.full((2, 4, 5), 0.5), {}, TypeError, "image must hold real numbers"),
        (np.zeros((4, 5, 3)), "scores", {}, TypeError, "probabilities must hold real numbers"),
        (np.zeros((4, 5, 3)), np.full((2, 4, 5), 3.0), {}, ValueError, "unary_from_logits"),
        (np.zeros((4, 5, 3)), np.full((4, 5, 2), 0.5), {}, ValueError, "label_axis=-1"),
        (np.zeros((3, 4, 5)), np.full((2, 4, 5), 0.5), {}, ValueError, "channel_axis=0"),
        (np.zeros((4, 5, 3)), np.full((2, 4, 5), np.nan), {}, ValueError, "40 NaN or infinite"),
        (np.zeros((4, 5, 3)), np.full((2, 4, 5), 0.5), {"crf": 3}, TypeError, "crf must be a D"),
    ],
)
def test_wrong_arguments_are_named(
    image: Any, probabilities: Any, options: Any, error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        df.refine(image, probabilities, **options)


def test_an_image_in_0_to_1_is_warned_about():
    image = np.random.default_rng(3).random((4, 5, 3))
    with pytest.warns(UserWarning, match=r"0\.\.255"):
        df.refine(image, np.full((2, 4, 5), 0.5))


def test_an_image_in_0_to_1_is_fine_for_a_model_of_ones_own():
    image = np.random.default_rng(3).random((4, 5, 3))
    crf = df.DenseCRF([df.Bilateral(sigma_space=2, sigma_color=0.1)])
    assert df.refine(image, np.full((2, 4, 5), 0.5), crf=crf).shape == (4, 5)
