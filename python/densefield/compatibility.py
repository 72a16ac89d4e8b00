"""Label compatibility: what two neighbours pay for a pair of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from densefield._arrays import as_float_array, as_number


@dataclass(frozen=True)
class Potts:
    """Potts compatibility: two neighbours with different labels pay, with equal ones do not.

    ``mu(l, l') = weight * [l != l']``.

    Parameters
    ----------
    weight : float, default 1
        What a pair of different labels costs, times the kernel's own weight.

    Raises
    ------
    TypeError, ValueError
        If the weight is not a finite number.

    References
    ----------
    Krähenbühl and Koltun 2011, section 2.

    Examples
    --------
    >>> Potts().matrix(2)
    array([[0., 1.],
           [1., 0.]])
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_number("Potts weight", self.weight))

    def matrix(self, num_labels: int) -> npt.NDArray[np.float64]:
        """Return the (C, C) matrix mu."""
        return self.weight * (1.0 - np.eye(num_labels))


CompatibilityLike: TypeAlias = Potts | npt.ArrayLike
Checked: TypeAlias = Potts | npt.NDArray[np.float64]


# A kernel's weight times mu as the core takes it: "scalar", "vector" or "matrix", the values of
# that form, and a constant added to every entry.
CompatibilityTerms: TypeAlias = tuple[str, list[float], float]


def check_compatibility(compatibility: CompatibilityLike) -> Checked:
    """Return Potts or a (C,) or (C, C) array of float64 that nobody else can change."""
    if isinstance(compatibility, Potts):
        return compatibility
    array = np.array(
        as_float_array("compatibility", compatibility, can_skip=False), dtype=np.float64
    )
    if array.ndim not in (1, 2) or array.shape[0] != array.shape[-1] or array.size == 0:
        raise ValueError(
            f"compatibility must be Potts() or have shape (C,) or (C, C) for C labels, "
            f"got shape {array.shape}; for one number use Potts(weight)"
        )
    array.flags.writeable = False
    return array


def compatibility_terms(
    checked: Checked, weight: float, num_labels: int, dtype: np.dtype[Any]
) -> CompatibilityTerms:
    """Return ``weight * mu`` for the core, which never needs a Potts matrix in full."""
    steepest = abs(checked.weight) if isinstance(checked, Potts) else float(np.abs(checked).max())
    if not abs(weight) * steepest <= float(np.finfo(dtype).max):
        raise ValueError(
            f"weight times compatibility must fit {dtype}, got weight {weight:g} times "
            f"{steepest:g}; use smaller ones: above about 100 a kernel alone decides"
        )
    if isinstance(checked, Potts):
        # w [l != l'] = w - w [l = l']
        value = weight * checked.weight
        return "scalar", [-value], value
    if checked.shape[0] != num_labels:
        raise ValueError(
            f"compatibility has shape {checked.shape}, but the unary has {num_labels} labels; "
            f"give ({num_labels},) or ({num_labels}, {num_labels}) values"
        )
    form = "vector" if checked.ndim == 1 else "matrix"
    return form, (weight * checked).ravel().tolist(), 0.0
