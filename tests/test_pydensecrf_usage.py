"""The drop-in in the ways people call pydensecrf."""

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
import pytest

import densefield as df
import densefield.pydensecrf.densecrf as dcrf
from densefield import pydensecrf
from densefield.pydensecrf import eigen, utils

H, W, C = 24, 32, 3


def scene():
    """Return an image of two halves, its labels, and noisy probabilities of C labels."""
    rng = np.random.default_rng(3)
    labels = np.zeros((H, W), int)
    labels[:, W // 2 :] = 1
    image = np.where(labels[..., None] == 1, (200, 60, 40), (30, 90, 160))
    image = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    scores = rng.normal(0, 1, (C, H, W))
    np.put_along_axis(scores, labels[None], np.take_along_axis(scores, labels[None], 0) + 1.5, 0)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=0)
    return image, labels, probabilities.astype(np.float32)


def small_crf():
    image, _, probabilities = scene()
    crf = dcrf.DenseCRF2D(W, H, C)
    crf.setUnaryEnergy(utils.unary_from_softmax(probabilities))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=20, srgb=13, rgbim=image, compat=5)
    return crf


def test_post_processing_of_a_network():
    image, labels, probabilities = scene()
    d = dcrf.DenseCRF2D(image.shape[1], image.shape[0], C)
    U = utils.unary_from_softmax(probabilities)
    U = np.ascontiguousarray(U)
    d.setUnaryEnergy(U)
    d.addPairwiseGaussian(
        sxy=(3, 3), compat=3, kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_SYMMETRIC
    )
    d.addPairwiseBilateral(
        sxy=(20, 20),
        srgb=(13, 13, 13),
        rgbim=image,
        compat=5,
        kernel=dcrf.DIAG_KERNEL,
        normalization=dcrf.NORMALIZE_SYMMETRIC,
    )
    Q = d.inference(5)
    refined = np.argmax(np.array(Q).reshape((C, H, W)), axis=0)
    assert (probabilities.argmax(axis=0) == labels).mean() < 0.9
    assert (refined == labels).mean() == 1


def test_smoothing_of_labels():
    image, labels, _ = scene()
    spoilt = labels.copy()
    spoilt[::5, ::7] = 1 - spoilt[::5, ::7]
    d = dcrf.DenseCRF2D(W, H, 2)
    d.setUnaryEnergy(utils.unary_from_labels(spoilt, 2, gt_prob=0.7, zero_unsure=False))
    d.addPairwiseEnergy(
        utils.create_pairwise_gaussian(sdims=(3, 3), shape=image.shape[:2]),
        compat=3,
        kernel=dcrf.DIAG_KERNEL,
        normalization=dcrf.NORMALIZE_SYMMETRIC,
    )
    d.addPairwiseEnergy(
        utils.create_pairwise_bilateral(sdims=(20, 20), schan=(13, 13, 13), img=image, chdim=2),
        compat=5,
    )
    Q, tmp1, tmp2 = d.startInference()
    for _ in range(5):
        d.stepInference(Q, tmp1, tmp2)
    assert np.argmax(Q, axis=0).reshape((H, W)).tolist() == labels.tolist()


def test_volume_with_channels():
    rng = np.random.default_rng(5)
    inside = np.zeros((6, 8, 10), bool)
    inside[2:5, 2:6, 3:8] = True
    volume = inside[..., None] * np.float32([4, 9]) + rng.normal(0, 0.3, (*inside.shape, 2))
    shape = volume.shape[:3]
    d = dcrf.DenseCRF(np.prod(shape), 2)
    p = np.where(inside, 0.6, 0.4) + rng.normal(0, 0.1, shape)
    d.setUnaryEnergy(utils.unary_from_softmax(np.stack([1 - p, p])))
    d.addPairwiseEnergy(utils.create_pairwise_gaussian((1.0, 1.0, 1.0), shape), compat=1)
    features = utils.create_pairwise_bilateral((4, 4, 4), (1, 1), volume, chdim=3)
    d.addPairwiseEnergy(features, compat=4)
    assert (np.argmax(d.inference(10), axis=0).reshape(shape) == inside).all()


def test_result_has_a_buffer_of_labels_by_pixels():
    Q = small_crf().inference(2)
    view = memoryview(Q)
    assert (view.shape, view.format, view.readonly) == ((C, H * W), "f", False)


def test_functions_of_the_result_give_plain_arrays():
    Q = small_crf().inference(2)
    assert type(np.argmax(Q, axis=0)) is np.ndarray
    assert type(Q * 2) is np.ndarray
    assert type(np.asarray(Q).reshape((C, H, W))) is np.ndarray


def test_steps_are_the_inference():
    crf = small_crf()
    Q, tmp1, tmp2 = crf.startInference()
    for _ in range(4):
        crf.stepInference(Q, tmp1, tmp2)
    np.testing.assert_array_equal(Q, crf.inference(4))


def test_what_is_written_to_the_marginals_is_where_the_next_step_starts():
    crf, other = small_crf(), small_crf()
    Q, tmp1, tmp2 = crf.startInference()
    crf.stepInference(Q, tmp1, tmp2)
    other_Q, *_ = other.startInference()
    np.asarray(other_Q)[...] = Q
    crf.stepInference(Q, tmp1, tmp2)
    other.stepInference(other_Q)
    np.testing.assert_array_equal(Q, other_Q)
    assert np.abs(Q - crf.inference(1)).max() > 0.01


def test_step_of_a_plain_array():
    crf = small_crf()
    Q = np.array(crf.startInference()[0], dtype=np.float64)
    crf.stepInference(Q, eigen.MatrixXf(), eigen.MatrixXf())
    np.testing.assert_array_equal(Q.astype(np.float32), crf.inference(1))


def test_scratch_of_an_older_unary_is_not_used():
    crf = small_crf()
    Q, tmp1, tmp2 = crf.startInference()
    crf.stepInference(Q, tmp1, tmp2)
    crf.setUnaryEnergy(np.zeros((C, H * W)))
    Q, *_ = crf.startInference()
    crf.stepInference(Q, tmp1, tmp2)
    np.testing.assert_array_equal(Q, crf.inference(1))


def test_kernels_and_unary_in_any_order():
    image, _, probabilities = scene()
    crf = dcrf.DenseCRF2D(W, H, C)
    crf.addPairwiseGaussian(3, 3)
    crf.inference(1)
    crf.addPairwiseBilateral(20, 13, image, 5)
    crf.setUnaryEnergy(utils.unary_from_softmax(probabilities))
    np.testing.assert_array_equal(crf.inference(3), small_crf().inference(3))


def test_lattices_are_kept_between_inferences():
    crf = small_crf()
    crf.inference(1)
    built = crf._lattices()
    crf.setUnaryEnergy(np.zeros((C, H * W)))
    crf.inference(3)
    assert crf._lattices() is built


def test_arrays_may_be_changed_after_they_were_given():
    image, _, probabilities = scene()
    unary = utils.unary_from_softmax(probabilities)
    features = utils.create_pairwise_gaussian((3, 3), (H, W))
    crf = dcrf.DenseCRF2D(W, H, C)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(features, 3)
    crf.addPairwiseBilateral(20, 13, image, 5)
    expected = np.array(crf.inference(2))
    again = dcrf.DenseCRF2D(W, H, C)
    again.setUnaryEnergy(unary)
    again.addPairwiseEnergy(features, 3)
    again.addPairwiseBilateral(20, 13, image, 5)
    for array in (unary, features, image):
        array[...] = 0
    np.testing.assert_array_equal(again.inference(2), expected)


def test_marginals_are_those_of_the_native_model():
    image, _, probabilities = scene()
    # The same lattice: positions as features, x first.
    y, x = np.indices((H, W), dtype=np.float32)
    features = np.stack([x, y], axis=-1) / np.float32(3)
    native = df.DenseCRF(
        [
            df.Features(features, weight=3),
            df.Bilateral(sigma_space=20, sigma_color=13, weight=5),
        ],
        iterations=3,
    ).infer(df.unary_from_probabilities(probabilities), image)
    # The two divide positions by sigma in other places: the last bits differ.
    assert np.abs(native.reshape(C, -1) - small_crf().inference(3)).max() <= 1e-5


def test_logistic_unary_is_a_product():
    rng = np.random.default_rng(8)
    L, f = rng.random((C, 4)), rng.random((4, 10))
    crf, same, product = (dcrf.DenseCRF(10, C) for _ in range(3))
    crf.setUnary(dcrf.LogisticUnary(L, f))
    same.setUnaryEnergy(L, f)
    product.setUnaryEnergy(L @ f)
    # One product in float32, the other in float64.
    np.testing.assert_allclose(crf.inference(0), product.inference(0), atol=1e-6)
    np.testing.assert_array_equal(crf.inference(0), same.inference(0))


def test_subclass_with_arguments_of_its_own():
    class ImageCRF(dcrf.DenseCRF2D):
        def __init__(self, image, num_labels):
            super().__init__(image.shape[1], image.shape[0], num_labels)
            self.image = image

        def refine(self, probabilities):
            self.setUnaryEnergy(utils.unary_from_softmax(probabilities))
            self.addPairwiseGaussian(3, 3)
            self.addPairwiseBilateral(20, 13, self.image, 5)
            return self.inference(3)

    image, _, probabilities = scene()
    np.testing.assert_array_equal(
        ImageCRF(image, C).refine(probabilities), small_crf().inference(3)
    )


def test_threads_get_what_one_thread_gets():
    crf = small_crf()
    alone = [np.array(crf.inference(n)) for n in range(8)]
    shared = small_crf()
    with ThreadPoolExecutor(4) as pool:
        of_one = list(pool.map(shared.inference, range(8)))
        of_many = list(pool.map(lambda n: small_crf().inference(n), range(8)))
    for expected, one, many in zip(alone, of_one, of_many, strict=True):
        np.testing.assert_array_equal(one, expected)
        np.testing.assert_array_equal(many, expected)


@pytest.fixture
def no_pydensecrf(monkeypatch):
    """No module of the old name before the test, and none after it."""
    names = ["pydensecrf", *(f"pydensecrf.{n}" for n in ("densecrf", "eigen", "utils"))]
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # remembered, to be put back
        del sys.modules[name]


def test_install_serves_the_old_name(no_pydensecrf):
    pydensecrf.install()
    pydensecrf.install()
    assert importlib.import_module("pydensecrf.densecrf") is dcrf
    names: dict[str, object] = {}
    exec(
        "import pydensecrf.densecrf as dcrf\n"
        "from pydensecrf.utils import unary_from_softmax\n"
        "from pydensecrf import eigen\n",
        names,
    )
    assert names["dcrf"] is dcrf
    assert names["eigen"] is eigen
    assert names["unary_from_softmax"] is utils.unary_from_softmax


def test_install_does_not_replace_another_one_unasked(no_pydensecrf):
    sys.modules["pydensecrf.densecrf"] = ModuleType("pydensecrf.densecrf")
    with pytest.raises(RuntimeError, match=r"imported already \(pydensecrf\.densecrf\)"):
        pydensecrf.install()
    assert "pydensecrf" not in sys.modules
    pydensecrf.install(overwrite=True)
    assert sys.modules["pydensecrf.densecrf"] is dcrf
