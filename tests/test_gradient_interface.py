"""The interface of the gradients: shapes, what is wanted, memory, threads, errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import densefield as df

NAMES = ("unary", "image", "weights", "sigmas", "features", "compatibility")


def photo_case(labels=5, grid=(60, 70), dtype="f4"):
    rng = np.random.default_rng(11)
    unary = rng.uniform(0, 3, size=(labels, *grid)).astype(dtype)
    image = rng.integers(0, 256, size=(*grid, 3), dtype=np.uint8)
    return unary, image, rng.normal(size=unary.shape).astype(dtype)


def small_crf(**options):
    kernels = [
        df.Gaussian(sigma_space=3, weight=2),
        df.Bilateral(sigma_space=20, sigma_color=30, weight=3),
    ]
    return df.DenseCRF(kernels, **({"iterations": 5} | options))


def all_arrays(gradients):
    """Return every number of a result, in a fixed order."""
    return [
        gradients.unary,
        gradients.image,
        gradients.weights,
        gradients.compatibility,
        *(part for sigma in gradients.sigmas for part in sigma if part is not None),
        *(f for f in gradients.features if f is not None),
    ]


def assert_same_bits(left, right):
    for a, b in zip(all_arrays(left), all_arrays(right), strict=True):
        np.testing.assert_array_equal(a, b)


def test_marginals_are_the_bits_of_infer(backend):
    unary, image, _ = photo_case()
    for options in ({}, {"exclude_self": True}, {"iterations": 0}, {"tolerance": 1e-3}):
        crf = small_crf(**options)
        q = crf.infer(unary, image)
        np.testing.assert_array_equal(crf.infer_vjp(unary, image)[0], q)
        prepared = crf.prepare(image)
        np.testing.assert_array_equal(prepared.infer_vjp(unary)[0], q)


def test_marginals_of_two_labels_are_those_of_infer():
    unary, image, _ = photo_case(labels=2, dtype="f8")
    # There infer works on the difference of the two: other roundings.
    expected = small_crf().infer(unary, image)
    np.testing.assert_allclose(small_crf().infer_vjp(unary, image)[0], expected, atol=1e-13)


@pytest.mark.parametrize("iterations", [0, 1, 2, 5, 10])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_recomputed_marginals_give_the_same_bits(backend, iterations, exclude_self):
    unary, image, grad = photo_case()
    crf = small_crf(iterations=iterations, exclude_self=exclude_self)
    stored = crf.infer_vjp(unary, image, checkpoint="store")[1]
    recomputed = crf.infer_vjp(unary, image, checkpoint="recompute")[1]
    assert_same_bits(stored(grad), recomputed(grad))


def test_recomputing_needs_less_memory():
    unary, image, _ = photo_case()
    crf = small_crf(iterations=16)
    stored = crf.infer_vjp(unary, image)[1].nbytes
    rows = stored // 17  # of one update's marginals; how long a row is depends on the device
    assert stored == 17 * rows >= 17 * unary.nbytes
    # Marginals 0, 4, 8, 12, 16, those that were written over, and the unary.
    assert crf.infer_vjp(unary, image, checkpoint="recompute")[1].nbytes == 7 * rows


def test_any_number_of_threads_gives_the_same_bits():
    unary, image, grad = photo_case(labels=21, grid=(130, 140))
    crf = small_crf(compatibility=np.random.default_rng(0).normal(size=(21, 21)) / 21)
    results = []
    for n in (1, 2, 3):
        with df.num_threads(n):
            results.append(crf.infer_vjp(unary, image)[1](grad))
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_repeated_calls_give_the_same_bits():
    unary, image, grad = photo_case()
    vjp = small_crf().infer_vjp(unary, image)[1]
    first = vjp(grad)
    vjp(2 * grad)
    assert_same_bits(vjp(grad), first)


def test_threads_may_share_a_way_back():
    unary, image, grad = photo_case()
    vjp = small_crf().infer_vjp(unary, image, checkpoint="recompute")[1]
    expected = vjp(grad)
    with ThreadPoolExecutor(3) as pool:
        for result in pool.map(lambda _: vjp(grad), range(6)):
            assert_same_bits(result, expected)


def test_inputs_are_not_written():
    unary, image, grad = photo_case(dtype="f8")
    pixels = image.astype(np.float64)
    copies = unary.copy(), pixels.copy(), grad.copy()
    for array in (unary, pixels, grad):
        array.flags.writeable = False
    small_crf().infer_vjp(unary, pixels)[1](grad)
    for array, copy in zip((unary, pixels, grad), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_later_change_of_the_image_changes_no_gradient():
    unary, image, grad = photo_case()
    pixels = image.astype(np.float32)
    prepared = small_crf().prepare(pixels)
    vjp = small_crf().infer_vjp(unary, pixels)[1]
    expected = vjp(grad)
    pixels[:] = 0
    assert_same_bits(vjp(grad), expected)
    assert_same_bits(prepared.infer_vjp(unary)[1](grad), expected)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_wanted_is_there(name):
    unary, image, grad = photo_case()
    kernels = [
        df.Gaussian(sigma_space=3),
        df.Bilateral(sigma_space=20, sigma_color=30),
        df.Features(np.random.default_rng(0).normal(size=(60, 70, 2))),
    ]
    vjp = df.DenseCRF(kernels, iterations=2).infer_vjp(unary, image)[1]
    one, every = vjp(grad, wants=[name]), vjp(grad)
    assert [n for n in NAMES if getattr(one, n) is not None] == [name]
    if name == "sigmas":
        for some, other in zip(one.sigmas[:2], every.sigmas[:2], strict=True):
            np.testing.assert_array_equal(some.sigma_space, other.sigma_space)
    elif name == "features":
        assert one.features[:2] == (None, None)
        np.testing.assert_array_equal(one.features[2], every.features[2])
    else:
        np.testing.assert_array_equal(getattr(one, name), getattr(every, name))


def test_label_axis_and_channel_axis():
    unary, image, grad = photo_case()
    expected = small_crf().infer_vjp(unary, image)[1](grad)
    for axis in (1, 2, -1):
        q, vjp = small_crf().infer_vjp(
            np.moveaxis(unary, 0, axis), np.moveaxis(image, -1, axis), label_axis=axis,
            channel_axis=axis,
        )  # fmt: skip
        actual = vjp(np.moveaxis(grad, 0, axis))
        assert q.shape == actual.unary.shape == np.moveaxis(unary, 0, axis).shape
        np.testing.assert_array_equal(np.moveaxis(actual.unary, axis, 0), expected.unary)
        np.testing.assert_array_equal(np.moveaxis(actual.image, axis, -1), expected.image)


def test_image_without_channels():
    unary, image, grad = photo_case()
    grey = small_crf().infer_vjp(unary, image[..., 0])[1](grad)
    column = small_crf().infer_vjp(unary, image[..., :1])[1](grad)
    assert grey.image.shape == (60, 70)
    np.testing.assert_array_equal(grey.image, column.image[..., 0])


def test_strides_of_the_gradient_do_not_matter():
    unary, image, grad = photo_case()
    vjp = small_crf().infer_vjp(unary, image)[1]
    assert_same_bits(vjp(np.asfortranarray(grad)), vjp(grad))
    assert_same_bits(vjp(grad[:, ::-1].copy()[:, ::-1]), vjp(grad))


def test_point_sets():
    rng = np.random.default_rng(3)
    unary, points = rng.uniform(0, 2, size=(4, 200)), rng.normal(size=(200, 3))
    vjp = df.DenseCRF([df.Features(points)]).infer_vjp(unary)[1]
    actual = vjp(np.ones((4, 200)))
    # Marginals sum to one, whatever the inputs are.
    np.testing.assert_allclose(actual.unary, 0, atol=1e-14)
    np.testing.assert_allclose(actual.features[0], 0, atol=1e-12)
    assert actual.features[0].shape == points.shape


def test_one_label():
    image = np.zeros((4, 5, 3))
    actual = small_crf().infer_vjp(np.zeros((1, 4, 5)), image)[1](np.ones((1, 4, 5)))
    np.testing.assert_array_equal(actual.unary, 0)


@pytest.mark.parametrize("wants", [("unary", "weights", "image"), ("unary", "weights")])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_more_labels_than_registers_hold(exclude_self, wants):
    image = photo_case(grid=(12, 13), dtype="f8")[1]
    crf = small_crf(iterations=2, exclude_self=exclude_self)
    # Three of the 40 take part, each in another piece of the rows; the others lie far below them.
    rng, taking_part = np.random.default_rng(0), [5, 22, 38]
    unary = np.full((40, 12, 13), 900.0)
    unary[taking_part] = rng.uniform(0, 2, size=(3, 12, 13))
    grad = rng.normal(size=unary.shape)
    actual = crf.infer_vjp(unary, image)[1](grad, wants=wants)
    expected = crf.infer_vjp(unary[taking_part], image)[1](grad[taking_part], wants=wants)
    assert np.abs(expected.unary).max() > 0.01
    np.testing.assert_allclose(actual.unary[taking_part], expected.unary, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(actual.weights, expected.weights, rtol=1e-9)
    if "image" in wants:
        np.testing.assert_allclose(actual.image, expected.image, rtol=1e-6, atol=1e-12)


def test_a_grid_without_nodes():
    q, vjp = small_crf().infer_vjp(np.zeros((3, 0, 5)), np.zeros((0, 5, 3)))
    actual = vjp(np.zeros((3, 0, 5)))
    assert q.shape == actual.unary.shape == (3, 0, 5)
    assert actual.image.shape == (0, 5, 3)
    np.testing.assert_array_equal(actual.weights, [0, 0])
    assert [len(s) for s in actual.sigmas[1]] == [2, 3]


def test_gradient_of_another_shape_is_an_error():
    unary, image, grad = photo_case()
    vjp = small_crf().infer_vjp(unary, image)[1]
    with pytest.raises(ValueError, match=r"grad_q must have the shape of the marginals, \(5, 60"):
        vjp(grad[:4])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradient_that_is_not_finite_is_an_error(bad):
    unary, image, grad = photo_case()
    grad[0, 3, 4] = bad
    vjp = small_crf().infer_vjp(unary, image)[1]
    with pytest.raises(ValueError, match="grad_q must be finite, got 1 NaN or infinite"):
        vjp(grad)


def test_gradient_of_complex_numbers_is_an_error():
    unary, image, grad = photo_case()
    vjp = small_crf().infer_vjp(unary, image)[1]
    with pytest.raises(TypeError, match="grad_q must hold real numbers"):
        vjp(grad.astype(np.complex64))


def test_unknown_names_are_an_error():
    unary, image, grad = photo_case()
    vjp = small_crf().infer_vjp(unary, image)[1]
    with pytest.raises(ValueError, match=r"names among 'unary', .*'compatibility', got 'sigma'"):
        vjp(grad, wants=["sigma"])
    with pytest.raises(TypeError, match="wants must be a sequence of names"):
        vjp(grad, wants="unary")


def test_unknown_checkpoint_is_an_error():
    unary, image, _ = photo_case()
    with pytest.raises(ValueError, match="checkpoint must be 'store' or 'recompute', got 'keep'"):
        small_crf().infer_vjp(unary, image, checkpoint="keep")
