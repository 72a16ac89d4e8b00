"""The drop-in next to the package it replaces, where that can be imported."""

import numpy as np
import pytest

import densefield.pydensecrf.densecrf as new_crf
from densefield.pydensecrf import eigen as new_eigen
from densefield.pydensecrf import utils as new_utils

WHY = "pydensecrf cannot be imported: install pydensecrf2 to compare with it"
old_crf = pytest.importorskip("pydensecrf.densecrf", reason=WHY)
old_utils = pytest.importorskip("pydensecrf.utils", reason=WHY)
old_eigen = pytest.importorskip("pydensecrf.eigen", reason=WHY)

if old_crf is new_crf:
    pytest.skip("pydensecrf is the drop-in itself: install() was called", allow_module_level=True)

H, W, C = 40, 50, 4
OLD, NEW = (old_crf, old_utils), (new_crf, new_utils)


def picture():
    rng = np.random.default_rng(11)
    blocks = rng.integers(0, 256, (5, 5, 3)).repeat(8, axis=0).repeat(10, axis=1)
    return np.clip(blocks + rng.normal(0, 6, blocks.shape), 0, 255).astype(np.uint8)


def unary():
    return np.random.default_rng(12).gamma(1.0, 1.0, (C, H * W)).astype(np.float32)


def assert_same(new, old):
    new, old = np.array(new), np.array(old)
    assert new.shape == old.shape
    assert (new.argmax(axis=0) == old.argmax(axis=0)).mean() >= 0.999
    assert np.abs(new - old).mean() <= 1e-4


@pytest.mark.parametrize(("old", "new"), [*zip(OLD, NEW, strict=True), (old_eigen, new_eigen)])
def test_every_public_name_is_there(old, new):
    imported = {"Number", "np", "warning", "eigen"}  # what the original itself imports
    public = {name for name in dir(old) if not name.startswith("_")} - imported
    assert public <= set(dir(new))


@pytest.mark.parametrize("name", ["DenseCRF", "DenseCRF2D"])
def test_every_public_method_is_there(name):
    methods = {m for m in dir(getattr(old_crf, name)) if not m.startswith("_")}
    assert methods <= set(dir(getattr(new_crf, name)))


@pytest.mark.parametrize("normalization", [0, 1, 2, 3])
@pytest.mark.parametrize("compat", ["scalar", "vector", "matrix"])
def test_marginals_and_divergence(compat, normalization):
    rng = np.random.default_rng(13)
    # Weak enough without normalisation, where messages are sums over all pixels.
    size = 0.02 if normalization == 0 else 2.0
    value = {
        "scalar": size,
        "vector": -size * rng.random(C).astype(np.float32),
        "matrix": size * (rng.random((C, C)) - np.eye(C)).astype(np.float32),
    }[compat]
    found = []
    for crf, _ in (OLD, NEW):
        model = crf.DenseCRF2D(W, H, C)
        model.setUnaryEnergy(unary())
        model.addPairwiseGaussian((2, 3), value, normalization=normalization)
        model.addPairwiseBilateral(
            (20, 30), (10, 15, 20), picture(), value, normalization=normalization
        )
        Q, tmp1, tmp2 = model.startInference()
        for _ in range(4):
            model.stepInference(Q, tmp1, tmp2)
        found.append((model.inference(4), Q, model.klDivergence(Q)))
    (old_q, old_steps, old_kl), (new_q, new_steps, new_kl) = found
    assert_same(new_q, old_q)
    assert_same(new_steps, old_steps)
    assert new_kl == pytest.approx(old_kl, rel=1e-4)


@pytest.mark.parametrize("kernel", [0, 1, 2])
def test_own_features_with_every_kind_of_kernel(kernel):
    found = []
    for crf, utils in (OLD, NEW):
        model = crf.DenseCRF(H * W, C)
        model.addPairwiseEnergy(
            utils.create_pairwise_bilateral((8, 8), (12, 12, 12), picture(), chdim=2),
            compat=3,
            kernel=kernel,
        )
        model.setUnary(crf.ConstUnary(unary()))
        found.append(model.inference(5))
    assert_same(found[1], found[0])


def test_logistic_unary():
    rng = np.random.default_rng(14)
    L, f = rng.random((C, 3)).astype(np.float32), rng.random((3, 20)).astype(np.float32)
    found = []
    for crf, _ in (OLD, NEW):
        model = crf.DenseCRF(20, C)
        model.setUnary(crf.LogisticUnary(L, f))
        found.append(np.array(model.inference(0)))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)  # a product in float32


@pytest.mark.parametrize("chdim", [-1, 0, 2])
def test_features_are_the_same_numbers(chdim):
    image = np.moveaxis(picture(), 2, 0) if chdim == 0 else picture()
    image = image[..., 0] if chdim == -1 else image
    arguments = ((8, 9), (12,) if chdim == -1 else (12, 13, 14), image.astype(np.float32), chdim)
    np.testing.assert_array_equal(
        new_utils.create_pairwise_bilateral(*arguments),
        old_utils.create_pairwise_bilateral(*arguments),
    )


@pytest.mark.parametrize("scale", [None, 0.7, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_energies_of_probabilities_are_the_same_numbers(dtype, scale):
    p = np.random.default_rng(15).dirichlet(np.ones(C), 30).T.astype(dtype)
    np.testing.assert_array_equal(
        new_utils.unary_from_softmax(p, scale), old_utils.unary_from_softmax(p, scale)
    )


@pytest.mark.parametrize("zero_unsure", [True, False])
def test_energies_of_labels_are_the_same_numbers(zero_unsure):
    labels = np.random.default_rng(16).integers(0, C, (7, 9))
    arguments = (labels, C, 0.6, zero_unsure)
    np.testing.assert_array_equal(
        new_utils.unary_from_labels(*arguments), old_utils.unary_from_labels(*arguments)
    )


def test_buffers_have_the_same_layout():
    views = []
    for crf, _ in (OLD, NEW):
        model = crf.DenseCRF2D(W, H, C)
        model.setUnaryEnergy(unary())
        view = memoryview(model.inference(0))
        views.append((view.shape, view.strides, view.format, view.readonly))
    assert views[0] == views[1]
