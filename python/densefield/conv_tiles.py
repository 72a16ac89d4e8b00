"""Exact inference in tiles: what a ConvCRF's result depends on lies within a known reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from densefield._arrays import (
    FloatArray,
    Shape,
    as_count,
    as_float_array,
    as_plain_array,
    axis_index,
    check_out,
)
from densefield.conv_inference import PreparedConvCRF, cell_phase
from densefield.kernels import Features, Kernel
from densefield.stepping import Callback
from densefield.window import window_radius

if TYPE_CHECKING:
    from densefield.conv_crf import ConvCRF


class Span(NamedTuple):
    """One tile along one axis: the nodes whose result is kept, and those that it needs."""

    core: slice
    halo: slice
    phase: int  # nodes of the first cell that lie outside the grid

    @property
    def core_in_halo(self) -> slice:
        """Where the kept nodes are among the needed ones."""
        return slice(self.core.start - self.halo.start, self.core.stop - self.halo.start)


def reach_of(crf: ConvCRF) -> int:
    """Return how many cells away a result may depend on, maths §5.

    Every update reaches the window's radius further, and one cell for the interpolation between
    cells; the norms of normalised kernels are sums over one more window.
    """
    step = window_radius(crf.filter_size, crf.shape) + (crf.downsampling > 1)
    modes = {kernel.normalization or crf.normalization for kernel in crf.kernels}
    return step * (crf.iterations + bool(modes - {"none"}))


def spans_of(length: int, tile: int, cell_size: int, reach: int) -> list[Span]:
    """Cut one axis into tiles of whole cells."""
    phase = cell_phase((length,), cell_size)[0]
    num_cells = -(-(length + phase) // cell_size)
    step = max(1, tile // cell_size)

    def node(cell: int) -> int:
        return min(length, max(0, cell * cell_size - phase))

    spans = []
    for first in range(0, num_cells, step):
        last = min(num_cells, first + step)
        low, high = max(0, first - reach), min(num_cells, last + reach)
        spans.append(
            Span(
                slice(node(first), node(last)),
                slice(node(low), node(high)),
                phase if low == 0 else 0,
            )
        )
    return spans


def infer_in_tiles(
    crf: ConvCRF,
    unary: npt.ArrayLike,
    image: npt.ArrayLike | None,
    *,
    tile: int | Sequence[int],
    label_axis: int,
    channel_axis: int | None,
    out: FloatArray | None,
    callback: Callback | None,
    check_finite: bool,
) -> FloatArray:
    """Run `ConvCRF.infer` tile by tile, with the bits of the whole image."""
    if callback is not None or crf.tolerance > 0:
        raise ValueError(
            "tile needs a fixed number of iterations: it cannot be used with a callback or a "
            "tolerance above 0; leave out one of them"
        )
    energies = as_plain_array("unary", unary)  # tiles are cut on the host
    _check_real("unary", energies)
    grid = PreparedConvCRF.grid_of(energies, label_axis)
    axis = axis_index("label_axis", label_axis, energies.ndim)
    pixels = None if image is None else as_plain_array("image", image)
    channels = _image_axis(pixels, grid, channel_axis)
    dtype = np.dtype(
        np.float64 if energies.dtype.kind == "f" and energies.dtype.itemsize >= 8 else np.float32
    )
    if out is not None:
        check_out(out, energies.shape, dtype)
    result = np.empty(energies.shape, dtype) if out is None else out
    for spans in _tiles(grid, tile, crf):
        halo = tuple(span.halo for span in spans)
        part = as_float_array("unary", energies[_insert(halo, axis)], check_finite=check_finite)
        seen = None
        if pixels is not None:
            seen = as_float_array(
                "image",
                pixels[halo if channels is None else _insert(halo, channels)],
                check_finite=check_finite,
            )
        prepared = PreparedConvCRF(
            _crop_features(crf, grid, halo),
            seen,
            shape=PreparedConvCRF.grid_of(part, axis),
            channel_axis=channels,
            dtype=dtype,
            check_finite=False,
            phase=[span.phase for span in spans],
        )
        q = prepared.infer(part, label_axis=axis, check_finite=False)
        inner = _insert(tuple(span.core_in_halo for span in spans), axis)
        result[_insert(tuple(span.core for span in spans), axis)] = q[inner]
    return result


def _check_real(name: str, array: npt.NDArray[Any]) -> None:
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers, got dtype {array.dtype}; convert it to a float type"
        )


def _tiles(grid: Shape, tile: int | Sequence[int], crf: ConvCRF) -> Iterator[tuple[Span, ...]]:
    if isinstance(tile, Sequence):
        if len(tile) != len(grid):
            raise ValueError(
                f"tile has {len(tile)} values, but the grid has {len(grid)} axes; give one number "
                f"for all, or one for each"
            )
        sizes = [as_count(f"tile[{a}]", n, minimum=1) for a, n in enumerate(tile)]
    else:
        sizes = [as_count("tile", tile, minimum=1)] * len(grid)
    reach = reach_of(crf)
    axes = [spans_of(n, t, crf.downsampling, reach) for n, t in zip(grid, sizes, strict=True)]
    return product(*axes)


def _insert(slices: tuple[slice, ...], axis: int) -> tuple[slice, ...]:
    """Slices of a grid as those of an array with one more axis, which is taken whole."""
    return (*slices[:axis], slice(None), *slices[axis:])


def _image_axis(
    pixels: npt.NDArray[Any] | None, grid: Shape, channel_axis: int | None
) -> int | None:
    """Return the axis of the image's channels, None without channels; check its grid."""
    if pixels is None:
        return None
    _check_real("image", pixels)
    axis = None
    own = pixels.shape
    if channel_axis is not None and pixels.ndim > len(grid):
        axis = axis_index("channel_axis", channel_axis, pixels.ndim)
        own = own[:axis] + own[axis + 1 :]
    if own != grid:
        raise ValueError(
            f"image has the grid {own}, but {grid} is wanted (the unary's shape without its "
            f"labels); a channels-first image needs channel_axis=0, labels-last unaries need "
            f"label_axis=-1"
        )
    return axis


def _crop_features(crf: ConvCRF, grid: Shape, halo: tuple[slice, ...]) -> ConvCRF:
    """Return the model with its own feature arrays cut to a tile."""
    if not any(isinstance(kernel, Features) for kernel in crf.kernels):
        return crf
    kernels: list[Kernel] = []
    for kernel in crf.kernels:
        if not isinstance(kernel, Features):
            kernels.append(kernel)
            continue
        array = kernel.array
        if array.shape[:-1] not in (grid, (int(np.prod(grid)),)):
            raise ValueError(
                f"features must have shape (N, d) or (*grid, d) for the grid {grid}, "
                f"got {array.shape}"
            )
        kernels.append(
            Features(
                array.reshape(*grid, array.shape[-1])[halo],
                weight=kernel.weight,
                compatibility=kernel.compatibility,
                normalization=kernel.normalization,
                check_finite=False,
            )
        )
    return crf.with_kernels(kernels)
