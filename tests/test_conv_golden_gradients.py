"""Gradients of ConvCRF with a published configuration are those of the published code."""

import numpy as np
import pytest

import densefield as df
from golden import load_golden
from test_conv_golden import CONFIGURATIONS

LABEL_WEIGHT = 0.2  # of the published defaults

# float32 on both sides, sums over 12288 nodes and five updates.
TOLERANCE = 1e-4


def relative_error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def case(request):
    golden = load_golden("a")
    config, iterations = CONFIGURATIONS[request.param]
    weights = np.full(len(golden["probabilities"]), LABEL_WEIGHT)
    crf = df.ConvCRF.from_reference_config(config, iterations=iterations, label_weight=weights)
    # The published code was given log p.
    _, vjp = crf.infer_vjp(-np.log(golden["probabilities"]), golden["image"].astype(np.float32))
    stored = {
        name.removeprefix(f"{request.param}_grad_"): array
        for name, array in golden.items()
        if name.startswith(f"{request.param}_grad_")
    }
    return vjp(golden[f"{request.param}_upstream"].astype(np.float32)), stored, crf


def test_gradient_by_the_unary(case):
    gradients, stored, _ = case
    assert relative_error(-gradients.unary, stored["unary"]) < TOLERANCE


def test_gradient_by_the_image(case):
    gradients, stored, _ = case
    assert relative_error(np.moveaxis(gradients.image, -1, 0), stored["image"]) < TOLERANCE


def test_gradients_by_the_kernels_weights(case):
    gradients, stored, _ = case
    expected = np.concatenate([stored["pos_compat"], stored["col_compat"]])
    assert relative_error(gradients.weights, expected) < TOLERANCE


def test_gradients_by_standard_deviations(case):
    gradients, stored, crf = case
    # The published code has 1 / sigma for parameters, one for all axes or channels.
    for name, kernel, values in (
        ("pos_sdims", 0, gradients.sigmas[0].sigma_space),
        ("col_sdims", 1, gradients.sigmas[1].sigma_space),
        ("col_schan", 1, gradients.sigmas[1].sigma_color),
    ):
        if name in stored:
            field = "sigma_color" if name == "col_schan" else "sigma_space"
            scale = -(np.ravel(getattr(crf.kernels[kernel], field))[0] ** 2)
            # The parts of the axes nearly cancel, so the error is seen beside their sizes.
            error = np.abs(scale * values.sum() - stored[name])
            assert error < TOLERANCE * np.abs(scale * values).sum()


def test_gradient_by_the_labels_weights(case):
    gradients, stored, _ = case
    # w stands in the compatibility, -w, and in the unary's factor, 1 - w.
    actual = -gradients.compatibility - gradients.unary_weight
    assert relative_error(actual, stored["CRF.weight"].ravel()) < TOLERANCE
