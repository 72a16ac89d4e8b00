"""Gradients of dense CRF inference against central differences in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import densefield as df
from gradient_checks import assert_gradient, central_differences, gradient_faults

GRID, LABELS = (5, 6), 3
MATRIX = np.array([[0.2, 1.0, 0.7], [0.4, -0.3, 1.1], [0.9, 0.5, 0.1]])
COMPATIBILITIES = {"potts": df.Potts(0.8), "vector": np.array([-1.0, -0.4, 0.3]), "matrix": MATRIX}


class Problem:
    """A small CRF, all of whose inputs can be varied, and a linear function of its marginals."""

    def __init__(self, seed: int = 0, **model: Any) -> None:
        rng = np.random.default_rng(seed)
        self.unary = rng.uniform(0, 2, size=(LABELS, *GRID))
        self.image = rng.uniform(0, 30, size=(*GRID, 2))
        self.table = rng.normal(size=(*GRID, 3))
        self.grad = rng.normal(size=(LABELS, *GRID))
        self.weights = np.array([0.7, 1.3, 0.6, 0.9])
        # No small ratios: nodes would lie on borders of simplices.
        self.space = np.array([1.3, 0.9])  # of the grid kernel
        self.lattice_space = np.array([1.731, 1.127])
        self.wide = np.array([4.173, 3.219])
        self.color = np.array([9.0, 14.0])
        self.model = {"iterations": 3, "normalization": "symmetric"} | model

    def kernels(self) -> list[df.kernels.Kernel]:
        """One kernel of each sort."""
        w = self.weights.tolist()
        return [
            df.Gaussian(sigma_space=self.space, weight=w[0]),
            df.Gaussian(sigma_space=self.lattice_space, method="lattice", weight=w[1]),
            df.Bilateral(sigma_space=self.wide, sigma_color=self.color, weight=w[2]),
            df.Features(self.table, weight=w[3]),
        ]

    def crf(self) -> df.DenseCRF:
        return df.DenseCRF(self.kernels(), **self.model)

    def loss(self) -> float:
        return float(np.vdot(self.crf().infer(self.unary, self.image), self.grad))

    def gradients(self, **options: Any) -> df.Gradients:
        return self.crf().infer_vjp(self.unary, self.image, **options)[1](self.grad)

    def differences(self, name: str, entries: Any = None) -> np.ndarray:
        """Central differences of the loss by one of the arrays."""
        given = getattr(self, name)

        def loss(value: np.ndarray) -> float:
            setattr(self, name, value)
            try:
                return self.loss()
            finally:
                setattr(self, name, given)

        return central_differences(loss, given, entries=entries)

    def check_all(self, node_entries: Any = range(0, 60, 7)) -> None:
        """Compare every gradient; arrays of nodes at some of their entries."""
        actual = self.gradients()
        for name, array in (
            ("unary", actual.unary),
            ("image", actual.image),
            ("table", actual.features[3]),
        ):
            assert_gradient(array.ravel()[node_entries], self.differences(name, node_entries))
        assert_gradient(actual.weights, self.differences("weights"))
        assert_gradient(actual.sigmas[0].sigma_space, self.differences("space"))
        assert_gradient(actual.sigmas[1].sigma_space, self.differences("lattice_space"))
        assert_gradient(actual.sigmas[2].sigma_space, self.differences("wide"))
        assert_gradient(actual.sigmas[2].sigma_color, self.differences("color"))
        assert actual.sigmas[3] is None


@pytest.mark.parametrize("normalization", ["none", "before", "after", "symmetric"])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_every_gradient_is_the_central_difference(backend, normalization, exclude_self):
    problem = Problem(normalization=normalization, exclude_self=exclude_self)
    if normalization == "none":
        problem.weights = 0.1 * problem.weights  # unnormalised messages are large
    problem.check_all()


@pytest.mark.parametrize("form", COMPATIBILITIES)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_every_form_of_compatibility(backend, form, exclude_self):
    problem = Problem(seed=3, compatibility=COMPATIBILITIES[form], exclude_self=exclude_self)
    problem.check_all()


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_any_number_of_iterations(iterations):
    Problem(iterations=iterations).check_all()


def test_all_entries_of_node_gradients():
    problem = Problem(seed=5)
    actual = problem.gradients()
    assert_gradient(actual.unary, problem.differences("unary"))
    assert_gradient(actual.image, problem.differences("image"))
    assert_gradient(actual.features[3], problem.differences("table"))


def test_no_iterations_leave_the_softmax():
    problem = Problem(iterations=0)
    actual = problem.gradients()
    assert_gradient(actual.unary, problem.differences("unary"))
    for array in (actual.image, actual.weights, actual.features[3]):
        np.testing.assert_array_equal(array, 0)
    assert actual.compatibility == 0


def test_a_model_without_kernels():
    problem = Problem()
    q, vjp = df.DenseCRF([]).infer_vjp(problem.unary)
    actual = vjp(problem.grad)
    inner = (q * problem.grad).sum(axis=0)
    # The derivative of softmax(-U) in closed form; sums of three terms.
    np.testing.assert_allclose(actual.unary, -q * (problem.grad - inner), rtol=1e-12, atol=1e-15)
    assert actual.weights.shape == (0,)
    assert actual.image is None


@pytest.mark.parametrize("sigma", [0.6, 2.9, 4.0, 11.0])
@pytest.mark.parametrize("normalization", ["none", "symmetric"])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_grid_kernels_of_every_width(backend, sigma, normalization, exclude_self):
    rng = np.random.default_rng(1)
    unary, grad = rng.uniform(0, 2, size=(2, 2, 11, 14))

    def crf(s: np.ndarray) -> df.DenseCRF:
        weight = 0.05 if normalization == "none" else 1.5
        return df.DenseCRF(
            [df.Gaussian(sigma_space=s, weight=weight)],
            iterations=3,
            normalization=normalization,
            exclude_self=exclude_self,
        )

    at = np.array([sigma, 1.07 * sigma])
    expected = central_differences(lambda s: float(np.vdot(crf(s).infer(unary), grad)), at)
    actual = crf(at).infer_vjp(unary)[1](grad).sigmas[0].sigma_space
    assert_gradient(actual, expected)


@pytest.mark.parametrize("grid", [(17,), (4, 5, 6), (3, 3, 2, 4), (2, 3, 2, 2, 3)])
def test_grids_of_other_dimensions(grid):
    rng = np.random.default_rng(2)
    unary, grad = rng.uniform(0, 2, size=(2, LABELS, *grid))
    image = rng.uniform(0, 30, size=(*grid, 1))

    def crf(sigmas: np.ndarray) -> df.DenseCRF:
        kernels = [
            df.Gaussian(sigma_space=sigmas),
            df.Bilateral(sigma_space=2 * sigmas, sigma_color=9, weight=0.5),
        ]
        return df.DenseCRF(kernels, iterations=2)

    at = np.linspace(1.137, 1.873, len(grid))
    expected = central_differences(lambda s: float(np.vdot(crf(s).infer(unary, image), grad)), at)
    actual = crf(at).infer_vjp(unary, image)[1](grad).sigmas
    assert_gradient(actual[0].sigma_space + 2 * actual[1].sigma_space, expected)


def test_bilateral_without_positions():
    problem = Problem()

    def crf(color: np.ndarray) -> df.DenseCRF:
        return df.DenseCRF([df.Bilateral(sigma_space=None, sigma_color=color)], iterations=2)

    expected = central_differences(
        lambda c: float(np.vdot(crf(c).infer(problem.unary, problem.image), problem.grad)),
        problem.color,
    )
    actual = crf(problem.color).infer_vjp(problem.unary, problem.image)[1](problem.grad)
    assert actual.sigmas[0].sigma_space is None
    assert_gradient(actual.sigmas[0].sigma_color, expected)


@pytest.mark.parametrize("form", COMPATIBILITIES)
def test_gradient_by_the_models_compatibility(backend, form):
    problem = Problem(seed=4)
    given = COMPATIBILITIES[form]

    def loss(mu: np.ndarray) -> float:
        problem.model["compatibility"] = df.Potts(float(mu)) if form == "potts" else mu
        return problem.loss()

    expected = central_differences(loss, given.weight if form == "potts" else given)
    problem.model["compatibility"] = given
    actual = problem.gradients()
    assert_gradient(actual.compatibility, expected)
    assert actual.kernel_compatibility == (None,) * 4


def test_gradient_by_kernels_own_compatibilities():
    problem = Problem()

    def crf(matrix: np.ndarray, vector: np.ndarray, potts: float) -> df.DenseCRF:
        kernels = [
            df.Gaussian(sigma_space=1.5, compatibility=matrix, weight=0.7),
            df.Gaussian(sigma_space=2.5, compatibility=vector, weight=-0.4),
            df.Gaussian(sigma_space=0.8, compatibility=df.Potts(potts)),
            df.Gaussian(sigma_space=0.5),
        ]
        return df.DenseCRF(kernels, iterations=3)

    def loss(*parameters: Any) -> float:
        return float(np.vdot(crf(*parameters).infer(problem.unary), problem.grad))

    vector = COMPATIBILITIES["vector"]
    actual = crf(MATRIX, vector, 1.2).infer_vjp(problem.unary)[1](problem.grad)
    by_matrix, by_vector, by_potts, by_none = actual.kernel_compatibility
    assert_gradient(by_matrix, central_differences(lambda x: loss(x, vector, 1.2), MATRIX))
    assert_gradient(by_vector, central_differences(lambda x: loss(MATRIX, x, 1.2), vector))
    assert_gradient(by_potts, central_differences(lambda x: loss(MATRIX, vector, float(x)), 1.2))
    assert by_none is None
    assert actual.compatibility != 0  # the fourth kernel's


def test_early_stopping_differentiates_the_updates_that_were_made():
    problem = Problem(iterations=50, tolerance=0.02)
    q, vjp = problem.crf().infer_vjp(problem.unary, problem.image)
    assert 1 < vjp.iterations < 50
    np.testing.assert_array_equal(q, problem.crf().infer(problem.unary, problem.image))
    fixed = Problem(iterations=vjp.iterations)
    np.testing.assert_array_equal(vjp(problem.grad).unary, fixed.gradients().unary)


def test_checks_fail_on_a_zeroed_gradient():
    by_image = Problem().gradients().image
    assert gradient_faults(np.zeros_like(by_image), by_image) == [
        "direction",
        "length",
        "bias",
        "error",
    ]


def test_checks_fail_on_a_blur_in_forward_order():
    # One update with one lattice kernel by hand, with K where K^T belongs.
    problem = Problem()
    features = 2 * np.random.default_rng(0).normal(size=(30, 3))
    crf = df.DenseCRF([df.Features(features)], iterations=1, normalization="none")
    unary = problem.unary.reshape(LABELS, -1)
    grad = problem.grad.reshape(LABELS, -1)
    lattice = df.PermutohedralLattice(features)
    start = df.DenseCRF([]).infer(unary)
    q, vjp = crf.infer_vjp(unary)

    def by_unary(transpose: bool) -> np.ndarray:
        by_scores = q * (grad - (q * grad).sum(axis=0))
        by_start = lattice.filter(by_scores.T, transpose=transpose).T  # A is minus one
        return -by_scores - start * (by_start - (start * by_start).sum(axis=0))

    right = vjp(grad).unary
    assert_gradient(right, by_unary(True), 1e-12)
    assert gradient_faults(by_unary(False), right) == ["direction", "length", "error"]


def test_float32_is_close_to_float64(backend):
    rng = np.random.default_rng(8)
    unary = rng.uniform(0, 3, size=(21, 40, 50)).astype(np.float32)
    image = rng.integers(0, 256, size=(40, 50, 3), dtype=np.uint8)
    grad = rng.normal(size=unary.shape).astype(np.float32)
    crf = df.default_crf()
    single = crf.infer_vjp(unary, image)[1](grad)
    double = crf.infer_vjp(unary.astype(np.float64), image.astype(np.float64))[1](grad)
    # Sums of 10 updates of 42000 terms of either sign, each rounded to 6e-8.
    assert_gradient(single.unary, double.unary, 1e-4)
    assert_gradient(single.image, double.image, 2e-3)  # points on borders of simplices
    assert_gradient(single.weights, double.weights, 1e-4)
    for one, two in zip(single.sigmas, double.sigmas, strict=True):
        assert_gradient(one.sigma_space, two.sigma_space, 2e-3)
    assert single.unary.dtype == single.image.dtype == np.float32
    assert double.unary.dtype == double.image.dtype == np.float64
