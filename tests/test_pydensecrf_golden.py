"""The drop-in reproduces the numbers that were recorded with pydensecrf."""

import numpy as np
import pytest

import densefield as df
import densefield.pydensecrf.densecrf as dcrf
from densefield.pydensecrf import utils
from golden import CROPS, SETTINGS, load_golden

MODES = {
    "none": dcrf.NO_NORMALIZATION,
    "before": dcrf.NORMALIZE_BEFORE,
    "after": dcrf.NORMALIZE_AFTER,
    "symmetric": dcrf.NORMALIZE_SYMMETRIC,
}
# One iteration and weak weights cannot flip a pixel: there the marginals must agree pixel by
# pixel, to what two orders of float32 sums differ by.
STRICT = ("pyd_default_sym_1it", "pyd_none_5it")


def crf_of(key, golden):
    setting, image = SETTINGS[key], golden["image"]
    height, width = image.shape[:2]
    num_labels = len(golden["unary"])
    crf = dcrf.DenseCRF2D(width, height, num_labels)
    crf.setUnaryEnergy(golden["unary"].reshape(num_labels, -1))
    spatial, bilateral = setting.kernels
    compats = {
        "potts": [spatial.weight, bilateral.weight],
        "vector": [golden["compat_vector"]] * 2,
        "matrix": [golden["compat_matrix"]] * 2,
    }[setting.compatibility]
    mode = {"normalization": MODES[setting.normalization]}
    crf.addPairwiseGaussian(sxy=spatial.sigma_space, compat=compats[0], **mode)
    crf.addPairwiseBilateral(
        sxy=bilateral.sigma_space,
        srgb=bilateral.sigma_color,
        rgbim=image,
        compat=compats[1],
        **mode,
    )
    return crf


def feature_crf_of(golden):
    image, num_labels = golden["image"], len(golden["unary"])
    crf = dcrf.DenseCRF(image[..., 0].size, num_labels)
    crf.setUnaryEnergy(golden["unary"].reshape(num_labels, -1))
    crf.addPairwiseEnergy(utils.create_pairwise_gaussian((2, 4), image.shape[:2]), compat=3)
    green = utils.create_pairwise_bilateral((20, 30), (9,), image[..., 1])
    crf.addPairwiseEnergy(green, compat=6)
    return crf


def assert_same(q, expected, *, strict):
    expected = expected.reshape(q.shape)
    assert (np.argmax(q, axis=0) == np.argmax(expected, axis=0)).mean() >= 0.999
    assert np.abs(q - expected).mean() <= 1e-4
    if strict:
        assert np.abs(q - expected).max() <= 2e-4


def recorded(key, crop):
    golden = load_golden(crop)
    if key not in golden:
        pytest.skip(f"{key} was not recorded for crop {crop}")
    return golden


def divergences_of(crf, count):
    q, tmp1, tmp2 = crf.startInference()
    values = [crf.klDivergence(q)]
    for _ in range(count - 1):
        crf.stepInference(q, tmp1, tmp2)
        values.append(crf.klDivergence(q))
    return values


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("key", SETTINGS)
def test_marginals(key, crop):
    golden = recorded(key, crop)
    q = np.array(crf_of(key, golden).inference(SETTINGS[key].iterations))
    assert_same(q, golden[key], strict=key in STRICT)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("key", SETTINGS)
def test_divergence_at_every_step(key, crop):
    golden = recorded(f"{key}_kl", crop)
    expected = golden[f"{key}_kl"]
    found = divergences_of(crf_of(key, golden), len(expected))
    # The original adds up in float32.
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("crop", CROPS)
def test_marginals_with_own_features(crop):
    golden = recorded("pyd_features_sym_5it", crop)
    q = np.array(feature_crf_of(golden).inference(5))
    assert_same(q, golden["pyd_features_sym_5it"], strict=False)


@pytest.mark.parametrize("crop", CROPS)
def test_divergence_with_own_features(crop):
    expected = recorded("pyd_features_sym_5it_kl", crop)["pyd_features_sym_5it_kl"]
    found = divergences_of(feature_crf_of(load_golden(crop)), len(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_marginals_of_a_volume():
    golden = load_golden("volume")
    volume = golden["volume"]
    crf = dcrf.DenseCRF(volume.size, 2)
    crf.setUnaryEnergy(golden["unary"].reshape(2, -1))
    crf.addPairwiseEnergy(utils.create_pairwise_gaussian((2, 2, 3), volume.shape), compat=2)
    features = utils.create_pairwise_bilateral((5, 5, 8), (1.5,), volume)
    crf.addPairwiseEnergy(features, compat=4)
    assert_same(np.array(crf.inference(5)), golden["pyd_5it"], strict=False)


def test_unary_from_labels():
    golden = load_golden("utils")
    found = utils.unary_from_labels(golden["labels"], 3, gt_prob=0.7)
    np.testing.assert_array_equal(found, golden["from_labels"])


def test_unary_from_labels_that_are_all_sure():
    golden = load_golden("utils")
    found = utils.unary_from_labels(golden["labels"], 4, gt_prob=0.6, zero_unsure=False)
    np.testing.assert_array_equal(found, golden["from_labels_keep0"])


def test_unary_from_softmax():
    golden = load_golden("utils")
    found = utils.unary_from_softmax(golden["softmax"])
    # Another processor's logarithm may round the last bit otherwise.
    np.testing.assert_allclose(found, golden["from_softmax"], rtol=1e-6, atol=1e-7)


def test_unary_from_scaled_softmax():
    golden = load_golden("utils")
    found = utils.unary_from_softmax(golden["softmax"], scale=0.8)
    np.testing.assert_allclose(found, golden["from_softmax_scaled"], rtol=1e-6, atol=1e-7)


def test_documented_counterpart_of_the_crfasrnn_layer():
    golden = load_golden("a")
    M, S, B = (
        golden[f"rnn_{name}"].astype(np.float64)
        for name in ("compatibility_matrix", "spatial_ker_weights", "bilateral_ker_weights")
    )
    crf = df.DenseCRF(
        [
            df.Gaussian(sigma_space=3, compatibility=-M @ S),
            df.Bilateral(sigma_space=160, sigma_color=3, compatibility=-M @ B),
        ],
        normalization="after",
        iterations=5,
    )
    q = crf.infer(golden["unary"], golden["image"])
    # The spatial kernel need not be the layer's lattice: single pixels on outlines may differ.
    assert (q.argmax(axis=0) == golden["rnn_out"].argmax(axis=0)).mean() >= 0.995
