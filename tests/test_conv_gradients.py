"""Gradients of ConvCRF inference and of the window kernel against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import densefield as df
from gradient_checks import assert_gradient, central_differences, gradient_faults

GRID, LABELS = (5, 6), 3
MATRIX = np.array([[0.2, 1.0, 0.7], [0.4, -0.3, 1.1], [0.9, 0.5, 0.1]])
COMPATIBILITIES = {"potts": df.Potts(0.8), "vector": np.array([-1.0, -0.4, 0.3]), "matrix": MATRIX}
MODES = ("none", "before", "after", "symmetric")


class Problem:
    """A small ConvCRF, all of whose inputs can be varied, and a linear function of its result."""

    def __init__(self, seed: int = 0, **model: Any) -> None:
        rng = np.random.default_rng(seed)
        self.unary = rng.uniform(0, 2, size=(LABELS, *GRID))
        self.image = rng.uniform(0, 30, size=(*GRID, 2))
        self.table = rng.normal(size=(*GRID, 3))
        self.grad = rng.normal(size=(LABELS, *GRID))
        self.weights = np.array([0.7, 1.3, 0.6])
        self.space = np.array([1.3, 0.9])
        self.wide = np.array([4.1, 3.2])
        self.color = np.array([9.0, 14.0])
        self.unary_weight = np.array([0.8, 1.1, 0.9])
        options = {"iterations": 3, "normalization": "symmetric"} | model
        self.has_unary_weight = options.pop("has_unary_weight", False)
        self.model = options
        if options["normalization"] == "none":
            self.weights = 0.2 * self.weights  # unnormalised messages are large

    def crf(self) -> df.ConvCRF:
        w = self.weights.tolist()
        options = dict(self.model)
        if self.has_unary_weight:
            options["unary_weight"] = self.unary_weight
        kernels = [
            df.Gaussian(sigma_space=self.space, weight=w[0]),
            df.Bilateral(sigma_space=self.wide, sigma_color=self.color, weight=w[1]),
            df.Features(self.table, weight=w[2]),
        ]
        return df.ConvCRF(kernels, options.pop("filter_size", 3), **options)

    def loss(self) -> float:
        return float(np.vdot(self.crf().infer(self.unary, self.image), self.grad))

    def gradients(self, **options: Any) -> df.ConvGradients:
        return self.crf().infer_vjp(self.unary, self.image, **options)[1](self.grad)

    def differences(self, name: str, entries: Any = None) -> np.ndarray:
        given = getattr(self, name)

        def loss(value: np.ndarray) -> float:
            setattr(self, name, value)
            try:
                return self.loss()
            finally:
                setattr(self, name, given)

        return central_differences(loss, given, entries=entries)

    def check_all(self, node_entries: Any = range(0, 60, 7)) -> None:
        actual = self.gradients()
        for name, array in (
            ("unary", actual.unary),
            ("image", actual.image),
            ("table", actual.features[2]),
        ):
            assert_gradient(array.ravel()[node_entries], self.differences(name, node_entries))
        assert_gradient(actual.weights, self.differences("weights"))
        assert_gradient(actual.sigmas[0].sigma_space, self.differences("space"))
        assert_gradient(actual.sigmas[1].sigma_space, self.differences("wide"))
        assert_gradient(actual.sigmas[1].sigma_color, self.differences("color"))
        assert actual.sigmas[2] is None
        if self.has_unary_weight:
            assert_gradient(actual.unary_weight, self.differences("unary_weight"))


@pytest.mark.parametrize("normalization", MODES)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_every_gradient_is_the_central_difference(backend, normalization, exclude_self):
    Problem(normalization=normalization, exclude_self=exclude_self).check_all()


@pytest.mark.parametrize("normalization", MODES)
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("downsampling", [2, 3])
def test_gradients_between_cells(normalization, exclude_self, downsampling):
    Problem(
        normalization=normalization, exclude_self=exclude_self, downsampling=downsampling
    ).check_all()


@pytest.mark.parametrize("form", COMPATIBILITIES)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_every_form_of_compatibility(backend, form, exclude_self):
    Problem(seed=3, compatibility=COMPATIBILITIES[form], exclude_self=exclude_self).check_all()


@pytest.mark.parametrize("window", [{"shape": "diamond", "filter_size": 2}, {"filter_size": 13}])
@pytest.mark.parametrize("normalization", ["none", "after"])
def test_other_windows(window, normalization):
    Problem(normalization=normalization, **window).check_all()


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_any_number_of_iterations(iterations):
    Problem(iterations=iterations).check_all()


@pytest.mark.parametrize("start_from", ["marginals", "log_marginals"])
@pytest.mark.parametrize("output", ["marginals", "scores"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_published_options(start_from, output, iterations):
    Problem(
        has_unary_weight=True, start_from=start_from, output=output, iterations=iterations
    ).check_all()


def test_one_unary_weight_for_all_labels():
    problem = Problem()

    def loss(weight: np.ndarray) -> float:
        problem.model["unary_weight"] = float(weight)
        return problem.loss()

    expected = central_differences(loss, 0.8)
    loss(0.8)
    assert_gradient(problem.gradients().unary_weight, expected)


@pytest.mark.parametrize("options", [{}, {"output": "scores", "start_from": "log_marginals"}])
def test_no_iterations_leave_the_softmax(options):
    problem = Problem(iterations=0, **options)
    actual = problem.gradients()
    assert_gradient(actual.unary, problem.differences("unary"))
    for array in (actual.image, actual.weights, actual.features[2]):
        np.testing.assert_array_equal(array, 0)


def test_all_entries_of_node_gradients():
    problem = Problem(seed=5)
    actual = problem.gradients()
    assert_gradient(actual.unary, problem.differences("unary"))
    assert_gradient(actual.image, problem.differences("image"))
    assert_gradient(actual.features[2], problem.differences("table"))


@pytest.mark.parametrize("form", COMPATIBILITIES)
def test_gradient_by_the_models_compatibility(backend, form):
    problem = Problem(seed=4)
    given = COMPATIBILITIES[form]

    def loss(mu: np.ndarray) -> float:
        problem.model["compatibility"] = df.Potts(float(mu)) if form == "potts" else mu
        return problem.loss()

    expected = central_differences(loss, given.weight if form == "potts" else given)
    problem.model["compatibility"] = given
    assert_gradient(problem.gradients().compatibility, expected)


@pytest.mark.parametrize("form", COMPATIBILITIES)
def test_gradient_by_a_kernels_own_compatibility(form):
    problem, given = Problem(seed=6), COMPATIBILITIES[form]

    def crf(mu: Any) -> df.ConvCRF:
        kernels = [
            df.Gaussian(sigma_space=2, weight=0.7),
            df.Gaussian(sigma_space=1.3, weight=1.1, compatibility=mu),
        ]
        return df.ConvCRF(kernels, 5, iterations=3)

    def loss(mu: np.ndarray) -> float:
        own = df.Potts(float(mu)) if form == "potts" else mu
        return float(np.vdot(crf(own).infer(problem.unary), problem.grad))

    expected = central_differences(loss, given.weight if form == "potts" else given)
    actual = crf(given).infer_vjp(problem.unary)[1](problem.grad).kernel_compatibility
    assert actual[0] is None
    assert_gradient(actual[1], expected)


@pytest.mark.parametrize("grid", [(17,), (3, 4, 5)])
@pytest.mark.parametrize("downsampling", [1, 2])
def test_grids_of_other_dimensions(grid, downsampling):
    rng = np.random.default_rng(2)
    unary, grad = rng.uniform(0, 2, size=(2, LABELS, *grid))
    image = rng.uniform(0, 30, size=(*grid, 1))

    def crf(sigmas: np.ndarray) -> df.ConvCRF:
        kernels = [
            df.Gaussian(sigma_space=sigmas),
            df.Bilateral(sigma_space=2 * sigmas, sigma_color=9, weight=0.5),
        ]
        return df.ConvCRF(kernels, 3, iterations=2, downsampling=downsampling)

    at = np.linspace(1.1, 1.9, len(grid))
    expected = central_differences(lambda s: float(np.vdot(crf(s).infer(unary, image), grad)), at)
    actual = crf(at).infer_vjp(unary, image)[1](grad).sigmas
    assert_gradient(actual[0].sigma_space + 2 * actual[1].sigma_space, expected)


def photo_case(labels: int = 5, grid: tuple[int, int] = (60, 70)) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(11)
    unary = rng.uniform(0, 3, size=(labels, *grid)).astype("f4")
    image = rng.integers(0, 256, size=(*grid, 3), dtype=np.uint8)
    return unary, image, rng.normal(size=unary.shape).astype("f4")


def photo_crf(**options: Any) -> df.ConvCRF:
    kernels = [
        df.Gaussian(sigma_space=3, weight=2),
        df.Bilateral(sigma_space=20, sigma_color=30, weight=3),
    ]
    return df.ConvCRF(kernels, 5, **({"iterations": 5} | options))


def assert_same_bits(left: df.ConvGradients, right: df.ConvGradients) -> None:
    for a, b in zip(left.sigmas, right.sigmas, strict=True):
        np.testing.assert_array_equal(a.sigma_space, b.sigma_space)
        np.testing.assert_array_equal(a.sigma_color, b.sigma_color)
    for name in ("unary", "image", "weights", "compatibility"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


@pytest.mark.parametrize(
    "options",
    [{}, {"exclude_self": True}, {"iterations": 0}, {"tolerance": 1e-3}, {"output": "scores"}],
)
def test_the_result_is_the_bits_of_infer(options):
    unary, image, _ = photo_case()
    crf = photo_crf(**options)
    np.testing.assert_array_equal(crf.infer_vjp(unary, image)[0], crf.infer(unary, image))


@pytest.mark.parametrize("options", [{}, {"downsampling": 2, "normalization": "after"}])
def test_any_number_of_threads_gives_the_same_bits(options):
    unary, image, grad = photo_case(labels=21, grid=(130, 140))
    mu = np.random.default_rng(0).normal(size=(21, 21)) / 21
    crf = photo_crf(compatibility=mu, **options)
    results = []
    for n in (1, 2, 3):
        with df.num_threads(n):
            results.append(crf.infer_vjp(unary, image)[1](grad))
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("iterations", [1, 2, 5, 10])
@pytest.mark.parametrize("options", [{}, {"exclude_self": True}, {"output": "scores"}])
def test_recomputed_marginals_give_the_same_bits(iterations, options):
    unary, image, grad = photo_case()
    crf = photo_crf(iterations=iterations, **options)
    stored = crf.infer_vjp(unary, image, checkpoint="store")[1]
    recomputed = crf.infer_vjp(unary, image, checkpoint="recompute")[1]
    assert_same_bits(stored(grad), recomputed(grad))


def test_recomputing_needs_less_memory():
    unary, image, _ = photo_case()
    crf = photo_crf(iterations=16)
    stored = crf.infer_vjp(unary, image)[1].nbytes
    assert crf.infer_vjp(unary, image, checkpoint="recompute")[1].nbytes < 0.6 * stored


def test_repeated_calls_give_the_same_bits():
    unary, image, grad = photo_case()
    vjp = photo_crf().infer_vjp(unary, image)[1]
    first = vjp(grad)
    vjp(2 * grad)
    assert_same_bits(vjp(grad), first)


def test_only_what_is_wanted_is_there():
    unary, image, grad = photo_case()
    vjp = photo_crf().infer_vjp(unary, image)[1]
    everything, some = vjp(grad), vjp(grad, wants=["unary"])
    np.testing.assert_array_equal(some.unary, everything.unary)
    for name in ("image", "weights", "sigmas", "features", "compatibility"):
        assert getattr(some, name) is None


def test_an_empty_grid_has_gradients_of_its_shape():
    vjp = photo_crf(output="scores").infer_vjp(np.zeros((3, 0, 4)), np.zeros((0, 4, 3)))[1]
    gradients = vjp(np.zeros((3, 0, 4)))
    assert gradients.unary.shape == (3, 0, 4)
    assert gradients.weights.tolist() == [0, 0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("grid", "filter_size", "window"),
    [
        ((5, 6), 3, "square"),
        ((1, 9), 5, "square"),
        ((4, 5), 3, "diamond"),
        ((3, 4, 3), 3, "square"),
    ],
)
def test_gradients_of_the_window_kernel(backend, grid, filter_size, window, mode):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(*grid, 2))
    values, grad = rng.normal(size=(2, *grid, 4))

    def loss(v: np.ndarray, f: np.ndarray) -> float:
        kernel = df.WindowKernel(f, filter_size, window, normalization=mode)
        return float(np.vdot(kernel.apply(v), grad))

    kernel = df.WindowKernel(features, filter_size, window, normalization=mode)
    grad_values, grad_features = kernel.vjp(values, grad)
    assert_gradient(grad_values, central_differences(lambda v: loss(v, features), values))
    assert_gradient(grad_features, central_differences(lambda f: loss(values, f), features))


@pytest.mark.parametrize("num_channels", [1, 3, 8, 21])
def test_feature_gradient_in_single_precision_follows_double(num_channels):
    rng = np.random.default_rng(4)
    features = rng.normal(size=(40, 50, 3))
    values, grad = rng.normal(size=(2, 40, 50, num_channels))
    double = df.WindowKernel(features, 7, normalization="symmetric").vjp(values, grad)
    kernel = df.WindowKernel(features.astype("f4"), 7, normalization="symmetric")
    single = kernel.vjp(values.astype("f4"), grad.astype("f4"))
    # Sums of some 1000 products of float32.
    for a, b in zip(single, double, strict=True):
        assert_gradient(a, b, tolerance=2e-5)


@pytest.mark.parametrize("name", ["unary", "image", "table"])
def test_the_checks_find_a_gradient_of_zero_and_one_of_every_second_pair(name):
    problem = Problem()
    expected = problem.differences(name)
    gradients = problem.gradients()
    actual = gradients.features[2] if name == "table" else getattr(gradients, name)
    assert gradient_faults(actual, expected) == []
    assert "length" in gradient_faults(np.zeros_like(actual), expected)
    assert "length" in gradient_faults(0.5 * actual, expected)


@pytest.mark.parametrize(
    ("grad", "text"),
    [(np.zeros((5, 60, 71)), "grad_q must have the shape"), (np.full((5, 60, 70), np.nan), "NaN")],
)
def test_bad_gradients_are_refused(grad, text):
    unary, image, _ = photo_case()
    with pytest.raises(ValueError, match=text):
        photo_crf().infer_vjp(unary, image)[1](grad)
    with pytest.raises(ValueError, match="grad_out must have the shape of the values"):
        df.WindowKernel(np.zeros((2, 2, 1)), 3).vjp(np.zeros((2, 2, 3)), np.zeros((2, 2, 1)))
