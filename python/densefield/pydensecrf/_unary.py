"""Unary energies as objects, for `DenseCRF.setUnary`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from densefield._arrays import Shape
from densefield.pydensecrf._arguments import Float32Array, as_float32


class Unary:
    """Base class of `ConstUnary` and `LogisticUnary`; of no use by itself.

    Notes
    -----
    In the original a `Unary` belongs to the CRF that it was given to, and giving it a second time
    takes the unary away without a word, or crashes. Here that is a ValueError.
    """

    _energies: Float32Array | None = None
    _is_taken = False

    def take(self, shape: Shape) -> Float32Array:
        """Return the energies, once, if they have the shape (nlabels, npixels)."""
        if self._is_taken:
            raise ValueError(
                f"u has been given to a CRF already, and a {type(self).__name__} can be used only "
                f"once; make a new one"
            )
        if self._energies is None:
            raise TypeError(f"u must be a ConstUnary or LogisticUnary, got {type(self).__name__}")
        if self._energies.shape != shape:
            raise ValueError(
                f"u must hold energies of shape {shape} (nlabels, npixels), "
                f"got {self._energies.shape}"
            )
        energies = self._energies
        self._energies, self._is_taken = None, True
        return energies


class ConstUnary(Unary):
    """Energies given as they are.

    Parameters
    ----------
    u : (nlabels, npixels) array of float
        Energies, -log p. They are copied.

    Raises
    ------
    TypeError, ValueError
        If it is no 2-D array of finite numbers.

    Notes
    -----
    The original takes C-contiguous, writable float32 only, and any shape: a wrong one crashes.
    """

    def __init__(self, u: npt.ArrayLike) -> None:
        self._energies = np.array(as_float32("u", u, ndim=2), order="C")


class LogisticUnary(Unary):
    """Energies as a linear function of features, ``U = L f``.

    Parameters
    ----------
    L : (nlabels, k) array of float
        Weights of the features for every label.
    f : (k, npixels) array of float
        Features of every pixel.

    Raises
    ------
    TypeError, ValueError
        If they are no 2-D arrays of finite numbers, or disagree on k.

    Notes
    -----
    The original does not compare the two shapes and crashes where they disagree.
    """

    def __init__(self, L: npt.ArrayLike, f: npt.ArrayLike) -> None:
        weights, features = as_float32("L", L, ndim=2), as_float32("f", f, ndim=2)
        if weights.shape[1] != features.shape[0]:
            raise ValueError(
                f"L must have shape (nlabels, k) and f (k, npixels) with one k, "
                f"got {weights.shape} and {features.shape}"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # found in the next line
            product = weights @ features
        self._energies = as_float32("the product of L and f", product, ndim=2)
