"""What a CRF is made of: its arguments, checked, and unchangeable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from densefield._arrays import as_choice, as_count, as_flag, as_number
from densefield._devices import Device, check_device
from densefield.compatibility import Checked, CompatibilityLike, Potts, check_compatibility
from densefield.kernels import Kernel, Normalization, check_kernels, check_normalization

Output: TypeAlias = Literal["marginals", "scores"]

_OUTPUTS = ("marginals", "scores")

_MAX_ITERATIONS = 2**31 - 1  # the core counts in 32 bits


class Model:
    """The arguments of `DenseCRF`, which documents them."""

    def __init__(
        self,
        kernels: Sequence[Kernel],
        *,
        compatibility: CompatibilityLike | None = None,
        normalization: Normalization = "symmetric",
        iterations: int = 10,
        exclude_self: bool = False,
        tolerance: float = 0.0,
        output: Output = "marginals",
        device: Device | None = None,
    ) -> None:
        self._kernels = check_kernels(kernels)
        self._compatibility: Checked = check_compatibility(
            Potts() if compatibility is None else compatibility
        )
        self._normalization = check_normalization(normalization)
        self._iterations = as_count("iterations", iterations, maximum=_MAX_ITERATIONS)
        self._exclude_self = as_flag("exclude_self", exclude_self)
        self._tolerance = as_number("tolerance", tolerance, minimum=0)
        self._output: Output = (
            "scores" if as_choice("output", output, _OUTPUTS) == "scores" else "marginals"
        )
        self._device = check_device(device)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The pairwise kernels."""
        return self._kernels

    @property
    def compatibility(self) -> Checked:
        """Potts, or the (C,) or (C, C) array."""
        return self._compatibility

    @property
    def normalization(self) -> Normalization:
        """How kernels are normalised."""
        return self._normalization

    @property
    def iterations(self) -> int:
        """Mean-field updates of `infer`."""
        return self._iterations

    @property
    def exclude_self(self) -> bool:
        """Whether a node's own marginal is left out of its message."""
        return self._exclude_self

    @property
    def tolerance(self) -> float:
        """The change of marginals below which `infer` stops; 0 never."""
        return self._tolerance

    @property
    def output(self) -> Output:
        """What `infer` returns."""
        return self._output

    @property
    def device(self) -> Device | None:
        """Where inferences run; None is where the arrays are."""
        return self._device
