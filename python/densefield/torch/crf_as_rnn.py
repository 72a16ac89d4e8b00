"""CRF as RNN [ZJR15]: maths §7."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from densefield.kernels import Bilateral, Gaussian
from densefield.torch.functional import apply_layer, make_layer


class CRFasRNN(nn.Module):
    """The recurrent layer of CRF as RNN: a dense CRF whose label matrices are all learned.

    ``scores = logits - mu (W_spatial K_s q + W_bilateral K_b q)``, ``q = softmax(scores)``,
    iterated.

    Parameters
    ----------
    num_labels : int
        C.
    sigma_smoothness : float, default 3
        Standard deviation of the spatial kernel, theta_gamma of the paper.
    sigma_space, sigma_color : float, default 160 and 3
        Standard deviations of the bilateral kernel, theta_alpha and theta_beta; for images of
        0 to 255.
    training_iterations, iterations : int, default 5 and 10
        Updates in training mode and in evaluation.
    method : {"lattice", "grid"}, default "lattice"
        How the spatial kernel is computed: as the published layer does, or faster and nearer to
        the exact sum; see `densefield.Gaussian`.

    Attributes
    ----------
    spatial_weights, bilateral_weights : (C, C) Parameter
        W; 3 and 5 times the identity at the start.
    compatibility : (C, C) Parameter
        mu, minus the identity at the start. The published code adds where this subtracts: its
        stored matrix changes sign.

    References
    ----------
    Zheng et al. 2015, "Conditional random fields as recurrent neural networks".

    Examples
    --------
    >>> import torch
    >>> layer = CRFasRNN(num_labels=2).eval()
    >>> layer(torch.zeros(1, 2, 8, 9), torch.zeros(1, 3, 8, 9)).shape
    torch.Size([1, 2, 8, 9])
    """

    def __init__(
        self,
        num_labels: int,
        *,
        sigma_smoothness: float = 3.0,
        sigma_space: float = 160.0,
        sigma_color: float = 3.0,
        training_iterations: int = 5,
        iterations: int = 10,
        method: Literal["grid", "lattice"] = "lattice",
    ) -> None:
        super().__init__()
        identity = torch.eye(num_labels)
        self.spatial_weights = nn.Parameter(3.0 * identity)
        self.bilateral_weights = nn.Parameter(5.0 * identity)
        self.compatibility = nn.Parameter(-identity)
        kernels = [
            Gaussian(sigma_space=sigma_smoothness, method=method),
            Bilateral(sigma_space=sigma_space, sigma_color=sigma_color),
        ]
        self._layers = {
            is_training: make_layer(
                kernels,
                [identity, identity],
                normalization="after",
                iterations=training_iterations if is_training else iterations,
                exclude_self=False,
                output="scores",
            )
            for is_training in (False, True)
        }
        sigmas = torch.tensor([sigma_smoothness, sigma_space, sigma_color], dtype=torch.float64)
        self.register_buffer("_sigmas", sigmas, persistent=False)
        self.register_buffer("_ones", torch.ones(2), persistent=False)

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Return the scores of a batch after the last update.

        Parameters
        ----------
        logits : (B, C, *grid) tensor of float
            Scores of a network.
        image : (B, channels, *grid) tensor
            Its image, not rescaled.

        Returns
        -------
        (B, C, *grid) tensor
            Scores, for `torch.nn.functional.cross_entropy` or argmax.
        """
        mu = self.compatibility.double()
        return apply_layer(
            self._layers[self.training],
            logits,
            image,
            weights=self._ones,
            sigmas=self._sigmas,
            compatibility=[
                mu @ self.spatial_weights.double(),
                mu @ self.bilateral_weights.double(),
            ],
            unary_weight=self._ones[:1],
        )
