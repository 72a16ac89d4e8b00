# ruff: noqa: N802 - the names of the package that this one replaces
"""Dense CRFs with the interface of pydensecrf, on this package's core."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from densefield.pydensecrf._arguments import (
    Float32Array,
    as_array,
    as_float32,
    as_sigmas,
    as_size,
    check_reach,
)
from densefield.pydensecrf._kinds import (
    CONST_KERNEL,
    DIAG_KERNEL,
    FULL_KERNEL,
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    KernelType,
    NormalizationType,
)
from densefield.pydensecrf._nodes import DenseCRF
from densefield.pydensecrf._unary import ConstUnary, LogisticUnary, Unary

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "ConstUnary",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "LogisticUnary",
    "NormalizationType",
    "Unary",
]


class DenseCRF2D(DenseCRF):
    """Dense CRF on an image; pixel (x, y) is node ``y * w + x``.

    Parameters
    ----------
    w, h : int
        Width and height, in this order: ``DenseCRF2D(img.shape[1], img.shape[0], nlabels)``.
    nlabels : int
        Number of labels.

    Raises
    ------
    TypeError, ValueError
        If a size is no whole number above 0.

    Examples
    --------
    >>> crf = DenseCRF2D(3, 1, 2)
    >>> crf.setUnaryEnergy([[0.0, 0.0, 0.0], [1.0, -0.1, 1.0]])
    >>> crf.addPairwiseGaussian(sxy=2, compat=2)
    >>> np.argmax(crf.inference(5), axis=0).reshape((1, 3))
    array([[0, 0, 0]])
    """

    def __init__(self, w: int, h: int, nlabels: int) -> None:
        grid = (as_size("h", h, minimum=1), as_size("w", w, minimum=1))
        self._set_sizes(grid, as_size("nlabels", nlabels, minimum=1))

    def addPairwiseGaussian(
        self,
        sxy: Any,
        compat: npt.ArrayLike,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a spatial Gaussian kernel.

        Parameters
        ----------
        sxy : float or (float, float)
            Standard deviation in pixels, or one for x and one for y.
        compat, kernel, normalization
            As for `addPairwiseEnergy`.

        Raises
        ------
        TypeError, ValueError
            If a standard deviation is not above 0, or so small that float32 cannot hold the
            quotients; if another argument is out of range.

        Notes
        -----
        Computed on a 2-D lattice with features in the order x, y, as in the original.
        """
        positions = self._positions(sxy)
        check_reach("sxy must keep features", positions, "use a larger one")
        self._add_kernel(positions, compat, kernel, normalization)

    def addPairwiseBilateral(
        self,
        sxy: Any,
        srgb: Any,
        rgbim: npt.ArrayLike,
        compat: npt.ArrayLike,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add an appearance kernel: near pixels of similar colour.

        Parameters
        ----------
        sxy : float or (float, float)
            Standard deviation of the position in pixels, or one for x and one for y.
        srgb : float or (float, float, float)
            Standard deviation of the colour in the image's units, or one per channel.
        rgbim : (h, w, 3) array
            The image. uint8 is 0 to 255; other types are taken as they are, so an image from 0
            to 1 needs an `srgb` of that size. It may be changed afterwards.
        compat, kernel, normalization
            As for `addPairwiseEnergy`.

        Raises
        ------
        TypeError, ValueError
            If the image has another size or number of channels or is not finite, or another
            argument is out of range.

        Notes
        -----
        Features in the order x, y, r, g, b, as in the original, which takes C-contiguous,
        writable uint8 only.
        """
        given = as_array("rgbim", rgbim)
        if given.shape != (*self._grid, 3):
            raise ValueError(
                f"rgbim must have shape {(*self._grid, 3)} (h, w, 3), got {given.shape}; for other "
                f"channels use utils.create_pairwise_bilateral and addPairwiseEnergy"
            )
        colors = as_float32("rgbim", given, ndim=3)
        sigmas = np.array(as_sigmas("srgb", srgb, 3, "channel"), np.float32)
        features = np.empty((5, self._nvar), np.float32)
        features[:2] = self._positions(sxy)
        with np.errstate(over="ignore", under="ignore"):  # found below
            features[2:] = colors.reshape(-1, 3).T / sigmas[:, None]
        check_reach("sxy must keep features", features[:2], "use a larger one")
        check_reach("srgb must keep features", features[2:], "use a larger one")
        self._add_kernel(features, compat, kernel, normalization)

    def _positions(self, sxy: Any) -> Float32Array:
        """Return (x / sx, y / sy) of every pixel, (2, N)."""
        height, width = self._grid
        sigma_x, sigma_y = as_sigmas("sxy", sxy, 2, "axis, x first")
        positions = np.empty((2, height, width), np.float32)
        with np.errstate(over="ignore", under="ignore"):  # found by the caller
            positions[0] = np.arange(width, dtype=np.float32) / sigma_x
            positions[1] = (np.arange(height, dtype=np.float32) / sigma_y)[:, None]
        return positions.reshape(2, -1)
