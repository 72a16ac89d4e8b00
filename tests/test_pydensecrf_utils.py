"""The drop-in's makers of unaries and features."""

import numpy as np
import pytest

from densefield.pydensecrf import utils


def test_probabilities_become_energies_of_flat_pixels():
    sm = np.array([[[0.25, 1.0]], [[0.75, 0.0]]], np.float32)
    unary = utils.unary_from_softmax(sm)
    assert (unary.shape, unary.dtype) == ((2, 2), np.float32)
    # -log in float32 rounds to about 1e-7 of 11.5.
    np.testing.assert_allclose(unary, -np.log([[0.25, 1.0], [0.75, 1e-5]]), atol=2e-6)


def test_scale_pulls_probabilities_to_uniform():
    unary = utils.unary_from_softmax([[1.0], [0.0]], scale=0.6)
    np.testing.assert_allclose(np.exp(-unary), [[0.8], [0.2]], rtol=1e-6)


def test_zero_may_be_believed():
    assert utils.unary_from_softmax([[1.0], [0.0]], clip=None)[1, 0] == np.inf


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sm": [[np.nan], [1.0]]}, "sm must be finite"),
        ({"sm": [[1.0]], "scale": 0}, "scale must be above 0"),
        ({"sm": [[1.0]], "scale": 1.5}, "scale must be above 0"),
        ({"sm": [[1.0]], "clip": -1}, "clip must be between"),
        ({"sm": 1.0}, "sm must have shape"),
        ({"sm": np.zeros((0, 3))}, "sm must have shape"),
    ],
)
def test_bad_probabilities_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        utils.unary_from_softmax(**arguments)


def test_unknown_labels_are_uniform():
    # uint8, where 0 - 1 wraps around.
    unary = utils.unary_from_labels(np.array([[0, 1], [2, 3]], np.uint8), 3, 0.8)
    expected = [[1 / 3, 0.8, 0.1, 0.1], [1 / 3, 0.1, 0.8, 0.1], [1 / 3, 0.1, 0.1, 0.8]]
    np.testing.assert_allclose(np.exp(-unary), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "zero_unsure"), [([3], True), ([2], False), ([-1], True), ([-1], False)]
)
def test_labels_out_of_range_are_refused(labels, zero_unsure):
    with pytest.raises(ValueError, match=r"labels must lie in 0 \.\."):
        utils.unary_from_labels(labels, 2, 0.8, zero_unsure)


@pytest.mark.parametrize("gt_prob", [0, 1, -0.5, np.nan])
def test_probability_of_labels_lies_between_0_and_1(gt_prob):
    with pytest.raises(ValueError, match="gt_prob must be between 0 and 1"):
        utils.unary_from_labels([0, 1], 2, gt_prob)


def test_one_label_is_none():
    with pytest.raises(ValueError, match="n_labels must be a whole number, 2 or more"):
        utils.unary_from_labels([0, 1], 1, 0.5)


def test_labels_are_integers():
    with pytest.raises(TypeError, match="labels must be integers"):
        utils.unary_from_labels([0.0, 1.0], 2, 0.5)


def test_old_names_warn_and_work():
    with pytest.warns(DeprecationWarning, match="use unary_from_labels"):
        old = utils.compute_unary(np.array([0, 1, 2]), 2)
    np.testing.assert_array_equal(old, utils.unary_from_labels([0, 1, 2], 2, 0.5))
    sm = np.array([[0.3, 0.9], [0.7, 0.1]])
    for prob, scale in ((1, None), (0.5, 0.5)):
        with pytest.warns(DeprecationWarning, match="use unary_from_softmax"):
            old = utils.softmax_to_unary(sm, GT_PROB=prob)
        np.testing.assert_array_equal(old, utils.unary_from_softmax(sm, scale, clip=None))


def test_gaussian_features_have_rows_first():
    features = utils.create_pairwise_gaussian(sdims=(2, 4), shape=(2, 3))
    assert features.dtype == np.float32
    rows, columns = [0, 0, 0, 0.5, 0.5, 0.5], [0, 0.25, 0.5, 0, 0.25, 0.5]
    np.testing.assert_array_equal(features, [rows, columns])


@pytest.mark.parametrize("chdim", [0, 1, 2, -2])
def test_bilateral_features_take_channels_from_any_axis(chdim):
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    features = utils.create_pairwise_bilateral((1, 1), 2, np.moveaxis(image, 2, chdim), chdim)
    np.testing.assert_array_equal(features[2:], image.reshape(6, 4).T / 2)
    np.testing.assert_array_equal(features[:2], utils.create_pairwise_gaussian((1, 1), (2, 3)))


def test_bilateral_features_leave_the_image_alone():
    image = np.ones((2, 3), np.float32)
    utils.create_pairwise_bilateral((1, 1), (4,), image)
    assert (image == 1).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sdims": (1,), "schan": 1}, "sdims must be one number or 2"),
        ({"sdims": (1, 1), "schan": (1, 1)}, "schan must be one number or 3"),
        ({"sdims": (1, 0), "schan": 1}, r"sdims\[1\] must be a standard deviation above 0"),
        ({"sdims": (1, 1), "schan": 1e-30}, "schan must keep features within"),
        # The last axis is not meant by -1.
        ({"sdims": (1, 1), "schan": (1, 1, 1), "chdim": -1}, "sdims must be .* no channels"),
    ],
)
def test_standard_deviations_that_do_not_fit_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        utils.create_pairwise_bilateral(
            **{"img": np.ones((2, 3, 3), np.uint8), "chdim": 2, **arguments}
        )


@pytest.mark.parametrize("shape", [5, (), (0, 3), (2.5, 3)])
def test_shape_is_a_sequence_of_sizes(shape):
    with pytest.raises(ValueError, match="shape"):
        utils.create_pairwise_gaussian((1, 1), shape)


def test_image_with_nan_is_refused():
    with pytest.raises(ValueError, match="img must be finite"):
        utils.create_pairwise_bilateral((1, 1), 1, np.full((2, 2), np.nan))
