"""Inferences whose updates the user makes or watches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from densefield._arrays import (
    FloatArray,
    Shape,
    as_floats_in_place,
    as_precision,
    channels_first,
    copy_back,
)
from densefield._place import Place

if TYPE_CHECKING:
    from densefield._densefield import _MeanField
    from densefield.inference import PreparedCRF

Callback: TypeAlias = Callable[[int, FloatArray], Any]


class Inference:
    """An inference in progress, made by `DenseCRF.start` or `PreparedCRF.start`.

    Threads that use one at once take turns. An update that failed (for want of memory, say)
    leaves it unusable until marginals are assigned to `q`.

    Attributes
    ----------
    iteration : int
        Updates made so far.

    Examples
    --------
    >>> import densefield as df
    >>> crf = df.DenseCRF([df.Gaussian(sigma_space=1, weight=2)])
    >>> inference = crf.start([[0.0, 0.0, 0.0], [1.0, -0.1, 1.0]])
    >>> for _ in range(3):
    ...     change = inference.step()
    >>> inference.iteration, inference.q.argmax(axis=0).tolist()
    (3, [0, 0, 0])
    """

    def __init__(
        self, prepared: PreparedCRF, place: Place, unary: FloatArray, label_axis: int
    ) -> None:
        self.iteration = 0
        self._place = place
        self._lock = threading.Lock()
        self._prepared = prepared
        self._unary = unary
        self._axis = label_axis
        self._core = (
            None
            if prepared._core is None
            else prepared._field(channels_first(unary, label_axis), True, True)
        )

    def step(self) -> float:
        """Make one update; return the largest change of a marginal in it."""
        with self._lock:
            change = 0.0 if self._core is None else self._core.update(True)
            self.iteration += 1
        return change

    @property
    def q(self) -> FloatArray:
        """The marginals so far, in the unary's shape: a copy. Assign to go on from others."""
        result = self._place.empty(self._unary.shape, self._prepared.dtype)
        if self._core is not None:
            with self._lock:
                store_marginals(self._core, result, self._axis)
        given_back = self._place.given_back(result)
        self._place.finish()
        return given_back

    @q.setter
    def q(self, marginals: npt.ArrayLike) -> None:
        with self._prepared._home.place_of(q=marginals) as place:
            values = as_floats_in_place("q", place.take("q", marginals), can_skip=False)
            if values.shape != self._unary.shape:
                raise ValueError(
                    f"q must have the shape of the unary, {self._unary.shape}, got {values.shape}"
                )
            if self._core is not None:
                table = channels_first(as_precision("q", values, self._prepared.dtype), self._axis)
                with self._lock:
                    self._core.load(table)

    def kl_divergence(self) -> float:
        """KL divergence of the marginals so far; see `DenseCRF.kl_divergence`."""
        return self._prepared.kl_divergence(
            self.q, self._unary, label_axis=self._axis, check_finite=False
        )


def store_marginals(field: _MeanField, result: FloatArray, axis: int) -> None:
    """Write the marginals into an array of the unary's shape."""
    table = channels_first(result, axis)
    field.store(table)
    copy_back(table, result, axis)


def check_callback(callback: Any) -> None:
    """Raise TypeError unless it is a function or None."""
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback must be a function of (iteration, q), got {type(callback).__name__}"
        )


def reporter(
    field: _MeanField, callback: Callback, place: Place, shape: Shape, axis: int, dtype: Any
) -> Callable[[], bool]:
    """Return what the core calls after an update: the user's callback with marginals."""
    iteration = 0

    def report() -> bool:
        nonlocal iteration
        iteration += 1
        q = place.empty(shape, dtype)
        store_marginals(field, q, axis)
        return bool(callback(iteration, place.given_back(q)))

    return report
