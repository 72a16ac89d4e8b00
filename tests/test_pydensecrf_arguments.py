"""What crashes or corrupts pydensecrf is an error of the drop-in, and what works there works."""

import numpy as np
import pytest

import densefield.pydensecrf.densecrf as dcrf
from densefield.pydensecrf import eigen, utils

H, W, C = 4, 6, 2
IMAGE = np.random.default_rng(1).integers(0, 256, (H, W, 3)).astype(np.uint8)
UNARY = np.random.default_rng(2).random((C, H * W)).astype(np.float32)
FEATURES = np.random.default_rng(3).random((3, H * W)).astype(np.float32)


def crf_2d():
    crf = dcrf.DenseCRF2D(W, H, C)
    crf.setUnaryEnergy(UNARY)
    return crf


def with_one(array, value):
    spoilt = np.array(array, np.float32)
    spoilt.flat[5] = value
    return spoilt


@pytest.mark.parametrize("sigma", [0, -1, np.nan, 1e-60, (3, 0), (np.nan, 3)])
def test_gaussian_refuses_sigma(sigma):
    with pytest.raises(ValueError, match=r"sxy.* above 0"):
        crf_2d().addPairwiseGaussian(sxy=sigma, compat=3)


@pytest.mark.parametrize("sigma", [1e-8, 1e-30, 1e-44])
def test_gaussian_refuses_sigma_too_small_for_float32(sigma):
    with pytest.raises(ValueError, match=r"sxy must keep features within .* use a larger one"):
        crf_2d().addPairwiseGaussian(sxy=sigma, compat=3)


@pytest.mark.parametrize("sigma", [0, np.nan, (13, 13, -13)])
def test_bilateral_refuses_sigma_of_colour(sigma):
    with pytest.raises(ValueError, match=r"srgb.* above 0"):
        crf_2d().addPairwiseBilateral(80, sigma, IMAGE, 10)


@pytest.mark.parametrize("sigma", [(3,), (1, 2, 3)])
def test_gaussian_wants_one_sigma_or_two(sigma):
    with pytest.raises(ValueError, match="sxy must be one number or 2"):
        crf_2d().addPairwiseGaussian(sigma, 3)


@pytest.mark.parametrize("sigma", [None, "3", ("a", "b")])
def test_gaussian_wants_numbers(sigma):
    with pytest.raises(TypeError, match="sxy"):
        crf_2d().addPairwiseGaussian(sigma, 3)


def test_infinite_sigma_leaves_the_dimension_out():
    crf, flat = crf_2d(), crf_2d()
    crf.addPairwiseGaussian((np.inf, 3), 3)
    rows = np.repeat(np.arange(H, dtype=np.float32) / 3, W)
    flat.addPairwiseEnergy([np.zeros(H * W), rows], 3)
    np.testing.assert_array_equal(crf.inference(3), flat.inference(3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("u", lambda v: crf_2d().setUnaryEnergy(with_one(UNARY, v))),
        ("u", lambda v: dcrf.ConstUnary(with_one(UNARY, v))),
        ("f", lambda v: dcrf.LogisticUnary([[1.0]], with_one(np.ones((1, 9)), v))),
        ("features", lambda v: crf_2d().addPairwiseEnergy(with_one(FEATURES, v), 3)),
        ("rgbim", lambda v: crf_2d().addPairwiseBilateral(3, 3, with_one(IMAGE, v), 3)),
        ("Q", lambda v: crf_2d().klDivergence(with_one(UNARY, v))),
        ("Q", lambda v: crf_2d().stepInference(with_one(UNARY, v))),
    ],
)
def test_values_that_are_not_finite_are_refused(name, call, value):
    with pytest.raises(ValueError, match=f"^{name} must be finite .* 1 NaN or infinite"):
        call(value)


def test_a_value_too_large_for_float32_is_refused():
    with pytest.raises(ValueError, match="u must be finite in float32"):
        crf_2d().setUnaryEnergy(np.full((C, H * W), 1e300))


def test_features_too_far_from_zero_are_refused():
    with pytest.raises(ValueError, match="features must stay within"):
        crf_2d().addPairwiseEnergy(FEATURES * 1e12, 3)


@pytest.mark.parametrize("compat", [[1.0], [1.0, 2, 3], np.ones((2, 3)), np.ones((C, C, C)), []])
def test_compat_of_another_shape_is_refused(compat):
    with pytest.raises(ValueError, match=r"compat must be a number, or have shape \(2,\)"):
        crf_2d().addPairwiseGaussian(3, compat)


@pytest.mark.parametrize("compat", [np.nan, np.inf, 1e39, [np.nan, 1], [[1, 2], [np.inf, 1]]])
def test_compat_that_is_not_finite_is_refused(compat):
    with pytest.raises(ValueError, match="compat must be finite"):
        crf_2d().addPairwiseGaussian(3, compat)


@pytest.mark.parametrize("compat", [None, "3", 1j])
def test_compat_of_another_kind_is_refused(compat):
    with pytest.raises(TypeError, match="compat must be a number"):
        crf_2d().addPairwiseGaussian(3, compat)


@pytest.mark.parametrize("compat", [3, 3.0, np.float32(3), np.array(3.0), [-3, -3], [[-3, 0]] * 1])
def test_forms_of_one_compatibility(compat):
    if np.ndim(compat) == 2:
        compat = [[-3, 2], [-2, -3]]  # its symmetric part is diagonal
    crf, plain = crf_2d(), crf_2d()
    crf.addPairwiseGaussian(3, compat)
    plain.addPairwiseGaussian(3, 3)
    # The matrix is applied in another order of sums.
    np.testing.assert_allclose(crf.inference(3), plain.inference(3), atol=1e-6)


def test_a_refused_kernel_is_not_added():
    crf = crf_2d()
    before = np.array(crf.inference(2))
    with pytest.raises(ValueError):
        crf.addPairwiseGaussian(3, [1, 2, 3])
    np.testing.assert_array_equal(crf.inference(2), before)


@pytest.mark.parametrize(("name", "value"), [("kernel", 7), ("normalization", 4)])
def test_numbers_of_no_kind_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be one of .*\(0\)"):
        crf_2d().addPairwiseGaussian(3, 3, **{name: value})


def test_kinds_have_the_numbers_of_the_original():
    assert [int(k) for k in (dcrf.CONST_KERNEL, dcrf.DIAG_KERNEL, dcrf.FULL_KERNEL)] == [0, 1, 2]
    modes = (
        dcrf.NO_NORMALIZATION,
        dcrf.NORMALIZE_BEFORE,
        dcrf.NORMALIZE_AFTER,
        dcrf.NORMALIZE_SYMMETRIC,
    )
    assert [int(mode) for mode in modes] == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [0, -1, 2.5, np.nan])
def test_sizes_are_whole_numbers_above_zero(size):
    for make in (
        lambda: dcrf.DenseCRF(size, 2),
        lambda: dcrf.DenseCRF(2, size),
        lambda: dcrf.DenseCRF2D(size, 2, 2),
        lambda: dcrf.DenseCRF2D(2, size, 2),
        lambda: dcrf.DenseCRF2D(2, 2, size),
    ):
        with pytest.raises(ValueError, match="must be a whole number, 1 or more"):
            make()


@pytest.mark.parametrize("count", [2.5, -1, np.nan, np.inf])
def test_number_of_updates_is_a_whole_number(count):
    with pytest.raises(ValueError, match="niter must be a whole number, 0 or more"):
        crf_2d().inference(count)


@pytest.mark.parametrize("count", [None, "5", [5]])
def test_number_of_updates_is_a_number(count):
    with pytest.raises(TypeError, match="niter must be a number"):
        crf_2d().inference(count)


def test_whole_floats_count_as_in_the_original():
    np.testing.assert_array_equal(crf_2d().inference(2.0), crf_2d().inference(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda crf: crf.setUnaryEnergy(None),
        lambda crf: crf.setUnary(None),
        lambda crf: crf.setUnary(dcrf.Unary()),
        lambda crf: crf.addPairwiseEnergy(None, 3),
        lambda crf: crf.addPairwiseBilateral(3, 3, None, 3),
        lambda crf: crf.stepInference(None, None, None),
        lambda crf: crf.klDivergence(None),
        lambda crf: crf.stepInference(UNARY.tolist()),
        lambda crf: crf.stepInference(UNARY.copy(), UNARY, UNARY),
        lambda crf: dcrf.ConstUnary(None),
        lambda crf: dcrf.LogisticUnary(None, None),
        lambda crf: eigen.matrixXf(None),
    ],
)
def test_nothing_and_other_kinds_are_type_errors(call):
    with pytest.raises(TypeError, match=r"must be|must hold"):
        call(crf_2d())


@pytest.mark.parametrize("shape", [(C, H * W + 1), (C + 1, H * W), (C, H * W - 1), (1, 1)])
def test_arrays_of_another_size_are_refused(shape):
    wrong = np.zeros(shape, np.float32)
    crf = crf_2d()
    for call in (
        lambda: crf.setUnaryEnergy(wrong),
        lambda: crf.setUnary(dcrf.ConstUnary(wrong)),
        lambda: crf.stepInference(wrong, eigen.MatrixXf(), eigen.MatrixXf()),
        lambda: crf.klDivergence(wrong),
    ):
        with pytest.raises(ValueError, match=r"shape \(2, 24\) \(nlabels, npixels\)"):
            call()


def test_a_read_only_q_cannot_be_stepped():
    q = np.array(crf_2d().inference(0))
    q.flags.writeable = False
    with pytest.raises(ValueError, match="Q must be writable"):
        crf_2d().stepInference(q)


def test_a_unary_object_is_good_for_one_crf():
    unary = dcrf.ConstUnary(UNARY)
    crf_2d().setUnary(unary)
    with pytest.raises(ValueError, match="has been given to a CRF already"):
        crf_2d().setUnary(unary)


def test_factors_of_a_logistic_unary_must_fit():
    with pytest.raises(ValueError, match="with one k"):
        dcrf.LogisticUnary(np.ones((C, 3)), np.ones((4, H * W)))


@pytest.mark.parametrize("shape", [(W, H, 3), (H, W), (H, W, 4)])
def test_image_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"rgbim must have shape \(4, 6, 3\)"):
        crf_2d().addPairwiseBilateral(3, 3, np.zeros(shape, np.uint8), 3)


@pytest.mark.parametrize("shape", [(0, H * W), (33, H * W), (3, 5)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"features must have shape \(d, 24\)"):
        crf_2d().addPairwiseEnergy(np.zeros(shape, np.float32), 3)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "form",
    [
        lambda a: a.astype(np.float64),
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        read_only,
        lambda a: a.tolist(),
    ],
    ids=["float64", "fortran", "strided", "read_only", "list"],
)
def test_arrays_of_any_form_give_the_same(form):
    crf, plain = dcrf.DenseCRF2D(W, H, C), crf_2d()
    crf.setUnary(dcrf.ConstUnary(form(UNARY)))
    for target, change in ((crf, form), (plain, np.asarray)):
        target.addPairwiseEnergy(change(FEATURES), 2)
        target.addPairwiseBilateral(3, 20, change(IMAGE), 2)
    np.testing.assert_array_equal(crf.inference(3), plain.inference(3))


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match="u must be a plain array, got a masked one"):
        crf_2d().setUnaryEnergy(np.ma.masked_less(UNARY, 0.5))


def test_without_a_unary_all_energies_are_zero():
    crf, zero = dcrf.DenseCRF2D(W, H, C), dcrf.DenseCRF2D(W, H, C)
    zero.setUnaryEnergy(np.zeros_like(UNARY))
    for one in (crf, zero):
        one.addPairwiseGaussian(3, [-1, -2])
    np.testing.assert_array_equal(crf.inference(2), zero.inference(2))


def test_matrices_copy_what_they_are_given():
    for make, given in ((eigen.matrixXf, [[1.0, 2, 3]]), (eigen.vectorXf, [1.0, 2, 3])):
        array = np.array(given, np.float32)
        made = make(array)
        array[...] = 0
        np.testing.assert_array_equal(np.array(made), given)


def test_utilities_take_lists():
    assert utils.unary_from_softmax([[0.5, 1.0], [0.5, 0.0]]).shape == (2, 2)
