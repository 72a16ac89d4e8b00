"""The losses that models are fitted to: their values, and their gradients by differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from densefield.fitting.losses import LOSSES, cross_entropy, soft_accuracy, soft_iou
from gradient_checks import assert_gradient, central_differences, gradient_faults

TRUTH = np.array([0, 2, 2, 0, 0, 2, 0])  # label 1 does not occur


def scores(seed: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 2, (4, TRUTH.size))


def softmax(z: NDArray[np.float64]) -> NDArray[Any]:
    e = np.exp(z)
    return np.asarray(e / e.sum(axis=0))


def test_cross_entropy_is_the_mean_of_the_negative_logarithms() -> None:
    expected = -np.log(softmax(scores())[TRUTH, np.arange(TRUTH.size)]).mean()
    # Both are sums of seven logarithms of order 1.
    assert cross_entropy(scores(), TRUTH)[0] == pytest.approx(expected, rel=1e-14)


def test_soft_iou_is_the_documented_formula() -> None:
    q = softmax(scores())
    ious = []
    for label in (0, 2):
        y = TRUTH == label
        ious.append((q[label] * y).sum() / (q[label] + y - q[label] * y).sum())
    assert soft_iou(scores(), TRUTH)[0] == pytest.approx(1 - np.mean(ious), rel=1e-14)


def test_soft_iou_of_certain_marginals_is_the_usual_one() -> None:
    found = np.array([0, 2, 0, 0, 1, 2, 0])
    certain = 1e3 * np.eye(4)[found].T
    # Label 0: three of four found and one too many, 3 / 5; label 2: two of three, 2 / 3.
    assert soft_iou(certain, TRUTH)[0] == pytest.approx(1 - (3 / 5 + 2 / 3) / 2, rel=1e-14)


def test_soft_accuracy_is_the_mean_marginal_of_the_true_label() -> None:
    expected = 1 - softmax(scores())[TRUTH, np.arange(TRUTH.size)].mean()
    assert soft_accuracy(scores(), TRUTH)[0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_that_of_central_differences(name: str) -> None:
    loss = LOSSES[name]
    expected = central_differences(lambda z: loss(z, TRUTH)[0], scores())
    assert_gradient(loss(scores(), TRUTH)[1], expected)
    assert gradient_faults(np.zeros(expected.shape), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_sums_to_nothing_over_the_labels(name: str) -> None:
    # A constant added to all scores of a node changes no marginal.
    gradient = LOSSES[name](scores(), TRUTH)[1]
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-16)


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_twice_has_the_loss_of_it_once(name: str) -> None:
    twice = LOSSES[name](np.tile(scores(), 2), np.tile(TRUTH, 2))[0]
    assert twice == pytest.approx(LOSSES[name](scores(), TRUTH)[0], rel=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_marginals_that_would_round_to_zero_have_a_loss_and_a_gradient(name: str) -> None:
    wrong = 2e3 * np.eye(4)[(TRUTH + 1) % 4].T
    loss, gradient = LOSSES[name](wrong, TRUTH)
    assert loss == pytest.approx(2e3 if name == "cross_entropy" else 1.0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_scores_are_not_written(name: str) -> None:
    given = scores()
    LOSSES[name](given, TRUTH)
    np.testing.assert_array_equal(given, scores())
