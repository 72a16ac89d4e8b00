# ruff: noqa: N802 - the names of the package that this one replaces
"""Matrices and vectors as `densecrf` returns them: NumPy arrays of float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from densefield.pydensecrf._arguments import as_float32

__all__ = ["MatrixXf", "VectorXf", "matrixXf", "vectorXf"]


class _Float32Array(np.ndarray[Any, np.dtype[np.float32]]):
    """What functions of NumPy compute from it is a plain array."""

    def __array_wrap__(
        self, array: Any, context: Any = None, return_scalar: bool = False, /
    ) -> Any:
        return array[()] if return_scalar else np.asarray(array)

    def __array_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        result = super().__array_function__(func, types, args, kwargs)
        return np.asarray(result) if isinstance(result, _Float32Array) else result


class MatrixXf(_Float32Array):
    """Matrix of float32: marginals of shape (nlabels, npixels), or scratch of `stepInference`.

    ``MatrixXf()`` is empty, of shape (0, 0).

    Notes
    -----
    The original has nothing but the buffer. This is a NumPy array with all that arrays have:
    ``Q.shape``, ``Q[0]``, ``Q.reshape((nlabels, h, w))``, ``Q[...] = values``. The labels of a
    pixel lie next to each other in memory, as in the original.
    """

    # What `stepInference` keeps between two steps in the scratch matrix it is given.
    run: Any = None

    def __new__(cls) -> MatrixXf:
        """Return an empty matrix."""
        return np.ndarray.__new__(cls, (0, 0), np.float32)

    @classmethod
    def of_size(cls, num_rows: int, num_columns: int) -> MatrixXf:
        """Return a matrix whose values are not set yet."""
        return np.ndarray.__new__(cls, (num_rows, num_columns), np.float32, order="F")


class VectorXf(_Float32Array):
    """Vector of float32; ``VectorXf()`` is empty."""

    def __new__(cls) -> VectorXf:
        """Return an empty vector."""
        return np.ndarray.__new__(cls, (0,), np.float32)


def matrixXf(arr: npt.ArrayLike) -> MatrixXf:
    """Copy a 2-D array into a `MatrixXf`.

    Parameters
    ----------
    arr : 2-D array of float
        The original wants C-contiguous, writable float32; here any real numbers.

    Returns
    -------
    MatrixXf
    """
    values = as_float32("arr", arr, ndim=2, check_finite=False)
    result = MatrixXf.of_size(*values.shape)
    result[...] = values
    return result


def vectorXf(arr: npt.ArrayLike) -> VectorXf:
    """Copy a 1-D array into a `VectorXf`.

    Parameters
    ----------
    arr : 1-D array of float
        The original wants C-contiguous, writable float32; here any real numbers.

    Returns
    -------
    VectorXf
    """
    values = as_float32("arr", arr, ndim=1, check_finite=False)
    return np.array(values).view(VectorXf)
