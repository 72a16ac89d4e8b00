"""Pictures of labels: palette, index PNG, overlay on the photograph, outlines, a sheet of panels.

Needs Pillow, which the extra ``cli`` brings. Images are (H, W, 3) arrays of uint8, labels (H, W)
arrays of integers from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "MAX_PNG_LABELS",
    "LegendEntry",
    "Panel",
    "draw_outlines",
    "index_picture",
    "label_colors",
    "overlay",
    "panel_sheet",
    "read_labels",
    "read_photograph",
]

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]

MAX_PNG_LABELS = 256  # an index PNG stores one byte per pixel

# Modes of Pillow with at most 8 bits per channel: converting one of them to RGB loses no depth.
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa"})
_EIGHT_BIT_COLOR_SPACES = frozenset({"CMYK", "YCbCr", "HSV", "LAB"})

_MARGIN = 24  # pixels around and between the panels of a sheet
_CAPTION_SIZE = 20  # pixels
_PAPER = (255, 255, 255)
_INK = (32, 32, 32)


class Panel(NamedTuple):
    """One picture of a sheet, and the words above it."""

    caption: str
    pixels: Pixels


class LegendEntry(NamedTuple):
    """A name and the colour that stands for it."""

    name: str
    color: tuple[int, int, int]


def read_photograph(path: Path) -> Pixels:
    """Read an image file as 8-bit RGB.

    Grey images get three equal channels, transparency is dropped, and pixels stay as stored: a
    camera's note on how to turn the picture (EXIF) is not followed.

    Parameters
    ----------
    path : Path
        Any format that Pillow reads.

    Returns
    -------
    (H, W, 3) ndarray of uint8

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not an image, is damaged, or has more than 8 bits per channel.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in _EIGHT_BIT_MODES | _EIGHT_BIT_COLOR_SPACES:
                raise ValueError(
                    f"an image must have 8 bits per channel, this one has mode {picture.mode!r}; "
                    "convert it, or call densefield.refine from Python with any range of values"
                )
            return np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image cannot be read: {error}") from error


def read_labels(path: Path) -> Labels:
    """Read a label map: an index or grey PNG, or a ``.npy`` file of integers.

    Parameters
    ----------
    path : Path

    Returns
    -------
    (H, W) ndarray of int

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no label map.
    """
    if path.suffix.lower() == ".npy":
        with open(path, "rb") as file:
            labels: Labels = np.load(file, allow_pickle=False)
    else:
        try:
            with Image.open(path) as picture:
                labels = np.asarray(picture)
        except (SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"the label map cannot be read: {error}") from error
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise ValueError(
            f"a label map must hold one integer per pixel, got {labels.dtype} of shape "
            f"{labels.shape}; write an index PNG (mode P or L), not its colours"
        )
    return labels


def label_colors(num_labels: int) -> Pixels:
    """Give the colours of the PASCAL VOC palette.

    Three bits of a label at a time, from the lowest, go to red, green and blue, from the highest
    bit of the colour down: label 0 is black, 1 is (128, 0, 0), 2 is (0, 128, 0).

    Parameters
    ----------
    num_labels : int
        How many colours; they are distinct up to 2**24.

    Returns
    -------
    (num_labels, 3) ndarray of uint8

    Examples
    --------
    >>> label_colors(4).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    bits = np.arange(num_labels, dtype=np.int64)
    colors = np.zeros((num_labels, 3), np.int64)
    for position in range(7, -1, -1):
        for channel in range(3):
            colors[:, channel] |= (bits >> channel & 1) << position
        bits >>= 3
    return colors.astype(np.uint8)


def index_picture(labels: Labels, num_labels: int) -> Image.Image:
    """Make a picture whose pixel values are the labels, shown in the colours of the palette.

    Parameters
    ----------
    labels : (H, W) array of int
        From 0 to ``num_labels - 1``.
    num_labels : int
        At most 256.

    Returns
    -------
    PIL.Image.Image
        Mode "P". ``np.asarray`` of it, or of the PNG read again, gives the labels.

    Raises
    ------
    ValueError
        If there are more than 256 labels.
    """
    if num_labels > MAX_PNG_LABELS:
        raise ValueError(
            f"num_labels must be at most {MAX_PNG_LABELS} for an index PNG, got {num_labels}; "
            "write the marginals instead (--marginals)"
        )
    picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
    picture.putpalette(label_colors(MAX_PNG_LABELS).tobytes())  # turns mode L into mode P
    return picture


def overlay(
    image: Pixels, labels: Labels, *, colors: Pixels, dim: float = 0.45, opacity: float = 0.6
) -> Pixels:
    """Lay the labels in colours over a dimmed photograph; label 0 leaves it dimmed.

    Parameters
    ----------
    image : (H, W, 3) array of uint8
        The photograph.
    labels : (H, W) array of int
        From 0 to C - 1.
    colors : (C, 3) array of uint8
        One colour for each label, for example from :func:`label_colors`.
    dim : float
        Brightness of the photograph under label 0, from 0 to 1.
    opacity : float
        How much of a pixel is its label's colour, from 0 to 1.

    Returns
    -------
    (H, W, 3) ndarray of uint8
    """
    colored = (1 - opacity) * image + opacity * colors[labels]
    mixed = np.where((labels == 0)[..., np.newaxis], dim * image, colored)
    return np.rint(mixed).astype(np.uint8)


def draw_outlines(
    image: Pixels, labels: Labels, color: tuple[int, int, int], *, width: int = 2
) -> Pixels:
    """Draw the borders between labels on a copy of the photograph.

    Parameters
    ----------
    image : (H, W, 3) array of uint8
        The photograph.
    labels : (H, W) array of int
        Any integers.
    color : (int, int, int)
        Red, green and blue of the line.
    width : int
        Of the line, in pixels: width // 2 of them on the side right of or below a border.

    Returns
    -------
    (H, W, 3) ndarray of uint8
    """
    border = np.zeros(labels.shape, dtype=bool)
    before, after = (width + 1) // 2, width // 2
    for axis in (0, 1):
        view = np.moveaxis(border, axis, 0)
        edges = np.diff(labels, axis=axis) != 0
        changes = np.moveaxis(edges, axis, 0)
        size = len(view)
        for step in range(1 - before, after + 1):
            low, high = max(0, -step), min(size - 1, size - step)
            if low < high:
                view[low + step : high + step] |= changes[low:high]
    drawn = image.copy()
    drawn[border] = color
    return drawn


def panel_sheet(
    panels: Sequence[Panel], legend: Sequence[LegendEntry], *, columns: int = 2
) -> Image.Image:
    """Set panels of one size in rows, captions above, and a legend below.

    Parameters
    ----------
    panels : sequence of Panel
        From left to right, then down.
    legend : sequence of LegendEntry
        In one line, in the order given; more lines where one is too short.
    columns : int
        Panels in a row.

    Returns
    -------
    PIL.Image.Image
        Mode "RGB", on white.
    """
    font = ImageFont.load_default(size=_CAPTION_SIZE)
    line = _CAPTION_SIZE * 2
    height, width = panels[0].pixels.shape[:2]
    num_rows = -(-len(panels) // columns)
    sheet_width = columns * (width + _MARGIN) + _MARGIN
    positions, legend_height = _legend_layout(legend, font, sheet_width - 2 * _MARGIN, line)
    legend_top = _MARGIN // 2 + num_rows * (line + height + _MARGIN // 2)
    sheet = Image.new("RGB", (sheet_width, legend_top + legend_height + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, panel in enumerate(panels):
        left = _MARGIN + index % columns * (width + _MARGIN)
        top = _MARGIN // 2 + index // columns * (line + height + _MARGIN // 2)
        draw.text((left, top + line // 2), panel.caption, _INK, font, anchor="lm")
        sheet.paste(Image.fromarray(panel.pixels), (left, top + line))
    for entry, (x, y) in zip(legend, positions, strict=True):
        left, middle = _MARGIN + x, legend_top + _MARGIN // 2 + y + line // 2
        box = (left, middle - _CAPTION_SIZE // 2, left + _CAPTION_SIZE, middle + _CAPTION_SIZE // 2)
        draw.rectangle(box, fill=entry.color, outline=_INK)
        draw.text((left + _CAPTION_SIZE * 3 // 2, middle), entry.name, _INK, font, anchor="lm")
    return sheet


def _legend_layout(
    legend: Sequence[LegendEntry], font: Any, width: int, line: int
) -> tuple[list[tuple[int, int]], int]:
    """Place the entries from left to right in lines of ``width`` pixels."""
    positions: list[tuple[int, int]] = []
    x, y = 0, 0
    for entry in legend:
        entry_width = _CAPTION_SIZE * 3 // 2 + round(font.getlength(entry.name))
        if x > 0 and x + entry_width > width:
            x, y = 0, y + line
        positions.append((x, y))
        x += entry_width + _CAPTION_SIZE * 2
    return positions, (y + line if legend else 0)
