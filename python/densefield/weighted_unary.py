"""The published options of a ConvCRF: its unary is normalised and weighted, and the way back."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from densefield import _densefield
from densefield._arrays import FloatArray
from densefield._densefield import DeviceArray
from densefield.device_arrays import as_device_array, new_like


class WeightedUnary:
    """What the published options make of a unary (C, N), on the host or on a device.

    With log_p the logarithm of the softmax of the negative unary, the model's energies are
    ``-weight * log_p``, and the first message is computed of log_p or its exponential
    (docs/maths.md §5).

    Attributes
    ----------
    energies : (C, N) array
        What takes the unary's place.
    start : (C, N) array
        What the first message is computed of.
    """

    def __init__(
        self, unary: FloatArray, weight: float | npt.NDArray[np.float64], start_from: str
    ) -> None:
        labels = unary.shape[0]
        if np.ndim(weight) and len(cast("npt.NDArray[np.float64]", weight)) != labels:
            raise ValueError(
                f"unary_weight has {np.size(weight)} values, but the unary has {labels} labels; "
                f"give one number, or one for each label"
            )
        self._is_one_weight = np.ndim(weight) == 0
        self._weight = np.broadcast_to(np.asarray(weight, np.float64), labels)
        self._starts_from_log = start_from == "log_marginals"
        if isinstance(unary, DeviceArray):
            self._compute_on_device(unary)
            return
        log_p = -unary
        log_p -= log_p.max(axis=0, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis=0, keepdims=True))
        self.log_p: FloatArray = log_p
        self.energies: FloatArray = -self._factor(log_p) * log_p
        self.start: FloatArray = log_p if self._starts_from_log else np.exp(log_p)

    def _compute_on_device(self, unary: DeviceArray) -> None:
        log_p, energies = (new_like(unary, unary.shape, unary.dtype) for _ in range(2))
        start = None if self._starts_from_log else new_like(unary, unary.shape, unary.dtype)
        _densefield.weight_unary(unary, self._weight.tolist(), log_p, energies, start)
        self.log_p = cast("FloatArray", log_p)
        self.energies = cast("FloatArray", energies)
        self.start = cast("FloatArray", log_p if start is None else start)

    def _factor(self, like: FloatArray) -> FloatArray:
        return self._weight.astype(like.dtype).reshape(-1, 1)

    def reverse(
        self, grad_energies: FloatArray, grad_start: FloatArray, grad_unary: FloatArray | None
    ) -> float | npt.NDArray[np.float64]:
        """Write the gradient by the unary, if it is wanted, and return that by the weight.

        All arrays are in one place, which need not be that of the inference.
        """
        log_p = _beside(grad_energies, self.log_p)
        if isinstance(log_p, DeviceArray):
            by_weight = np.array(
                _densefield.weighted_unary_gradient(
                    log_p,
                    self._weight.tolist(),
                    self._starts_from_log,
                    as_device_array(grad_energies),
                    as_device_array(grad_start),
                    None if grad_unary is None else as_device_array(grad_unary),
                )
            )
        else:
            by_weight = -np.multiply(grad_energies, log_p, dtype=np.float64).sum(axis=1)
            if grad_unary is not None:
                p = np.exp(log_p)
                by_log_p = -self._factor(log_p) * grad_energies
                by_log_p += grad_start if self._starts_from_log else grad_start * p
                grad_unary[...] = p * by_log_p.sum(axis=0) - by_log_p
        return float(by_weight.sum()) if self._is_one_weight else by_weight


def _beside(other: FloatArray, array: FloatArray) -> FloatArray | DeviceArray:
    """Return the array where another one is: on the host, or on the device."""
    is_there = isinstance(array, DeviceArray)
    if isinstance(other, DeviceArray):
        if is_there:
            return array
        return _densefield.copy_to_device(np.asarray(array), other.device, other.stream)
    return as_device_array(array).numpy() if is_there else array


def arrays_like(array: FloatArray, count: int) -> list[FloatArray]:
    """Return new arrays of the same shape and dtype, where the array is, not cleared."""
    if isinstance(array, DeviceArray):
        return [cast("FloatArray", new_like(array, array.shape, array.dtype)) for _ in range(count)]
    return [np.empty(array.shape, array.dtype) for _ in range(count)]
