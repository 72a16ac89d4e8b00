"""Derivatives of the NumPy reference against central differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from densefield import reference
from golden import load_golden
from gradient_checks import assert_gradient, central_differences

Array = NDArray[Any]
SHAPE = (3, 4)
NUM_NODES = 12
KINDS = ("exact", "lattice", "square", "diamond")
MODES = reference.NORMALIZATION_MODES


def random_array(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def features_inside_simplices(dim: int) -> Array:
    """Points that stay in their simplex of the lattice when moved by a difference step."""
    candidates = np.random.default_rng(dim).normal(scale=0.7, size=(400, dim))
    inside = reference.Lattice(candidates).weights.min(axis=1) > 2e-3
    chosen = candidates[inside][:NUM_NODES]
    assert len(chosen) == NUM_NODES
    return np.asarray(chosen)


def make_kernel(kind: str, features: Array) -> reference.Kernel:
    if kind == "exact":
        return reference.ExactKernel(features)
    if kind == "lattice":
        return reference.Lattice(features)
    size = {"square": 3, "diamond": 2}[kind]
    window: Any = kind
    return reference.WindowKernel(features, shape=SHAPE, filter_size=size, window=window)


# Kernels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_kernel_gradient_to_features(kind: str, dim: int) -> None:
    features = features_inside_simplices(dim)
    values, upstream = random_array(NUM_NODES, 2), random_array(NUM_NODES, 2, seed=2)
    _, gradient = make_kernel(kind, features).filter_vjp(values, upstream)
    expected = central_differences(
        lambda f: float(np.sum(upstream * make_kernel(kind, f).filter(values))), features
    )
    assert_gradient(gradient, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_kernel_gradient_to_values_is_the_transpose(kind: str) -> None:
    kernel = make_kernel(kind, features_inside_simplices(3))
    values, upstream = random_array(NUM_NODES, 2), random_array(NUM_NODES, 2, seed=2)
    gradient, _ = kernel.filter_vjp(values, upstream)
    # Sums of at most 12 terms of size 1.
    np.testing.assert_allclose(gradient, kernel.filter(upstream, transpose=True), atol=1e-13)
    left, right = np.vdot(kernel.filter(values), upstream), np.vdot(values, gradient)
    assert left == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("kind", ["exact", "lattice"])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_diagonal_gradient_to_features(kind: str, dim: int) -> None:
    features, upstream = features_inside_simplices(dim), random_array(NUM_NODES)
    gradient = make_kernel(kind, features).diagonal_vjp(upstream)
    expected = central_differences(
        lambda f: float(upstream @ make_kernel(kind, f).diagonal_formula()), features
    )
    if kind == "exact":
        assert np.array_equal(gradient, expected)  # both are 0
    else:
        assert_gradient(gradient, expected)


def test_exact_gradient_in_blocks_is_that_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = random_array(NUM_NODES, 2), random_array(NUM_NODES, 3), random_array(NUM_NODES, 2)
    whole = reference.exact_filter_vjp(*arrays)
    monkeypatch.setattr("densefield.reference.exact._PAIRS_PER_BLOCK", 60)  # 5 rows of 12
    for part, expected in zip(reference.exact_filter_vjp(*arrays), whole, strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-13)


def test_a_window_over_the_whole_grid_has_the_gradient_of_the_exact_sum() -> None:
    arrays = random_array(NUM_NODES, 2), random_array(NUM_NODES, 3), random_array(NUM_NODES, 2)
    expected = reference.exact_filter_vjp(*arrays)
    result = reference.window_filter_vjp(*arrays, shape=SHAPE, filter_size=7)
    for part, whole in zip(result, expected, strict=True):
        np.testing.assert_allclose(part, whole, atol=1e-13)


# Normalised operators


def applied(kernel: reference.NormalizedKernel, values: Array, exclude_self: bool) -> Array:
    out = kernel.operator.apply(values)
    return out - kernel.operator.diagonal[:, None] * values if exclude_self else out


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_normalised_gradient_to_values_and_features(
    kind: str, mode: Any, exclude_self: bool
) -> None:
    features = features_inside_simplices(3)
    values, upstream = random_array(NUM_NODES, 2), random_array(NUM_NODES, 2, seed=2)

    def loss(v: Array, f: Array) -> float:
        kernel = reference.NormalizedKernel(make_kernel(kind, f), mode=mode)
        return float(np.sum(upstream * applied(kernel, v, exclude_self)))

    kernel = reference.NormalizedKernel(make_kernel(kind, features), mode=mode)
    grad_values, grad_features = kernel.vjp(values, upstream, exclude_self=exclude_self)
    assert_gradient(grad_values, central_differences(lambda v: loss(v, features), values))
    assert_gradient(grad_features, central_differences(lambda f: loss(values, f), features))


# Softmax, compatibility, features


def test_softmax_gradient() -> None:
    scores, upstream = random_array(4, 5), random_array(4, 5, seed=2)
    gradient = reference.softmax_vjp(reference.softmax(scores), upstream)
    expected = central_differences(lambda z: float(np.sum(upstream * reference.softmax(z))), scores)
    assert_gradient(gradient, expected)


@pytest.mark.parametrize("shape", [(), (3,), (3, 3)], ids=["potts", "vector", "matrix"])
def test_compatibility_gradient(shape: tuple[int, ...]) -> None:
    compatibility, upstream, weight = random_array(*shape), random_array(3, 3, seed=2), 1.7

    def loss(w: float, mu: Array) -> float:
        return float(np.sum(upstream * w * reference.compatibility_matrix(mu, 3)))

    grad_weight, grad_compatibility = reference.compatibility_vjp(weight, compatibility, upstream)
    assert_gradient(
        grad_weight, central_differences(lambda w: loss(float(w), compatibility), weight)
    )
    assert_gradient(
        grad_compatibility, central_differences(lambda mu: loss(weight, mu), compatibility)
    )


def test_gradient_to_image_and_standard_deviations() -> None:
    image, upstream = random_array(3, 4, 2), random_array(NUM_NODES, 4, seed=2)
    space, color = np.array([2.0, 3.0]), np.array([0.5, 0.7])

    def features(image: Array, space: Array, color: Array) -> Array:
        return np.asarray(
            reference.bilateral_features(image, sigma_space=space, sigma_color=color)  # type: ignore[arg-type]
        )

    gradients = reference.bilateral_features_vjp(
        features(image, space, color),
        upstream,
        shape=SHAPE,
        sigma_space=space.tolist(),
        sigma_color=color.tolist(),
    )

    def differences(function: Callable[[Array], Array], at: Array) -> Array:
        return central_differences(lambda x: float(np.sum(upstream * function(x))), at)

    assert_gradient(gradients.image, differences(lambda x: features(x, space, color), image))
    assert_gradient(gradients.sigma_space, differences(lambda x: features(image, x, color), space))
    assert_gradient(gradients.sigma_color, differences(lambda x: features(image, space, x), color))


# The whole inference


class SmallCRF:
    """Three labels on a grid of 3 x 4 nodes; a kernel of each kind, no matrix symmetric."""

    def __init__(self, *, iterations: int, exclude_self: bool = False) -> None:
        self.options = {"iterations": iterations, "exclude_self": exclude_self}
        self.unary = random_array(3, NUM_NODES)
        self.features = [features_inside_simplices(dim) for dim in (5, 2, 3)]
        self.matrices = [0.4 * random_array(3, 3, seed=10 + m) for m in range(3)]

    def kernels(self, features: list[Array]) -> list[reference.NormalizedKernel]:
        kinds, modes = ("lattice", "exact", "square"), ("symmetric", "after", "before")
        return [
            reference.NormalizedKernel(make_kernel(kind, f), mode=mode)  # type: ignore[arg-type]
            for kind, f, mode in zip(kinds, features, modes, strict=True)
        ]

    def marginals(self, unary: Array, features: list[Array], matrices: list[Array]) -> Array:
        operators = [kernel.operator for kernel in self.kernels(features)]
        return reference.mean_field(unary, operators, matrices, **self.options)[-1]  # type: ignore[arg-type]

    def vjp(self, upstream: Array, **options: Any) -> reference.MeanFieldGradients:
        return reference.mean_field_vjp(
            self.unary,
            self.kernels(self.features),
            self.matrices,
            upstream,
            **self.options,  # type: ignore[arg-type]
            **options,
        )


def replaced(arrays: list[Array], index: int, array: Array) -> list[Array]:
    return [*arrays[:index], array, *arrays[index + 1 :]]


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_inference_gradient_to_unary(iterations: int, exclude_self: bool) -> None:
    crf, upstream = SmallCRF(iterations=iterations, exclude_self=exclude_self), random_array(3, 12)
    expected = central_differences(
        lambda u: float(np.sum(upstream * crf.marginals(u, crf.features, crf.matrices))), crf.unary
    )
    assert_gradient(crf.vjp(upstream).unary, expected)


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("which", range(3))
def test_inference_gradient_to_compatibility_and_features(which: int, exclude_self: bool) -> None:
    crf, upstream = SmallCRF(iterations=3, exclude_self=exclude_self), random_array(3, 12, seed=2)
    gradients = crf.vjp(upstream)

    def loss(features: list[Array], matrices: list[Array]) -> float:
        return float(np.sum(upstream * crf.marginals(crf.unary, features, matrices)))

    expected = central_differences(
        lambda a: loss(crf.features, replaced(crf.matrices, which, a)), crf.matrices[which]
    )
    assert_gradient(gradients.compatibilities[which], expected)
    expected = central_differences(
        lambda f: loss(replaced(crf.features, which, f), crf.matrices), crf.features[which]
    )
    assert_gradient(gradients.features[which], expected)


def test_gradient_of_scores_is_that_of_marginals_before_the_softmax() -> None:
    crf, upstream = SmallCRF(iterations=2), random_array(3, NUM_NODES, seed=2)
    marginals = crf.marginals(crf.unary, crf.features, crf.matrices)
    through_scores = crf.vjp(reference.softmax_vjp(marginals, upstream), of_scores=True)
    np.testing.assert_array_equal(through_scores.unary, crf.vjp(upstream).unary)


def test_gradient_of_scores_to_unary() -> None:
    crf, upstream = SmallCRF(iterations=2), random_array(3, NUM_NODES, seed=2)

    def scores(unary: Array) -> Array:
        operators = [kernel.operator for kernel in crf.kernels(crf.features)]
        q = reference.mean_field(unary, operators, crf.matrices, iterations=1)[-1]
        messages = zip(operators, crf.matrices, strict=True)
        return -unary - np.sum([a @ k.apply(q.T).T for k, a in messages], axis=0)

    expected = central_differences(lambda u: float(np.sum(upstream * scores(u))), crf.unary)
    assert_gradient(crf.vjp(upstream, of_scores=True).unary, expected)


def test_gradients_of_crf_as_rnn_equal_the_golden_ones() -> None:
    stored = load_golden("a")
    shape, num_labels = stored["image"].shape[:2], len(stored["probabilities"])
    wide = reference.bilateral_features(stored["image"], sigma_space=160, sigma_color=3)
    kernels = [
        reference.NormalizedKernel(reference.Lattice(features), mode="after")
        for features in (reference.grid_positions(shape, sigma=3), wide)
    ]
    weights = [stored[f"rnn_{name}_ker_weights"] for name in ("spatial", "bilateral")]
    mu = -stored["rnn_compatibility_matrix"]  # there it is added to the scores
    gradients = reference.mean_field_vjp(
        -np.log(stored["probabilities"].astype(np.float64)).reshape(num_labels, -1),
        kernels,
        [mu @ weight for weight in weights],
        stored["rnn_upstream"].reshape(num_labels, -1),
        iterations=5,
        of_scores=True,
    )
    # Stored in float32; measured 4e-5 for the unary, 4e-6 for the sums over all nodes.
    tolerance = 1e-4
    grad_mu = sum(a @ w.T for a, w in zip(gradients.compatibilities, weights, strict=True))
    assert_gradient(-gradients.unary, stored["rnn_grad_unary"], tolerance=tolerance)
    assert_gradient(-grad_mu, stored["rnn_grad_compatibility_matrix"], tolerance=tolerance)
    for name, grad in zip(("spatial", "bilateral"), gradients.compatibilities, strict=True):
        assert_gradient(mu.T @ grad, stored[f"rnn_grad_{name}_ker_weights"], tolerance=tolerance)


# What the checks above are worth


@pytest.mark.parametrize("wrong", [0.0, 1.001, -1.0], ids=["zeroed", "too long", "reversed"])
def test_a_wrong_gradient_does_not_pass(wrong: float) -> None:
    expected = random_array(30)
    assert_gradient(expected, expected)
    with pytest.raises(AssertionError):
        assert_gradient(wrong * expected, expected)


def test_a_biased_gradient_does_not_pass() -> None:
    expected = random_array(30)
    with pytest.raises(AssertionError):
        assert_gradient(expected + 1e-4, expected)


def test_a_backward_pass_in_the_forward_order_of_the_blur_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crf, upstream = SmallCRF(iterations=3), random_array(3, NUM_NODES, seed=2)
    right = crf.vjp(upstream)
    blur = reference.Lattice.blur
    monkeypatch.setattr(
        reference.Lattice, "blur", lambda self, values, *, reverse=False: blur(self, values)
    )
    wrong = crf.vjp(upstream)
    for part, expected in [
        (wrong.unary, right.unary),
        (wrong.features[0], right.features[0]),
        (wrong.compatibilities[1], right.compatibilities[1]),
    ]:
        with pytest.raises(AssertionError):
            assert_gradient(part, expected)
