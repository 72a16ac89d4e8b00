"""A network's scores: read from a file, brought to the image's size, made probabilities.

A network scores a coarse grid, ``scores`` with shape (C, h, w): C labels, h x w grid points.
Logits are interpolated to the image *before* the softmax, as segmentation networks do it.
"""

from __future__ import annotations

import zipfile
from os import PathLike
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "Scores",
    "image_probabilities",
    "load_scores",
    "score_kind",
    "to_probabilities",
    "upsample",
]

Kind = Literal["auto", "probabilities", "logits"]
FloatArray = npt.NDArray[np.float32]

# How far from 1 a sum of probabilities may be: float16 rounds each of C values to 5e-4 relative,
# and 8-bit networks give steps of 1/256.
_SUM_TOLERANCE = 1e-2

# How far, in grid steps, an image may reach beyond the outermost grid points. Half a step is what
# pixel-centre alignment gives; more than one means that the scores belong to another image size.
_MAX_OVERHANG = 1.0


class Scores(NamedTuple):
    """Scores on a network's own grid, and where the image lies on that grid.

    Attributes
    ----------
    values : (C, h, w) ndarray of float32
        Logits or probabilities, labels first.
    scale, offset : float or None
        Image pixel (y, x) lies at grid position (scale*y + offset, scale*x + offset).
        None: the grid covers exactly the image (see :func:`upsample`).
    """

    values: FloatArray
    scale: float | None = None
    offset: float | None = None


def load_scores(path: str | PathLike[str]) -> Scores:
    """Read scores from a ``.npy`` or ``.npz`` file.

    Parameters
    ----------
    path : path-like
        ``.npy``: one array of shape (C, h, w). ``.npz``: the array under the key ``scores``, or
        the only array in the file; and optionally the numbers ``a`` and ``b``, which say that
        image pixel (y, x) lies at grid position (a*y + b, a*x + b); ``b`` is 0 if absent.
        Any floating-point type, float16 included.

    Returns
    -------
    Scores
        The values as float32, with ``a`` and ``b`` as ``scale`` and ``offset``.

    Raises
    ------
    OSError
        If the file cannot be opened.
    TypeError
        If the values are not floating-point numbers.
    ValueError
        If the file is not of this format, or its values have a wrong shape, NaN or infinity.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "scores.npz"
    ...     np.savez(path, scores=np.zeros((2, 3, 3), np.float16), a=0.25, b=0.0)
    ...     loaded = load_scores(path)
    >>> loaded.values.shape, loaded.values.dtype, loaded.scale, loaded.offset
    ((2, 3, 3), dtype('float32'), 0.25, 0.0)
    """
    try:
        with open(path, "rb") as file:
            content: Any = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return Scores(_checked_scores(content))
            arrays: dict[str, npt.NDArray[Any]] = {key: content[key] for key in content.files}
    except (EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"not a complete .npy or .npz file: {error}; write it again") from error
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise ValueError(
            "not a .npy or .npz file of plain numbers; "
            "write it with numpy.save or numpy.savez from a floating-point array"
        ) from error
    scale, offset = _placement(arrays.pop("a", None), arrays.pop("b", None))
    return Scores(_checked_scores(_scores_entry(arrays)), scale, offset)


def score_kind(scores: npt.ArrayLike) -> Literal["probabilities", "logits"]:
    """Tell probabilities from logits.

    Scores are probabilities if none is negative and they sum to 1 within 0.01 at *every* grid
    point, and logits otherwise. Ask on the network's own grid.

    Parameters
    ----------
    scores : (C, h, w) array of float
        What the network gave.

    Returns
    -------
    str
        ``"probabilities"`` or ``"logits"``.

    Examples
    --------
    >>> score_kind([[[0.25]], [[0.75]]]), score_kind([[[-1.5]], [[2.5]]])
    ('probabilities', 'logits')
    """
    values = _checked_scores(scores)
    if values.min() < 0:
        return "logits"
    sums = values.sum(axis=0, dtype=np.float64)
    return "probabilities" if bool((np.abs(sums - 1) <= _SUM_TOLERANCE).all()) else "logits"


def upsample(
    scores: npt.ArrayLike,
    shape: tuple[int, int],
    *,
    scale: float | None = None,
    offset: float | None = None,
) -> FloatArray:
    """Interpolate scores bilinearly to the size of an image.

    Without ``scale`` the grid covers exactly the image, corner to corner: the centre of pixel y
    lies at grid position ``(y + 0.5) * h / H - 0.5`` (``align_corners=False`` elsewhere). With it,
    pixel y lies at ``scale * y + offset``. Positions outside the grid take its border's value.

    Parameters
    ----------
    scores : (C, h, w) array of float
        Values on the grid.
    shape : (int, int)
        Height H and width W of the image.
    scale, offset : float, optional
        Where the image lies on the grid; ``offset`` is 0 if only ``scale`` is given.

    Returns
    -------
    (C, H, W) ndarray of float32
        A new array.

    Raises
    ------
    TypeError
        If ``scores`` are not floating-point numbers.
    ValueError
        If ``scores`` have a wrong shape, NaN or infinity; if ``shape`` is not two positive sizes;
        if the grid is larger than the image (without ``scale``), or the image reaches more than
        one grid step beyond the grid (with it).

    Notes
    -----
    Costs O(C*H*W) time and, beside the result, two temporary arrays of its size. One thread.

    Examples
    --------
    >>> upsample([[[0.0, 1.0]]], (1, 4))
    array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    >>> upsample([[[0.0, 1.0]]], (1, 3), scale=0.5)
    array([[[0. , 0.5, 1. ]]], dtype=float32)
    """
    values = _checked_scores(scores)
    sizes = _checked_shape(shape)
    if scale is None and offset is not None:
        raise ValueError(f"offset={offset} was given without scale; give both or neither")
    grid = values.shape[1:]
    if scale is None and (grid[0] > sizes[0] or grid[1] > sizes[1]):
        raise ValueError(
            f"scores cover a grid of {grid[0]} x {grid[1]} points, more than the image's "
            f"{sizes[0]} x {sizes[1]} pixels; if they were computed on an enlarged or padded "
            "image, say where its pixels lie with scale and offset (a and b in an .npz file)"
        )
    for axis, size in enumerate(sizes, start=1):
        positions = _grid_positions(size, values.shape[axis], scale, offset)
        values = _interpolate(values, positions, axis)
    return values


def to_probabilities(scores: npt.ArrayLike, kind: Kind = "auto") -> FloatArray:
    """Turn scores into probabilities that sum to 1 over the labels.

    Logits go through softmax, probabilities are divided by their sum. To bring scores to an
    image's size as well, upsample first: :func:`image_probabilities` does both in that order.

    Parameters
    ----------
    scores : (C, h, w) array of float
        Logits or probabilities.
    kind : {"auto", "probabilities", "logits"}
        What they are; ``"auto"`` asks :func:`score_kind`.

    Returns
    -------
    (C, h, w) ndarray of float32
        A new array.

    Raises
    ------
    TypeError
        If ``scores`` are not floating-point numbers.
    ValueError
        If ``scores`` have a wrong shape, NaN or infinity, ``kind`` is none of the three, or
        probabilities are negative or sum to 0.

    Examples
    --------
    >>> to_probabilities([[[0.0]], [[0.0]]])
    array([[[0.5]],
    <BLANKLINE>
           [[0.5]]], dtype=float32)
    """
    values = _checked_scores(scores)
    if _resolved_kind(values, kind) == "logits":
        exponentials = np.exp(values - values.max(axis=0))
        return np.asarray(exponentials / exponentials.sum(axis=0), dtype=np.float32)
    if values.min() < 0:
        raise ValueError(
            f"scores must not be negative as probabilities, the least is {values.min():.6g}; "
            "use kind='logits' if they are a network's raw output"
        )
    sums = values.sum(axis=0)
    if not sums.all():
        raise ValueError(
            f"scores must not all be 0 at a point as probabilities, they are at "
            f"{np.count_nonzero(sums == 0)} points; use kind='logits' or correct the points"
        )
    return np.asarray(values / sums, dtype=np.float32)


def image_probabilities(
    scores: Scores, shape: tuple[int, int], *, kind: Kind = "auto"
) -> FloatArray:
    """Give the probabilities of every pixel of an image, from a network's scores on its grid.

    Parameters
    ----------
    scores : Scores
        As :func:`load_scores` returns them.
    shape : (int, int)
        Height H and width W of the image.
    kind : {"auto", "probabilities", "logits"}
        What they are; "auto" asks :func:`score_kind` on the grid.

    Returns
    -------
    (C, H, W) ndarray of float32
        They sum to 1 over the labels.

    Raises
    ------
    TypeError, ValueError
        As the functions it runs: :func:`score_kind`, :func:`upsample`, :func:`to_probabilities`.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.array([[[0.0, 0.0]], [[-4.0, 4.0]]], np.float32)
    >>> image_probabilities(Scores(logits), (1, 4))[1].round(3)
    array([[0.018, 0.119, 0.881, 0.982]], dtype=float32)
    """
    resolved = _resolved_kind(scores.values, kind)
    values = upsample(scores.values, shape, scale=scores.scale, offset=scores.offset)
    return to_probabilities(values, resolved)


def _resolved_kind(scores: npt.ArrayLike, kind: Kind) -> Literal["probabilities", "logits"]:
    """Return ``kind``, or what :func:`score_kind` finds where it is "auto"."""
    if kind == "auto":
        return score_kind(scores)
    if kind not in ("probabilities", "logits"):
        raise ValueError(f"kind must be 'auto', 'probabilities' or 'logits', got {kind!r}")
    return kind


def _scores_entry(arrays: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if "scores" in arrays:
        return arrays["scores"]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise ValueError(
        "an .npz file must hold the array 'scores' or a single array, "
        f"this one holds {sorted(arrays)}; write it with numpy.savez(path, scores=scores)"
    )


def _placement(
    a: npt.NDArray[Any] | None, b: npt.NDArray[Any] | None
) -> tuple[float | None, float | None]:
    if a is None and b is None:
        return None, None
    if a is None:
        raise ValueError("the file holds b without a; add a, or leave both out")
    numbers = []
    for name, value in (("a", a), ("b", np.zeros(()) if b is None else b)):
        if value.size != 1 or value.dtype.kind not in "fiu":
            raise ValueError(
                f"{name} must be one number, got {value.dtype} of shape {value.shape}; "
                "pixel (y, x) lies at grid position (a*y + b, a*x + b)"
            )
        numbers.append(float(value.item()))
    return numbers[0], numbers[1]


def _checked_scores(scores: npt.ArrayLike) -> FloatArray:
    array = np.asarray(scores)
    if array.dtype.kind != "f":
        raise TypeError(
            f"scores must be floating-point numbers, got {array.dtype}; "
            "convert them (dequantised if the network is quantised) with astype('float32')"
        )
    if array.ndim != 3:
        hint = "take one image of the batch" if array.ndim == 4 else "put the labels first"
        raise ValueError(f"scores must have shape (C, h, w), got {array.shape}; {hint}")
    if array.size == 0:
        raise ValueError(
            f"scores must have a label and a grid point at least, got shape {array.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite: reported below
        values = array.astype(np.float32, copy=False)
    num_bad = values.size - np.count_nonzero(np.isfinite(values))
    if num_bad:
        raise ValueError(
            f"scores must be finite in float32, {num_bad} of {values.size} are NaN or infinite; "
            "correct them, for example with numpy.nan_to_num"
        )
    return values


def _checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    sizes = tuple(shape)
    if len(sizes) != 2 or any(size < 1 for size in sizes):
        raise ValueError(
            f"shape must be the image's (height, width), both at least 1, got {sizes}; "
            "pass image.shape[:2]"
        )
    return int(sizes[0]), int(sizes[1])


def _grid_positions(
    size: int, grid_size: int, scale: float | None, offset: float | None
) -> npt.NDArray[np.float64]:
    """Grid position of every pixel along one axis, within [0, grid_size - 1]."""
    pixels = np.arange(size, dtype=np.float64)
    if scale is None:
        positions = (pixels + 0.5) * (grid_size / size) - 0.5
    else:
        start = 0.0 if offset is None else offset
        if not (np.isfinite(scale) and scale > 0 and np.isfinite(start)):
            raise ValueError(
                f"scale must be positive and offset finite, got {scale} and {start}; "
                "a grid point every 16 pixels is scale=1/16"
            )
        positions = scale * pixels + start
        if positions[0] < -_MAX_OVERHANG or positions[-1] > grid_size - 1 + _MAX_OVERHANG:
            raise ValueError(
                f"scale={scale:.6g} and offset={start:.6g} put {size} pixels at grid positions "
                f"{positions[0]:.6g} to {positions[-1]:.6g}, but the scores have positions 0 to "
                f"{grid_size - 1}; the scores belong to an image of another size, or a and b "
                "are wrong"
            )
    return np.clip(positions, 0, grid_size - 1)


def _interpolate(values: FloatArray, positions: npt.NDArray[np.float64], axis: int) -> FloatArray:
    low = np.floor(positions).astype(np.intp)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    fraction_shape = [1, 1, 1]
    fraction_shape[axis] = positions.size
    fraction = (positions - low).astype(np.float32).reshape(fraction_shape)
    below = np.take(values, low, axis=axis)
    step = np.take(values, high, axis=axis)
    step -= below  # interpolating by the difference keeps equal neighbours exactly
    step *= fraction
    below += step
    return below
