"""ConvCRF with a published configuration reproduces the published code's numbers."""

import numpy as np
import pytest

import densefield as df
from golden import CROPS, load_golden

# Configuration (the rest are the published defaults) and iterations of each key.
CONFIGURATIONS = {
    "conv_k7_blur1": ({"filter_size": 7, "blur": 1}, 5),
    "conv_k11_blur4": ({"filter_size": 11, "blur": 4}, 5),
    "conv_k5_sym": ({"filter_size": 5, "blur": 1, "norm": "sym", "merge": False}, 3),
    "conv_k7_blur1_final": ({"filter_size": 7, "blur": 1, "final_softmax": True}, 5),
    "conv_k3_blur2_bias": (
        {
            "filter_size": 3,
            "blur": 2,
            "final_softmax": True,
            "col_feats": {"sdims": 30, "schan": 13, "compat": 10, "use_bias": True},
        },
        2,
    ),
}


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("key", CONFIGURATIONS)
def test_published_numbers_are_reproduced(key, crop):
    golden = load_golden(crop)
    config, iterations = CONFIGURATIONS[key]
    crf = df.ConvCRF.from_reference_config(config, iterations=iterations)
    # The published code was given log p, not the clipped unary of the other packages.
    result = crf.infer(-np.log(golden["probabilities"]), golden["image"])
    error = np.abs(result - golden[key]).max() / np.abs(golden[key]).max()
    assert error < 1e-4


@pytest.mark.parametrize("crop", CROPS)
def test_scores_are_those_of_the_marginals(crop):
    golden = load_golden(crop)
    unary = -np.log(golden["probabilities"])
    config = {"filter_size": 7, "blur": 1}
    scores = df.ConvCRF.from_reference_config(config).infer(unary, golden["image"])
    marginals = df.ConvCRF.from_reference_config({**config, "final_softmax": True})
    expected = np.exp(scores - scores.max(axis=0))
    expected /= expected.sum(axis=0)
    # float32 scores of up to 70, rounded to 4e-6
    np.testing.assert_allclose(marginals.infer(unary, golden["image"]), expected, atol=2e-5)
