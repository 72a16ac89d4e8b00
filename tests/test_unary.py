"""Unary energies from probabilities, logits and labels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import densefield as df
from densefield import reference

# Probabilities


def test_probabilities_become_their_negative_logarithm() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=6).T
    expected = reference.unary_from_probabilities(p)
    np.testing.assert_allclose(df.unary_from_probabilities(p), expected, rtol=1e-15)  # one log


def test_a_probability_of_zero_costs_what_epsilon_says() -> None:
    energies = df.unary_from_probabilities([0.0, 1.0], epsilon=1e-3)
    np.testing.assert_allclose(energies, [-np.log(1e-3), 0], rtol=1e-15)  # one log


def test_certainty_costs_plus_zero() -> None:
    assert not np.signbit(df.unary_from_probabilities(np.ones(3))).any()


def test_an_epsilon_that_float32_cannot_hold_gives_finite_energies() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        energies = df.unary_from_probabilities(np.float32([0, 1]), epsilon=1e-50)
    assert np.isfinite(energies).all()


@pytest.mark.parametrize(
    ("given", "expected"),
    [("f2", "f4"), ("f4", "f4"), ("f8", "f8"), (">f8", "f8"), ("i8", "f4"), ("?", "f4")],
)
def test_energies_have_the_precision_of_the_probabilities(given: str, expected: str) -> None:
    assert df.unary_from_probabilities(np.ones((2, 3), given)).dtype == expected


def test_probabilities_are_not_changed() -> None:
    p = np.array([[0.0, 0.5], [1.0, 0.5]])
    before = p.copy()
    df.unary_from_probabilities(p)
    np.testing.assert_array_equal(p, before)


def test_rounding_and_upsampling_may_leave_the_unit_interval_a_little() -> None:
    energies = df.unary_from_probabilities([-5e-4, 1.0005])
    np.testing.assert_allclose(energies, [-np.log(1e-5), 0], rtol=1e-15)  # one log


@pytest.mark.parametrize("wrong", [[-0.5, 1.0], [0.5, 1.5], [0, 255]])
def test_what_is_no_probability_is_refused_with_the_way_out(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"probabilities must lie in \[0, 1\].*unary_from_logits"):
        df.unary_from_probabilities(wrong)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1.0, np.nan, np.inf])
def test_epsilon_must_be_a_probability(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be"):
        df.unary_from_probabilities([0.5], epsilon=epsilon)


# Logits


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_logits_become_the_negative_log_softmax(axis: int) -> None:
    z = np.random.default_rng(0).normal(size=(4, 5, 6))
    expected = -reference.log_softmax(z, axis=axis)
    # Differences of numbers of size 10.
    np.testing.assert_allclose(df.unary_from_logits(z, label_axis=axis), expected, atol=1e-14)


def test_huge_logits_do_not_overflow() -> None:
    energies = df.unary_from_logits([[1e4], [-1e4]])
    np.testing.assert_allclose(energies, [[0], [2e4]], atol=1e-11)  # differences of 1e4


def test_softmax_of_the_energies_gives_the_probabilities_back() -> None:
    z = np.random.default_rng(0).normal(size=(4, 9))
    q = df.DenseCRF([]).infer(df.unary_from_logits(z))
    np.testing.assert_allclose(q, reference.softmax(z), rtol=1e-13)  # an exp and a log


def test_no_logits_give_no_energies() -> None:
    assert df.unary_from_logits(np.zeros((3, 0))).shape == (3, 0)


# Labels


def test_labels_cost_what_their_confidence_says() -> None:
    energies = df.unary_from_labels([[0, 2]], 3, confidence=0.8)
    expected = -np.log([[[0.8, 0.1]], [[0.1, 0.1]], [[0.1, 0.8]]])
    assert energies.shape == (3, 1, 2)
    np.testing.assert_allclose(energies, expected, rtol=1e-6)  # float32


@pytest.mark.parametrize(("dtype", "unknown"), [("u1", 255), ("i4", -1), ("u1", 0)])
def test_unknown_nodes_prefer_no_label(dtype: str, unknown: int) -> None:
    labels = np.array([1, unknown], dtype)
    energies = df.unary_from_labels(labels, 3, unknown=unknown)
    np.testing.assert_allclose(energies[:, 1], np.log(3), rtol=1e-6)  # float32
    assert energies[:, 0].argmin() == 1


def test_an_unknown_value_outside_the_dtype_matches_nothing() -> None:
    energies = df.unary_from_labels(np.array([1], np.uint8), 2, unknown=-1)
    assert energies[:, 0].argmin() == 1


def test_no_labelled_nodes_give_no_energies() -> None:
    assert df.unary_from_labels(np.zeros((0, 4), int), 2).shape == (2, 0, 4)


@pytest.mark.parametrize("wrong", [[0, 3], [-1, 0], [255, 0]])
def test_a_label_out_of_range_is_refused_with_the_way_out(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"labels must lie in 0 \.\. 2, got 1 others.*unknown="):
        df.unary_from_labels(wrong, 3)


@pytest.mark.parametrize(
    ("labels", "options", "error", "text"),
    [
        ([0.5, 1.0], {}, TypeError, "labels must be integers, got dtype float64"),
        (np.ma.masked_array([0, 1], [True, False]), {}, TypeError, "masked array.*filled"),
        ([0], {"num_labels": 1}, ValueError, "num_labels must be 2 or more, got 1"),
        ([0], {"num_labels": 2.0}, TypeError, "num_labels must be an integer, got float 2.0"),
        ([0], {"confidence": 1.0}, ValueError, "confidence must be below 1"),
        ([0], {"confidence": 0.0}, ValueError, "confidence must be a finite number above 0"),
        ([0], {"unknown": 1.5}, TypeError, "unknown must be an integer or None, got float 1.5"),
    ],
)
def test_wrong_arguments_are_named(labels: Any, options: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        df.unary_from_labels(labels, **{"num_labels": 2, **options})
