"""The published layer of CRF as RNN: scores and gradients of the dense CRF equal its own."""

from __future__ import annotations

import numpy as np

import densefield as df
from golden import load_golden
from gradient_checks import assert_gradient


def test_crf_as_rnn_is_reproduced_with_all_its_gradients():
    golden = load_golden("a")
    by_space, by_color, mu = (
        golden[f"rnn_{name}"].astype(np.float64)
        for name in ("spatial_ker_weights", "bilateral_ker_weights", "compatibility_matrix")
    )
    # There messages are added to the scores, here energies are subtracted.
    kernels = [
        df.Gaussian(sigma_space=3, method="lattice", compatibility=-mu @ by_space),
        df.Bilateral(sigma_space=160, sigma_color=3, compatibility=-mu @ by_color),
    ]
    crf = df.DenseCRF(kernels, normalization="after", iterations=5, output="scores")
    unary = -np.log(golden["probabilities"])  # golden["unary"] is clipped
    scores, vjp = crf.infer_vjp(unary, golden["image"])
    assert_gradient(scores, golden["rnn_out"], 1e-4)

    gradients = vjp(golden["rnn_upstream"], wants=["unary", "compatibility"])
    in_space, in_color = gradients.kernel_compatibility
    assert_gradient(-gradients.unary, golden["rnn_grad_unary"], 1e-4)
    assert_gradient(-mu.T @ in_space, golden["rnn_grad_spatial_ker_weights"], 1e-4)
    assert_gradient(-mu.T @ in_color, golden["rnn_grad_bilateral_ker_weights"], 1e-4)
    by_mu = -(in_space @ by_space.T + in_color @ by_color.T)
    assert_gradient(by_mu, golden["rnn_grad_compatibility_matrix"], 1e-4)
