"""Dense CRF and ConvCRF as modules whose weights, standard deviations, compatibility learn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from densefield._model import Output
from densefield.compatibility import Checked, CompatibilityLike, Potts, check_compatibility
from densefield.conv_crf import Start
from densefield.kernels import Kernel, Normalization
from densefield.layer import WindowForm, sigmas_of
from densefield.torch.functional import apply_layer, make_layer
from densefield.window import WindowShape


class DenseCRF(nn.Module):
    """Fully connected CRF as the last layer of a network.

    ``q = softmax(logits - sum_m w_m mu K_m q)``, iterated; see `densefield.DenseCRF`.

    Parameters
    ----------
    kernels : sequence of Gaussian or Bilateral
        The kernels, with the weights and standard deviations at the start.
    compatibility : Potts or (C,) or (C, C) array of float, default Potts()
        Label compatibility at the start; kernels with one of their own keep it.
    normalization, exclude_self, output
        As for `densefield.DenseCRF`.
    iterations : int, default 10
        Mean-field updates in evaluation.
    training_iterations : int, default 5
        Mean-field updates in training mode.

    Attributes
    ----------
    weights : (M,) Parameter
        Weights of the kernels.
    log_sigmas : (S,) Parameter
        Logarithms of the standard deviations, of each kernel those of space, then those of
        colour: a step changes them by a ratio, and they stay above 0.
    compatibility : ParameterList
        The model's compatibility, or one per kernel. Potts does not learn: the weights do.

    Notes
    -----
    What shall not learn: ``crf.log_sigmas.requires_grad_(False)``; its gradient is then not
    computed. Parameters are float32 and computed with in float64.

    Examples
    --------
    >>> import densefield as df
    >>> import torch
    >>> crf = DenseCRF([df.Gaussian(sigma_space=1, weight=2)])
    >>> logits = torch.zeros(1, 2, 5)
    >>> logits[0, 1] = torch.tensor([-1, -1, 0.2, -1, -1])
    >>> crf(logits).argmax(dim=1)
    tensor([[0, 0, 0, 0, 0]])
    """

    _window: WindowForm | None = None

    def __init__(
        self,
        kernels: Sequence[Kernel],
        *,
        compatibility: CompatibilityLike | None = None,
        normalization: Normalization = "symmetric",
        iterations: int = 10,
        training_iterations: int = 5,
        exclude_self: bool = False,
        output: Output = "marginals",
    ) -> None:
        super().__init__()
        kernels = list(kernels)
        self.weights = nn.Parameter(torch.tensor([float(kernel.weight) for kernel in kernels]))
        self.log_sigmas = nn.Parameter(
            torch.tensor([math.log(sigma) for sigma in sigmas_of(kernels)])
        )
        shared = check_compatibility(Potts() if compatibility is None else compatibility)
        own = [kernel.checked_compatibility for kernel in kernels]
        has_own = any(mu is not None for mu in own)
        start = [shared if mu is None else mu for mu in own] if has_own else [shared]
        self.compatibility = nn.ParameterList(_parameter(mu) for mu in start)
        self._layers = {
            is_training: make_layer(
                kernels,
                list(self.compatibility),
                normalization=normalization,
                iterations=training_iterations if is_training else iterations,
                exclude_self=exclude_self,
                output=output,
                window=self._window,
            )
            for is_training in (False, True)
        }
        self.register_buffer("_one", torch.ones(1), persistent=False)

    @property
    def sigmas(self) -> Tensor:
        """The standard deviations."""
        return self.log_sigmas.exp()

    def forward(self, logits: Tensor, image: Tensor | None = None) -> Tensor:
        """Infer a batch; see `dense_crf` for logits, image and result."""
        return apply_layer(
            self._layers[self.training],
            logits,
            image,
            weights=self.weights,
            sigmas=self.log_sigmas.double().exp(),
            compatibility=list(self.compatibility),
            unary_weight=self._factor_of_unary(),
        )

    def _factor_of_unary(self) -> Tensor:
        return self._one


class ConvCRF(DenseCRF):
    """CRF with kernels cut to a window, as the last layer of a network.

    Parameters
    ----------
    kernels, compatibility, normalization, iterations, training_iterations, exclude_self, output
        As for the module `DenseCRF`.
    filter_size, shape, downsampling, unary_weight, start_from
        As for `densefield.ConvCRF`; `unary_weight` at the start.

    Attributes
    ----------
    weights, log_sigmas, compatibility
        As for the module `DenseCRF`.
    unary_weight : (1,) or (C,) Parameter
        Factor of the unary.

    Examples
    --------
    >>> import densefield as df
    >>> import torch
    >>> crf = ConvCRF([df.Gaussian(sigma_space=1, weight=2)], filter_size=3)
    >>> crf(torch.zeros(1, 2, 4, 5)).shape
    torch.Size([1, 2, 4, 5])
    """

    def __init__(
        self,
        kernels: Sequence[Kernel],
        filter_size: int = 7,
        *,
        shape: WindowShape = "square",
        compatibility: CompatibilityLike | None = None,
        normalization: Normalization = "symmetric",
        iterations: int = 10,
        training_iterations: int = 5,
        exclude_self: bool = False,
        downsampling: int = 1,
        unary_weight: float | Sequence[float] = 1.0,
        start_from: Start = "marginals",
        output: Output = "marginals",
    ) -> None:
        self._window = WindowForm(
            filter_size=filter_size, shape=shape, downsampling=downsampling, start_from=start_from
        )
        super().__init__(
            kernels,
            compatibility=compatibility,
            normalization=normalization,
            iterations=iterations,
            training_iterations=training_iterations,
            exclude_self=exclude_self,
            output=output,
        )
        self.unary_weight = nn.Parameter(torch.tensor(unary_weight).float().reshape(-1))

    def _factor_of_unary(self) -> Tensor:
        return self.unary_weight


def _parameter(mu: Checked) -> nn.Parameter:
    if isinstance(mu, Potts):
        return nn.Parameter(torch.tensor(mu.weight), requires_grad=False)
    return nn.Parameter(torch.tensor(mu, dtype=torch.float32))
