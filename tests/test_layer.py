"""A model without its numbers, in batches: what the layers of frameworks stand on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import densefield as df
from densefield import layer as layers
from densefield.layer import Layer, Learnable, WindowForm, kernel_form
from gradient_checks import assert_gradient, central_differences

Array = NDArray[Any]
GRID = (3, 4)
KERNELS = [
    df.Gaussian(sigma_space=1.37, method="lattice", normalization="after"),
    df.Bilateral(sigma_space=(2.17, 3.41), sigma_color=0.63),
    df.Bilateral(sigma_space=None, sigma_color=(0.7, 0.9)),
]
WINDOW = WindowForm(filter_size=3, shape="square", downsampling=1, start_from="marginals")
ALL = [True] * 6


def make_layer(**options: Any) -> Layer:
    start = Layer(
        kernels=tuple(kernel_form(kernel) for kernel in KERNELS),
        compatibility_shapes=((),),
        normalization="symmetric",
        iterations=2,
        exclude_self=False,
        output="marginals",
    )
    return replace(start, **options)


def make_numbers(size: int = 1, **options: Any) -> Learnable:
    start = Learnable(
        weights=np.array([0.7, 0.9, 0.4]),
        sigmas=np.array([1.37, 2.17, 3.41, 0.63, 0.7, 0.9]),
        compatibility=np.random.default_rng(3).normal(size=size),
        unary_weight=np.array([1.0]),
    )
    return start._replace(**options)


def make_batch() -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(2, 3, *GRID)), rng.normal(size=(2, 2, *GRID))


@pytest.mark.parametrize("window", [None, WINDOW])
def test_text_gives_the_same_layer(window: Any) -> None:
    layer = make_layer(window=window, compatibility_shapes=((3, 3), (3,), ()))
    assert layers.layer_from_text(layer.to_text()) == layer


def test_kernels_have_the_numbers_in_their_order() -> None:
    crf = layers.model(make_layer(), make_numbers(compatibility=np.array([0.5])))
    near, wide, color = crf.kernels
    assert near == df.Gaussian(
        sigma_space=1.37, method="lattice", normalization="after", weight=0.7
    )
    assert wide == df.Bilateral(sigma_space=(2.17, 3.41), sigma_color=0.63, weight=0.9)
    assert color == df.Bilateral(sigma_space=None, sigma_color=(0.7, 0.9), weight=0.4)
    assert crf.compatibility == df.Potts(0.5)


def test_each_kernel_may_have_a_compatibility_of_its_own() -> None:
    shapes = ((2,), (), (2, 2))
    numbers = make_numbers(compatibility=np.arange(7.0))
    crf = layers.model(make_layer(compatibility_shapes=shapes), numbers)
    first, second, third = (kernel.checked_compatibility for kernel in crf.kernels)
    assert np.array_equal(first, [0, 1]) and second == df.Potts(2.0)
    assert np.array_equal(third, [[3, 4], [5, 6]])


@pytest.mark.parametrize("window", [None, WINDOW])
def test_every_field_of_a_batch_is_inferred(window: Any) -> None:
    unary, image = make_batch()
    layer, numbers = make_layer(window=window), make_numbers()
    result = layers.infer(layer, unary, image, numbers)
    for b in range(2):
        expected = layers.model(layer, numbers).infer(unary[b], image[b], channel_axis=0)
        np.testing.assert_array_equal(result[b], expected)


def check_gradients(layer: Layer, numbers: Learnable, kinds: list[str]) -> None:
    unary, image = make_batch()
    upstream = np.random.default_rng(2).normal(size=unary.shape)
    gradients = layers.infer_vjp(layer, unary, image, numbers, upstream, wanted=ALL)
    inputs = {"unary": unary, "image": image, **numbers._asdict()}
    for (name, at), gradient in zip(inputs.items(), gradients, strict=True):
        assert gradient.shape == at.shape
        if name not in kinds:
            continue

        def loss(moved: Array, name: str = name) -> float:
            moved_inputs = {**inputs, name: moved}
            unary, image, *rest = moved_inputs.values()
            return float(np.sum(upstream * layers.infer(layer, unary, image, Learnable(*rest))))

        assert_gradient(gradient, central_differences(loss, at))


@pytest.mark.parametrize("shape", [(), (3,), (3, 3)], ids=["potts", "vector", "matrix"])
@pytest.mark.parametrize("output", ["marginals", "scores"])
def test_gradients_of_a_dense_layer(shape: Any, output: Any) -> None:
    layer = make_layer(compatibility_shapes=(shape,), output=output)
    numbers = make_numbers(int(np.prod(shape)))
    check_gradients(layer, numbers, ["unary", "image", "weights", "sigmas", "compatibility"])


@pytest.mark.parametrize("window", [None, WINDOW])
def test_gradients_to_compatibilities_of_each_kernel(window: Any) -> None:
    layer = make_layer(compatibility_shapes=((3,), (), (3, 3)), window=window)
    check_gradients(layer, make_numbers(13), ["compatibility"])


@pytest.mark.parametrize("factor", [[1.0], [0.8], [0.8, 1.0, 1.3]])
def test_gradients_of_a_window_layer(factor: list[float]) -> None:
    numbers = make_numbers(unary_weight=np.array(factor))
    kinds = ["unary", "image", "weights", "sigmas", "compatibility", "unary_weight"]
    check_gradients(make_layer(window=WINDOW), numbers, kinds)


def test_scores_without_iterations_have_the_gradient_of_minus_the_unary() -> None:
    unary, image = make_batch()
    layer = make_layer(iterations=0, output="scores")
    gradients = layers.infer_vjp(layer, unary, image, make_numbers(), unary, wanted=ALL)
    np.testing.assert_array_equal(gradients[0], -unary)
    assert not any(gradient.any() for gradient in gradients[1:])


def test_a_dense_layer_has_no_gradient_to_the_factor_of_the_unary() -> None:
    unary, image = make_batch()
    wanted = [False] * 5 + [True]
    gradients = layers.infer_vjp(make_layer(), unary, image, make_numbers(), unary, wanted=wanted)
    assert [gradient.tolist() for gradient in gradients] == [[0.0]]


def test_only_wanted_gradients_come_back_and_in_order() -> None:
    unary, image = make_batch()
    arguments = make_layer(), unary, image, make_numbers(), unary
    everything = layers.infer_vjp(*arguments, wanted=ALL)
    some = layers.infer_vjp(*arguments, wanted=[False, True, False, True, False, False])
    assert len(some) == 2
    np.testing.assert_array_equal(some[0], everything[1])
    np.testing.assert_array_equal(some[1], everything[3])


def test_an_image_that_no_kernel_looks_at_has_a_gradient_of_zero() -> None:
    unary, image = make_batch()
    layer = make_layer(kernels=(kernel_form(KERNELS[0]),))
    numbers = make_numbers(weights=np.array([0.7]), sigmas=np.array([1.37]))
    gradients = layers.infer_vjp(layer, unary, image, numbers, unary, wanted=ALL)
    assert gradients[1].shape == image.shape and not gradients[1].any()


def test_kernels_of_feature_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match=r"kernels of a layer must be Gaussian or Bilateral"):
        kernel_form(df.Features(np.zeros((12, 2))))
