"""The numbers of a model that are fitted, as one vector: from the model, to it, and gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from densefield._arrays import as_number
from densefield.compatibility import Checked, Potts
from densefield.conv_crf import ConvCRF
from densefield.crf import DenseCRF
from densefield.gradients import Gradients, ParameterGradient, Wanted
from densefield.kernels import Bilateral, Gaussian, Kernel
from densefield.stored_model import remade

Vector: TypeAlias = npt.NDArray[np.float64]
ParameterName: TypeAlias = Literal["weights", "sigmas", "compatibility"]
Bounds: TypeAlias = Mapping[str, tuple[float, float]]

PARAMETER_NAMES: tuple[ParameterName, ...] = get_args(ParameterName)

# How far from the start a search may go unless bounds are given: wide enough to switch a kernel
# off, and narrow enough that no kernel underflows and no lattice has more vertices than memory.
_WEIGHT_FACTOR = 1000.0
_SIGMA_FACTOR = 10.0

_SIGMAS = ("sigma_space", "sigma_color")
_BOUND_NAMES = ("weights", *_SIGMAS, "compatibility")


@dataclass(frozen=True)
class _Part:
    """Consecutive numbers of the vector: one field of one kernel, or a compatibility."""

    name: str  # one of _BOUND_NAMES
    kernel: int | None  # None: the model's compatibility
    start: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    by_differences: bool = False  # the loss is differentiated by steps, not by `infer_vjp`

    @property
    def is_log(self) -> bool:
        """Whether the vector has logarithms: a step changes by a ratio, and the sign stays."""
        return self.name != "compatibility"


class Parameters:
    """The fitted numbers of a model.

    Parameters
    ----------
    crf : DenseCRF
        The model at the start, which also has the numbers that are not fitted.
    names : sequence of str, or None
        Which are fitted, see `fit`.
    bounds : mapping, or None
        Low and high by name, see `fit`.
    by_differences : bool, default False
        Leave the standard deviations of lattice kernels out of `gradient`.
    """

    def __init__(
        self, crf: DenseCRF, names: Any, bounds: Any, *, by_differences: bool = False
    ) -> None:
        for kernel in crf.kernels:
            if not isinstance(kernel, Gaussian | Bilateral):
                raise TypeError(
                    f"kernels of crf must be Gaussian or Bilateral to be fitted, got "
                    f"{type(kernel).__name__}, whose features belong to one image; give features "
                    f"as channels of the images to Bilateral(sigma_space=None, ...)"
                )
        if not crf.kernels or crf.iterations == 0:
            raise ValueError(
                "crf must have a kernel and an iteration, or there is nothing to fit, "
                f"got {len(crf.kernels)} kernels and {crf.iterations} iterations"
            )
        self._crf = crf
        self.names = _checked_names(crf, names)
        parts = _parts(crf, self.names, _checked_bounds(bounds))
        self._parts = [
            dataclasses.replace(part, by_differences=by_differences and _is_on_lattice(crf, part))
            for part in parts
        ]

    @property
    def start(self) -> Vector:
        """The vector of the model at the start."""
        return _joined([_coded(part, part.start) for part in self._parts])

    @property
    def limits(self) -> list[tuple[float, float]]:
        """Low and high of every entry."""
        low = _joined([_coded(part, part.low) for part in self._parts])
        high = _joined([_coded(part, part.high) for part in self._parts])
        return list(zip(low.tolist(), high.tolist(), strict=True))

    @property
    def entries_by_differences(self) -> list[int]:
        """Places in the vector of what `gradient` leaves out."""
        flags = [part.by_differences for part in self._parts for _ in part.start]
        return np.flatnonzero(flags).tolist()

    @property
    def wanted(self) -> list[Wanted]:
        """Names of the gradients that `gradient` looks at."""
        named = {
            "sigmas" if part.name in _SIGMAS else part.name
            for part in self._parts
            if not part.by_differences
        }
        return [name for name in PARAMETER_NAMES if name in named]

    def model(self, vector: Vector, **changes: Any) -> DenseCRF:
        """Return the model with the numbers of a vector, and other changes of its arguments."""
        fields: list[dict[str, Any]] = [{} for _ in self._crf.kernels]
        compatibility = self._crf.compatibility
        for part, values in self._values(vector):
            if part.kernel is None:
                compatibility = _like(compatibility, values)
            elif part.name == "weights":
                fields[part.kernel]["weight"] = float(values[0])
            elif part.name == "compatibility":
                own = self._crf.kernels[part.kernel].checked_compatibility
                assert own is not None
                fields[part.kernel]["compatibility"] = _like(own, values)
            else:
                fields[part.kernel][part.name] = tuple(values.tolist())
        kernels = [
            dataclasses.replace(kernel, **own)
            for kernel, own in zip(self._crf.kernels, fields, strict=True)
        ]
        return remade(self._crf, kernels=kernels, compatibility=compatibility, **changes)

    def gradient(self, vector: Vector, gradients: Gradients) -> Vector:
        """Return the gradient by the vector from that by the model's numbers."""
        slopes = []
        for part, values in self._values(vector):
            if part.by_differences:
                slopes.append(np.zeros(len(values)))
                continue
            by_value = np.asarray(_by_value(part, gradients), np.float64).ravel()
            slopes.append(by_value * values if part.is_log else by_value)
        return _joined(slopes)

    def _values(self, vector: Vector) -> Iterable[tuple[_Part, Vector]]:
        first = 0
        for part in self._parts:
            coded = vector[first : first + len(part.start)]
            first += len(part.start)
            # Within the limits in spite of rounding by logarithm and exponential.
            yield part, np.clip(np.exp(coded), part.low, part.high) if part.is_log else coded


def _checked_names(crf: DenseCRF, names: Any) -> tuple[ParameterName, ...]:
    known = ", ".join(map(repr, PARAMETER_NAMES))
    if names is None:
        has_array = any(not isinstance(mu, Potts) for _, mu in _compatibilities(crf))
        return PARAMETER_NAMES if has_array else ("weights", "sigmas")
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"parameters must be a sequence of names among {known}, got {names!r}")
    given = list(names)
    for name in given:
        if name not in PARAMETER_NAMES:
            raise ValueError(f"parameters must hold names among {known}, got {name!r}")
    if not given:
        raise ValueError(f"parameters must hold one name or more among {known}, got none")
    return tuple(name for name in PARAMETER_NAMES if name in given)


def _checked_bounds(bounds: Any) -> dict[str, tuple[float, float]]:
    known = ", ".join(map(repr, _BOUND_NAMES))
    if bounds is None:
        return {}
    if not isinstance(bounds, Mapping):
        raise TypeError(f"bounds must be a mapping of names among {known}, got {bounds!r}")
    checked = {}
    for name, pair in bounds.items():
        if name not in _BOUND_NAMES:
            raise ValueError(f"bounds must have names among {known}, got {name!r}")
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"bounds[{name!r}] must be a pair (low, high), got {pair!r}")
        positive = name != "compatibility"
        low, high = (as_number(f"bounds[{name!r}]", value, positive=positive) for value in pair)
        if low > high:
            raise ValueError(f"bounds[{name!r}] must be (low, high), got {low:g} above {high:g}")
        checked[name] = (low, high)
    return checked


def _compatibilities(crf: DenseCRF) -> Iterable[tuple[int | None, Checked]]:
    """Yield those that kernels use, with the kernel that owns it."""
    own = [kernel.checked_compatibility for kernel in crf.kernels]
    if any(mu is None for mu in own):
        yield None, crf.compatibility
    for m, mu in enumerate(own):
        if mu is not None:
            yield m, mu


def _parts(
    crf: DenseCRF, names: Sequence[str], bounds: Mapping[str, tuple[float, float]]
) -> Iterable[_Part]:
    for m, kernel in enumerate(crf.kernels):
        if "weights" in names:
            yield _part("weights", m, (kernel.weight,), bounds)
        if "sigmas" in names:
            for name in _SIGMAS:
                sigma = getattr(kernel, name, None)
                if sigma is not None:
                    yield _part(name, m, sigma, bounds)
    if "compatibility" in names:
        for owner, mu in _compatibilities(crf):
            values = (mu.weight,) if isinstance(mu, Potts) else tuple(mu.ravel().tolist())
            yield _part("compatibility", owner, values, bounds)


def _is_on_lattice(crf: DenseCRF, part: _Part) -> bool:
    if part.kernel is None or part.name not in _SIGMAS or isinstance(crf, ConvCRF):
        return False
    kernel = crf.kernels[part.kernel]
    return not isinstance(kernel, Gaussian) or kernel.method == "lattice"


def _part(
    name: str,
    kernel: int | None,
    start: tuple[float, ...],
    bounds: Mapping[str, tuple[float, float]],
) -> _Part:
    place = "compatibility" if kernel is None else f"kernels[{kernel}]: {name}"
    if name == "weights" and start[0] <= 0:
        raise ValueError(
            f"{place} must be above 0 at the start, because they keep their sign, got "
            f"{start[0]:g}; give the sign to the compatibility, or leave the kernel out"
        )
    if name in bounds:
        low, high = ((bound,) * len(start) for bound in bounds[name])
        for value in start:
            if not low[0] <= value <= high[0]:
                raise ValueError(
                    f"{place} must be within bounds[{name!r}] at the start, {low[0]:g} to "
                    f"{high[0]:g}, got {value:g}; start from another model"
                )
        return _Part(name, kernel, start, low, high)
    if name == "compatibility":
        return _Part(name, kernel, start, (-np.inf,) * len(start), (np.inf,) * len(start))
    factor = _WEIGHT_FACTOR if name == "weights" else _SIGMA_FACTOR
    low, high = tuple(v / factor for v in start), tuple(v * factor for v in start)
    return _Part(name, kernel, start, low, high)


def _coded(part: _Part, values: tuple[float, ...]) -> Vector:
    return np.log(values) if part.is_log else np.asarray(values, np.float64)


def _joined(vectors: Sequence[Vector]) -> Vector:
    return np.concatenate(vectors, dtype=np.float64)


def _like(checked: Checked, values: Vector) -> Checked:
    if isinstance(checked, Potts):
        return Potts(float(values[0]))
    return values.reshape(checked.shape)


def _by_value(part: _Part, gradients: Gradients) -> ParameterGradient:
    """Return the gradient by the numbers of a part."""
    if part.kernel is None:
        assert gradients.compatibility is not None
        return gradients.compatibility
    if part.name == "weights":
        assert gradients.weights is not None
        return float(gradients.weights[part.kernel])
    if part.name == "compatibility":
        own = (gradients.kernel_compatibility or ())[part.kernel]
        assert own is not None
        return own
    sigmas = (gradients.sigmas or ())[part.kernel]
    by_axis = None if sigmas is None else getattr(sigmas, part.name)
    assert by_axis is not None
    # One number for all axes or channels has the sum of their gradients.
    return by_axis if len(part.start) > 1 else float(by_axis.sum())


def kernel_text(kernel: Kernel) -> str:
    """Write the numbers of a kernel in one line, as a user reads them."""
    words = [f"{type(kernel).__name__:<10}weight {kernel.weight:.4g}"]
    for name in _SIGMAS:
        sigma = getattr(kernel, name, None)
        if sigma is not None:
            words.append(f"{name} {', '.join(f'{value:.4g}' for value in sigma)}")
    return "  ".join(words)
