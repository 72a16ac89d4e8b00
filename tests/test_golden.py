"""The dense CRF reproduces the outputs of the package it replaces."""

import numpy as np
import pytest

import densefield as df
from golden import CROPS, SETTINGS, load_golden, weighted_feature_arrays


def model_of(setting, golden):
    """Build the golden setting; sigma sequences there have x first, here the axes' order."""
    kernels = []
    for kernel in setting.kernels:
        space = np.atleast_1d(kernel.sigma_space)[::-1].tolist()
        if kernel.sigma_color is None:
            kernels.append(df.Gaussian(sigma_space=space, weight=kernel.weight, method="lattice"))
        else:
            kernels.append(
                df.Bilateral(
                    sigma_space=space, sigma_color=kernel.sigma_color, weight=kernel.weight
                )
            )
    compatibility = {
        "potts": lambda: df.Potts(),
        "vector": lambda: golden["compat_vector"],
        "matrix": lambda: 0.5 * (golden["compat_matrix"] + golden["compat_matrix"].T),
    }[setting.compatibility]()
    return df.DenseCRF(
        kernels,
        compatibility=compatibility,
        normalization=setting.normalization,
        iterations=setting.iterations,
    )


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("key", SETTINGS)
def test_marginals_of_pydensecrf_are_reproduced(key, crop):
    golden = load_golden(crop)
    if key not in golden:
        pytest.skip(f"{key} was not recorded for crop {crop}")
    setting = SETTINGS[key]
    q = model_of(setting, golden).infer(golden["unary"], golden["image"])
    expected = golden[key].reshape(q.shape)
    same = (q.argmax(axis=0) == expected.argmax(axis=0)).mean()
    assert same >= 0.999
    assert np.abs(q - expected).mean() <= 1e-4
    # The same operations in the same order: single pixels may flip over ten iterations of
    # strong weights, none does on these crops.
    assert np.abs(q - expected).max() <= 2e-4


def feature_model(golden, iterations=5):
    kernels = [df.Features(f, weight=w) for f, w in weighted_feature_arrays(golden)]
    return df.DenseCRF(kernels, iterations=iterations)


@pytest.mark.parametrize("crop", CROPS)
def test_custom_features_of_pydensecrf_are_reproduced(crop):
    golden = load_golden(crop)
    unary = golden["unary"].reshape(len(golden["unary"]), -1)
    q = feature_model(golden).infer(unary)
    assert np.abs(q - golden["pyd_features_sym_5it"].reshape(q.shape)).max() <= 2e-4


def test_volume_of_pydensecrf_is_reproduced():
    golden = load_golden("volume")
    unary = golden["unary"].reshape(2, -1)
    q = feature_model(golden).infer(unary)
    assert np.abs(q - golden["pyd_5it"].reshape(q.shape)).max() <= 2e-4


def test_volume_as_a_grid_equals_the_same_features_as_points():
    golden = load_golden("volume")
    unary = golden["unary"].reshape(2, *golden["volume"].shape)
    q = feature_model(golden).infer(unary)
    assert np.abs(q.ravel() - golden["pyd_5it"].ravel()).max() <= 2e-4
