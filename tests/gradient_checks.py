"""Comparison of gradients: as vectors, and with central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Differences of fourth order: steps of 5e-5 leave 1e-17 of the fifth derivative and 1e-11 of
# the function's rounding, and move few points over the border of a simplex.
STEP = 5e-5
TOLERANCE = 1e-6


def gradient_faults(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> list[str]:
    """Name what is wrong with a gradient: its direction, its length, its mean, its entries."""
    a = np.asarray(actual, np.float64).ravel()
    e = np.asarray(expected, np.float64).ravel()
    assert a.shape == e.shape
    length, wanted = float(np.linalg.norm(a)), float(np.linalg.norm(e))
    assert wanted > 0, "an expected gradient of zero checks nothing"
    faults = []
    # 1 - cosine is half the squared angle.
    if not 1 - float(a @ e) / (length * wanted or 1.0) <= max(tolerance**2, 1e-13):
        faults.append("direction")
    if not abs(length / wanted - 1) <= tolerance:
        faults.append("length")
    if not abs(float((a - e).mean())) <= tolerance * float(np.abs(e).mean()):
        faults.append("bias")
    if not float(np.linalg.norm(a - e)) <= tolerance * wanted:
        faults.append("error")
    return faults


def assert_gradient(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    """Fail with the names of the checks and both vectors."""
    faults = gradient_faults(actual, expected, tolerance)
    assert not faults, f"wrong {', '.join(faults)}: got {actual}, wanted {expected}"


def central_differences(
    function: Callable[[Array], float], at: Any, step: float = STEP, entries: Any = None
) -> Array:
    """Differentiate a function of an array entry by entry, or by some entries of it.

    ``entries`` are places in the flattened array; all by default.
    """
    point = np.array(at, np.float64)
    places = range(point.size) if entries is None else entries
    slopes = []
    for place in places:
        slope = 0.0
        for steps, share in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            moved = point.copy()
            moved.reshape(-1)[place] += steps * step
            slope += share * function(moved)
        slopes.append(slope / (12 * step))
    return np.array(slopes) if entries is not None else np.array(slopes).reshape(point.shape)
