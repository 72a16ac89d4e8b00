"""Arrays of every layout and dtype: same results, inputs unchanged, out= filled in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import densefield as df

Array = NDArray[Any]
CRF = df.DenseCRF(
    [df.Gaussian(sigma_space=2), df.Bilateral(sigma_space=5, sigma_color=30)], iterations=3
)


def make_problem(dtype: type = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    unary = rng.uniform(0, 3, size=(4, 9, 11)).astype(dtype)
    return unary, rng.integers(0, 256, size=(9, 11, 3)).astype(dtype)


# Layouts


def every_other(array: Array) -> Array:
    wide = np.full([2 * n for n in array.shape], np.nan, array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array: Array) -> Array:
    flip = (slice(None, None, -1),) * array.ndim
    return array[flip].copy()[flip]


def read_only(array: Array) -> Array:
    result = array.copy()
    result.flags.writeable = False
    return result


def swapped_bytes(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder())


def unaligned(array: Array) -> Array:
    result = np.frombuffer(bytearray(array.nbytes + 1), array.dtype, array.size, 1)
    result = result.reshape(array.shape)
    result[...] = array
    return result


def field_of_records(array: Array) -> Array:
    records = np.zeros(array.shape, [("pad", "u1"), ("value", array.dtype)])
    records["value"] = array
    return records["value"]


LAYOUTS: list[Callable[[Array], Array]] = [
    every_other,
    backwards,
    read_only,
    swapped_bytes,
    unaligned,
    field_of_records,
    np.asfortranarray,
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.usefixtures("backend")
def test_layout_of_unary_and_image_does_not_matter(layout: Callable[[Array], Array]) -> None:
    unary, image = make_problem()
    expected = CRF.infer(unary, image)
    given = layout(unary), layout(image)
    np.testing.assert_array_equal(CRF.infer(*given), expected)
    np.testing.assert_array_equal(given[0], unary)
    np.testing.assert_array_equal(given[1], image)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layout_of_lattice_arrays_does_not_matter(layout: Callable[[Array], Array]) -> None:
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(50, 3)), rng.random((50, 2))
    expected = df.PermutohedralLattice(features).filter(values)
    result = df.PermutohedralLattice(layout(features)).filter(layout(values))
    np.testing.assert_array_equal(result, expected)


def test_a_single_record_is_read() -> None:
    # numpy calls an axis of one entry aligned whatever its stride.
    records = np.zeros(1, [("value", "f4"), ("pad", "u1")])
    assert df.PermutohedralLattice(records["value"][:, None]).num_points == 1


def test_memory_mapped_files_are_read(tmp_path: Path) -> None:
    unary, image = make_problem()
    np.save(tmp_path / "unary.npy", unary)
    mapped = np.load(tmp_path / "unary.npy", mmap_mode="r")
    np.testing.assert_array_equal(CRF.infer(mapped, image), CRF.infer(unary, image))


def test_broadcast_images_are_read() -> None:
    unary, image = make_problem()
    grey = np.broadcast_to(image[..., :1], image.shape)
    np.testing.assert_array_equal(CRF.infer(unary, grey), CRF.infer(unary, grey.copy()))


def test_nested_lists_are_read() -> None:
    unary, image = make_problem(np.float64)
    expected = CRF.infer(unary, image)
    np.testing.assert_array_equal(CRF.infer(unary.tolist(), image.tolist()), expected)


# Axes


@pytest.mark.parametrize("label_axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.usefixtures("backend")
def test_label_axis_only_moves_the_labels(label_axis: int) -> None:
    unary, image = make_problem()
    q = CRF.infer(np.moveaxis(unary, 0, label_axis).copy(), image, label_axis=label_axis)
    np.testing.assert_array_equal(np.moveaxis(q, label_axis, 0), CRF.infer(unary, image))


@pytest.mark.parametrize("channel_axis", [0, 1, 2, -1, -2, -3])
def test_channel_axis_only_moves_the_channels(channel_axis: int) -> None:
    unary, image = make_problem()
    moved = np.moveaxis(image, -1, channel_axis).copy()
    q = CRF.infer(unary, moved, channel_axis=channel_axis)
    np.testing.assert_array_equal(q, CRF.infer(unary, image))


@pytest.mark.parametrize("channel_axis", [-1, 0, None])
def test_an_image_with_the_dimensions_of_the_grid_has_no_channels(channel_axis: Any) -> None:
    unary, image = make_problem()
    q = CRF.infer(unary, image[..., 0], channel_axis=channel_axis)
    np.testing.assert_array_equal(q, CRF.infer(unary, image[..., :1]))


def test_an_image_without_channels_can_be_prepared() -> None:
    unary, image = make_problem()
    prepared = CRF.prepare(image[..., 0], channel_axis=None)
    np.testing.assert_array_equal(prepared.infer(unary), CRF.infer(unary, image[..., 0]))


# Dtypes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("f4", "f4"),
        ("f8", "f8"),
        ("f2", "f4"),
        ("g", "f8"),
        ("i8", "f4"),
        ("u1", "f4"),
        ("?", "f4"),
    ],
)
def test_marginals_have_the_precision_of_the_unary(given: str, expected: str) -> None:
    unary, image = make_problem()
    assert CRF.infer(unary.astype(given), image).dtype == expected


@pytest.mark.parametrize("dtype", ["u1", "i4", "u2", "f2", "f8", ">f4"])
def test_dtype_of_the_image_does_not_matter(dtype: str) -> None:
    unary, image = make_problem()
    np.testing.assert_array_equal(CRF.infer(unary, image.astype(dtype)), CRF.infer(unary, image))


@pytest.mark.parametrize(
    ("given", "expected"), [("f4", "f4"), ("f8", "f8"), ("f2", "f4"), ("i4", "f4")]
)
def test_lattice_has_the_precision_of_its_features(given: str, expected: str) -> None:
    lattice = df.PermutohedralLattice(np.arange(6).reshape(3, 2).astype(given))
    assert (lattice.dtype, lattice.filter(np.ones(3)).dtype) == (expected, expected)


# Results in the caller's array


@pytest.mark.parametrize("label_axis", [0, 1, 2])
@pytest.mark.parametrize("layout", [np.copy, every_other, backwards, np.asfortranarray])
@pytest.mark.usefixtures("backend")
def test_out_of_any_layout_is_filled(layout: Callable[[Array], Array], label_axis: int) -> None:
    unary, image = make_problem()
    moved = np.moveaxis(unary, 0, label_axis)
    expected = CRF.infer(moved, image, label_axis=label_axis)
    out = layout(np.full(moved.shape, np.nan, np.float32))
    assert CRF.infer(moved, image, label_axis=label_axis, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_nothing_beside_a_strided_out_is_written() -> None:
    unary, image = make_problem()
    wide = np.full((4, 9, 22), 7, np.float32)
    CRF.infer(unary, image, out=wide[..., ::2])
    np.testing.assert_array_equal(wide[..., 1::2], 7)


def test_out_may_be_the_unary() -> None:
    unary, image = make_problem()
    expected = CRF.infer(unary, image)
    np.testing.assert_array_equal(CRF.infer(unary, image, out=unary), expected)


# Empty grids


@pytest.mark.parametrize("grid", [(0,), (0, 5), (5, 0), (0, 0), (2, 0, 3)])
def test_empty_grids_give_empty_marginals(grid: tuple[int, ...]) -> None:
    q = CRF.infer(np.zeros((4, *grid), np.float32), np.zeros((*grid, 3), np.uint8))
    assert (q.shape, q.dtype) == ((4, *grid), np.float32)


def test_empty_grids_can_be_stepped_and_measured() -> None:
    unary, image = np.zeros((4, 0, 5), np.float32), np.zeros((0, 5, 3), np.uint8)
    inference = CRF.start(unary, image)
    assert inference.step() == 0
    assert inference.q.shape == unary.shape
    assert CRF.energy(np.zeros((0, 5), int), unary, image) == 0
    assert CRF.kl_divergence(unary, unary, image) == 0
