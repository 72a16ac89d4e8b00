"""An image as a CRF sees it: a table of channels, and the grid."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from densefield._arrays import (
    FloatArray,
    Shape,
    as_floats_in_place,
    as_precision,
    axis_index,
    channels_first,
    copy_back,
    with_last_axis,
)


class ImageSource(NamedTuple):
    """Where an image's channels came from, to bring their gradient back there."""

    shape: Shape
    channel_axis: int | None  # None: the image has no channels

    def table(self, image: FloatArray) -> FloatArray:
        """Return an image of that shape as (channels, nodes)."""
        if self.channel_axis is None:
            return channels_first(with_last_axis(image), -1)
        return channels_first(image, self.channel_axis)

    def copy_back(self, table: FloatArray, image: FloatArray) -> None:
        """Fill the image from `table`, if that had to be a copy."""
        if self.channel_axis is not None:
            copy_back(table, image, self.channel_axis)


def image_channels(
    image: npt.ArrayLike,
    grid: Shape | None,
    channel_axis: int | None,
    dtype: np.dtype[Any],
    *,
    check_finite: bool,
) -> tuple[FloatArray, Shape, ImageSource]:
    """Return the image as (channels, nodes), its grid, checked against `grid`, and its source."""
    values = as_floats_in_place("image", image, check_finite=check_finite)
    if values.ndim == 0:
        raise ValueError("image must have a grid of 1 dimension or more, got a single number")
    has_channels = channel_axis is not None and (grid is None or values.ndim > len(grid))
    if has_channels:
        axis = axis_index("channel_axis", channel_axis, values.ndim)
        own = values.shape[:axis] + values.shape[axis + 1 :]
        source = ImageSource(values.shape, axis)
    else:
        source = ImageSource(values.shape, None)
        values, axis, own = with_last_axis(values), values.ndim, values.shape
    if grid is not None and own != grid:
        raise ValueError(
            f"image has the grid {own}, but {grid} is wanted (the unary's shape without its "
            f"labels); a channels-first image needs channel_axis=0, "
            f"labels-last unaries need label_axis=-1"
        )
    if not own:
        raise ValueError(
            f"image must have a grid of 1 dimension or more, got {values.shape}; "
            f"if it has no channels, set channel_axis=None"
        )
    if values.shape[axis] == 0:
        raise ValueError(f"image must have at least one channel, got shape {values.shape}")
    return channels_first(as_precision("image", values, dtype), axis), own, source
