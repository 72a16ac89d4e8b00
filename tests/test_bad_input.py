"""Wrong arguments: every error names the argument, what came, what is wanted, a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import densefield as df
from densefield.kernels import Kernel

UNARY = np.zeros((2, 4, 5))
IMAGE = np.zeros((4, 5, 3))
SPACE = df.Gaussian(sigma_space=1)
COLOR = df.Bilateral(sigma_space=1, sigma_color=1)
ANY: Any = None  # arguments of wrong types pass the type checker through it


def nan_at_one(shape: tuple[int, ...], value: float = np.nan) -> Any:
    array = np.zeros(shape)
    array.flat[1] = value
    return array


def infer(unary: Any = UNARY, image: Any = IMAGE, model: Any = None, **options: Any) -> Any:
    return (model or df.DenseCRF([COLOR])).infer(unary, image, **options)


def lattice(features: Any = None, **options: Any) -> Any:
    return df.PermutohedralLattice(np.zeros((3, 2)) if features is None else features, **options)


Case = tuple[Callable[[], Any], type[Exception], str]

ARRAYS: list[Case] = [
    (lambda: infer(None), TypeError, "unary must hold real numbers, got dtype object of None"),
    (lambda: infer("energies"), TypeError, "unary must hold real numbers, got dtype <U8 of str"),
    (lambda: infer(UNARY * 1j), TypeError, "unary.*real numbers, got dtype complex128.*asarray"),
    (lambda: infer(UNARY.astype(object)), TypeError, "unary.*got dtype object of ndarray.*asarray"),
    (lambda: infer(UNARY.astype("M8[s]")), TypeError, "unary must hold real numbers.*datetime"),
    (lambda: infer([[1.0], [1.0, 2.0]]), ValueError, "unary.*of one length.*got list.*pad or crop"),
    (lambda: infer(np.ma.masked_array(UNARY)), TypeError, r"unary.*plain.*got a masked.*filled\("),
    (lambda: infer(image=np.ma.masked_array(IMAGE)), TypeError, "image.*got a masked array"),
    (lambda: infer(image="photo.png"), TypeError, "image must hold real numbers, got dtype <U9"),
    (lambda: infer(nan_at_one((2, 4, 5))), ValueError, "unary.*finite, got 1 NaN.*check_finite"),
    (lambda: infer(nan_at_one((2, 4, 5), np.inf)), ValueError, "unary.*finite, got 1 NaN or inf"),
    (
        lambda: infer(image=nan_at_one((4, 5, 3))),
        ValueError,
        "image.*finite, got 1 NaN.*nan_to_num",
    ),
    (
        lambda: infer(image=nan_at_one((4, 5, 3)), check_finite=False),
        ValueError,
        "must be finite.*NaN or infinity.*nan_to_num",
    ),
    (lambda: df.Features(nan_at_one((3, 2))), ValueError, "features must be finite, got 1 NaN"),
    (lambda: lattice(nan_at_one((3, 2))), ValueError, "features must be finite, got 1 NaN"),
    (lambda: lattice(nan_at_one((3, 2)), check_finite=False), ValueError, "features.*finite.*NaN"),
    (
        lambda: df.DenseCRF([SPACE]).prepare(shape=(2,)).infer([[1e300, 1.0], [0.0, 0.0]]),
        ValueError,
        "unary must fit float32, got 1 values beyond.*float64",
    ),
    (
        lambda: infer(UNARY.astype("f4"), np.full((4, 5, 3), 1e39)),
        ValueError,
        "image must fit float32, got 60 values.*float64",
    ),
]

SHAPES: list[Case] = [
    (lambda: infer(np.float64(1)), ValueError, r"unary must have shape \(C, \*grid\).*got \(\)"),
    (lambda: infer(np.zeros(5)), ValueError, r"unary.*got \(5,\).*unary_from_labels"),
    (lambda: infer(np.zeros((0, 4, 5))), ValueError, r"unary.*at least one label.*\(0, 4, 5\)"),
    (
        lambda: infer(np.zeros((4, 5, 2))),
        ValueError,
        r"image.*grid \(4, 5\), but \(5, 2\).*label_a",
    ),
    (lambda: infer(image=np.zeros((3, 4, 5))), ValueError, r"image.*\(3, 4\), but.*channel_axis=0"),
    (lambda: infer(image=np.zeros((1, 4, 5, 3))), ValueError, r"image has the grid \(1, 4, 5\)"),
    (lambda: infer(image=np.zeros((4, 6, 3))), ValueError, r"image has the grid \(4, 6\), but"),
    (lambda: infer(image=np.zeros((4, 5, 0))), ValueError, r"image.*one channel.*\(4, 5, 0\)"),
    (lambda: infer(image=3.0), ValueError, "image must have a grid.*got a single number"),
    (lambda: infer(image=None), ValueError, "image must be given, because a Bilateral"),
    (lambda: df.DenseCRF([COLOR]).prepare(), ValueError, "image or shape must be given"),
    (
        lambda: df.DenseCRF([COLOR]).prepare(np.zeros(5)),
        ValueError,
        r"image must have a grid.*got \(5,\).*channel_axis=None",
    ),
    (
        lambda: df.DenseCRF([COLOR]).prepare(np.zeros((40, 50))),
        ValueError,
        "image must have up to 31 channels.*got 50.*channel_axis=None",
    ),
    (
        lambda: df.DenseCRF([COLOR]).prepare(np.zeros((4, 5))).infer(UNARY),
        ValueError,
        r"unary must have shape \(C, 4\).*got \(2, 4, 5\).*channel_axis=None",
    ),
    (
        lambda: df.DenseCRF([df.Features(np.zeros((3, 2)))]).infer(UNARY),
        ValueError,
        r"features must have shape.*grid \(4, 5\) of 20 nodes, got \(3, 2\)",
    ),
    (lambda: df.Features(np.zeros(5)), ValueError, r"features.*got \(5,\).*array\[:, None\]"),
    (lambda: lattice(np.zeros(5)), ValueError, r"features.*got \(5,\).*array\[:, None\]"),
    (lambda: lattice(np.zeros((5, 0))), ValueError, r"features.*d of 1 or more, got \(5, 0\)"),
    (lambda: lattice(np.zeros((0, 3))), ValueError, "features must hold at least one point"),
    (lambda: lattice(np.zeros((3, 33))), ValueError, "features.*1 to 32 dimensions, got 33"),
    (
        lambda: lattice().filter(np.zeros((2, 3))),
        ValueError,
        r"values.*\(3, C\).*got \(2, 3\).*last",
    ),
    (lambda: lattice().filter(np.zeros((3, 1, 1))), ValueError, r"values.*got \(3, 1, 1\)"),
    (lambda: lattice().filter(1.0), ValueError, r"values must have shape.*got \(\)"),
    (lambda: lattice().slice(np.zeros(9)), ValueError, r"vertices.*num_vertices = 3, got \(9,\)"),
    (lambda: lattice().blur(np.zeros(9)), ValueError, r"vertices.*num_vertices = 3, got \(9,\)"),
    (
        lambda: df.DenseCRF([SPACE]).start(UNARY).__setattr__("q", np.zeros((2, 5, 4))),
        ValueError,
        r"q must have the shape of the unary, \(2, 4, 5\), got \(2, 5, 4\)",
    ),
    (
        lambda: df.DenseCRF([SPACE]).kl_divergence(np.zeros((2, 20)), UNARY),
        ValueError,
        r"q must have the shape of the unary, \(2, 4, 5\), got \(2, 20\)",
    ),
    (
        lambda: df.DenseCRF([SPACE]).energy(np.zeros((5, 4), int), UNARY),
        ValueError,
        r"labels must have the grid's shape \(4, 5\), got \(5, 4\)",
    ),
    (
        lambda: df.DenseCRF([SPACE]).energy(np.full((4, 5), 2), UNARY),
        ValueError,
        r"labels must lie in 0 \.\. 1, got 2 \.\. 2",
    ),
    (
        lambda: df.DenseCRF([SPACE]).energy(np.zeros((4, 5)), UNARY),
        TypeError,
        "labels must be integers, got dtype float64.*argmax",
    ),
    (
        lambda: df.DenseCRF([SPACE]).energy(np.ma.zeros((4, 5), int), UNARY),
        TypeError,
        "labels must be a plain array, got a masked array",
    ),
]

SIGMAS: list[Case] = [
    (lambda: df.Gaussian(sigma_space=0), ValueError, "sigma_space.*finite number above 0, got 0"),
    (lambda: df.Gaussian(sigma_space=-1.5), ValueError, "sigma_space.*above 0, got -1.5"),
    (lambda: df.Gaussian(sigma_space=np.nan), ValueError, "sigma_space.*above 0, got nan"),
    (lambda: df.Gaussian(sigma_space=np.inf), ValueError, "sigma_space.*above 0, got inf"),
    (lambda: df.Gaussian(sigma_space=10**400), ValueError, "sigma_space.*finite.*got inf"),
    (lambda: df.Gaussian(sigma_space=True), TypeError, "sigma_space.*real number, got bool True"),
    (lambda: df.Gaussian(sigma_space="3"), TypeError, "sigma_space.*number.*got a string"),
    (
        lambda: df.Gaussian(sigma_space=ANY),
        TypeError,
        "sigma_space must be a real number, got None",
    ),
    (
        lambda: df.Gaussian(sigma_space=np.complex64(1 + 2j)),
        TypeError,
        "sigma_space must be a real number, got complex64",
    ),
    (lambda: df.Gaussian(sigma_space=[]), ValueError, r"sigma_space.*flat.*shape \(0,\)"),
    (lambda: df.Gaussian(sigma_space=[[1, 2]]), ValueError, r"sigma_space.*flat.*\(1, 2\)"),
    (lambda: df.Gaussian(sigma_space=[1, [2]]), ValueError, "sigma_space must be an array"),
    (lambda: df.Gaussian(sigma_space=[1, -2]), ValueError, r"sigma_space\[1\].*above 0, got -2"),
    (lambda: df.Gaussian(sigma_space=["1"]), TypeError, r"sigma_space\[0\].*real number, got str"),
    (
        lambda: infer(model=df.DenseCRF([df.Gaussian(sigma_space=[1, 2, 3])])),
        ValueError,
        "3 values",
    ),
    (
        lambda: infer(model=df.DenseCRF([df.Bilateral(sigma_space=1, sigma_color=[1, 2])])),
        ValueError,
        "sigma_color has 2 values, but the number of image channels is 3; give one",
    ),
    (
        lambda: df.DenseCRF([df.Gaussian(sigma_space=1e-50)]).infer(np.zeros((2, 1), np.float32)),
        ValueError,
        "sigma_space must be from 1.08e-19 to .* in float32, got 1e-50.*float64",
    ),
    (
        lambda: infer(
            np.zeros((2, 4, 5), np.float32),
            model=df.DenseCRF([df.Bilateral(sigma_space=1, sigma_color=1e-50)]),
        ),
        ValueError,
        "sigma_color must be from 1.08e-19 to .* in float32, got 1e-50",
    ),
    (
        lambda: infer(model=df.DenseCRF([df.Bilateral(sigma_space=1e-12, sigma_color=1)])),
        ValueError,
        r"features reach .* lattice cells.*2\^30.*larger sigma",
    ),
    (
        lambda: df.DenseCRF([df.Gaussian(sigma_space=1e39)]).infer(np.zeros((2, 7), np.float32)),
        ValueError,
        r"sigma_space must be from .* to 1.84e\+19 in float32, got 1e\+39.*float64",
    ),
    (lambda: lattice(np.full((3, 2), 1e10)), ValueError, r"features reach .*2\^30.*larger sigma"),
    (lambda: lattice(np.full((3, 2), -1e308)), ValueError, r"features reach .*2\^30"),
    (lambda: lattice(np.full((3, 2), 3e38, "f4")), ValueError, r"features reach .*2\^30"),
]

MODELS: list[Case] = [
    (lambda: df.DenseCRF(ANY), TypeError, r"kernels must be a sequence.*NoneType.*write \[\]"),
    (lambda: df.DenseCRF(SPACE), TypeError, r"kernels must be a sequence.*\[kernel\]"),  # type: ignore[arg-type]
    (lambda: df.DenseCRF([3]), TypeError, "kernels must be Gaussian.*got int"),  # type: ignore[list-item]
    (lambda: df.DenseCRF([Kernel()]), TypeError, "kernels must be Gaussian.*got Kernel"),
    (lambda: df.DenseCRF([], iterations=-1), ValueError, "iterations must be 0 or more, got -1"),
    (lambda: df.DenseCRF([], iterations=2.0), TypeError, "iterations.*integer, got float 2.0"),  # type: ignore[arg-type]
    (lambda: df.DenseCRF([], iterations=True), TypeError, "iterations.*integer, got bool True"),
    (
        lambda: df.DenseCRF([], iterations=2**40),
        ValueError,
        "iterations must be 2147483647 or less",
    ),
    (lambda: df.DenseCRF([], tolerance=-1), ValueError, "tolerance must be 0 or more, got -1"),
    (lambda: df.DenseCRF([], tolerance=np.nan), ValueError, "tolerance.*finite number, got nan"),
    (lambda: df.DenseCRF([], exclude_self="no"), TypeError, "exclude_self must be True or False"),  # type: ignore[arg-type]
    (lambda: df.DenseCRF([], normalization="both"), ValueError, "'symmetric', got 'both'"),  # type: ignore[arg-type]
    (lambda: df.DenseCRF([], normalization=ANY), TypeError, "normalization.*string.*got NoneType"),
    (
        lambda: df.DenseCRF([], compatibility=2.0),
        ValueError,
        r"compatibility.*\(\).*Potts\(weight\)",
    ),
    (lambda: df.DenseCRF([], compatibility="potts"), TypeError, "compatibility must hold real"),
    (lambda: df.DenseCRF([], compatibility=np.ones((2, 3))), ValueError, r"compat.*\(2, 3\)"),
    (lambda: df.DenseCRF([], compatibility=[np.nan, 1]), ValueError, "compatibility.*got 1 NaN"),
    (lambda: df.Potts("1"), TypeError, "Potts weight must be a real number, got str"),  # type: ignore[arg-type]
    (lambda: df.Gaussian(sigma_space=1, weight=np.inf), ValueError, "weight.*finite.*got inf"),
    (lambda: df.Gaussian(sigma_space=1, normalization="l2"), ValueError, "normalization.*got 'l2'"),  # type: ignore[arg-type]
    (
        lambda: infer(model=df.DenseCRF([COLOR], compatibility=np.ones(3))),
        ValueError,
        r"compatibility has shape \(3,\), but the unary has 2 labels; give \(2,\) or \(2, 2\)",
    ),
    (
        lambda: df.DenseCRF([SPACE], compatibility=np.ones(3)).infer(np.zeros((2, 0))),
        ValueError,
        "compatibility has shape",
    ),
    (
        lambda: df.DenseCRF([df.Gaussian(sigma_space=1, weight=1e39)]).infer(
            np.zeros((2, 4), "f4")
        ),
        ValueError,
        "weight times compatibility must fit float32, got weight 1e.39",
    ),
]

OPTIONS: list[Case] = [
    (lambda: infer(label_axis=3), ValueError, r"label_axis must be in \[-3, 3\), got 3 for 3"),
    (lambda: infer(label_axis=0.0), TypeError, "label_axis must be an integer, got float"),
    (lambda: infer(label_axis=None), TypeError, "label_axis must be an integer, got NoneType"),
    (lambda: infer(channel_axis=5), ValueError, r"channel_axis must be in \[-3, 3\), got 5"),
    (lambda: infer(channel_axis="last"), TypeError, "channel_axis must be an integer, got str"),
    (lambda: infer(callback=5), TypeError, "callback must be a function.*got int"),
    (lambda: infer(out=[0.0]), TypeError, "out must be a plain numpy array, got list.*empty"),
    (lambda: infer(out=np.ma.zeros((2, 4, 5))), TypeError, "out must be a plain.*MaskedArray"),
    (lambda: infer(out=np.zeros((2, 4, 5), "f4")), ValueError, r"out.*float64.*got float32.*empty"),
    (lambda: infer(out=np.zeros((2, 4, 5), ">f8")), ValueError, "out must be a writable float64"),
    (
        lambda: infer(out=np.zeros((2, 5, 4))),
        ValueError,
        r"out.*\(2, 4, 5\), got float64 \(2, 5, 4\)",
    ),
    (
        lambda: infer(out=np.broadcast_to(np.float64(0), (2, 4, 5))),
        ValueError,
        "out must be a writable.*got read-only float64",
    ),
    (
        lambda: infer(out=np.zeros((2, 4, 5), [("value", "f8"), ("pad", "u1")])["value"]),
        ValueError,
        "out must be aligned.*numpy.empty",
    ),
    (
        lambda: lattice().filter([1, 2, 3], transpose=1),
        TypeError,
        "transpose must be True or False",
    ),
    (lambda: lattice().blur([1, 2, 3], reverse="x"), TypeError, "reverse must be True or False"),
    (lambda: df.DenseCRF([]).prepare(shape=5), TypeError, r"shape.*got int 5.*\(5,\)"),
    (
        lambda: df.DenseCRF([]).prepare(shape="ab"),
        TypeError,
        "shape.*sequence of integers, got str",
    ),  # type: ignore[arg-type]
    (lambda: df.DenseCRF([]).prepare(shape=()), ValueError, r"shape.*1 dimension or more.*\(1,\)"),
    (lambda: df.DenseCRF([]).prepare(shape=(3, -1)), ValueError, r"shape\[1\] must be 0 or more"),
    (lambda: df.DenseCRF([]).prepare(shape=(3.0,)), TypeError, r"shape\[0\].*integer, got float"),  # type: ignore[arg-type]
    (lambda: df.DenseCRF([]).prepare(shape=(3,), dtype="abc"), TypeError, "dtype.*got 'abc'"),
    (
        lambda: df.DenseCRF([]).prepare(shape=(3,), dtype=int),
        ValueError,
        "dtype.*float32 or.*int64",
    ),
    (lambda: df.DenseCRF([]).prepare(shape=(3,), dtype=None), TypeError, "dtype.*got None"),
    (
        lambda: df.DenseCRF([]).prepare(np.zeros((4, 5, 3)), shape=(5, 4)),
        ValueError,
        r"image has the grid \(4, 5\), but \(5, 4\)",
    ),
]


def check(case: Case) -> None:
    call, error, text = case
    with pytest.raises(error, match=text) as caught:
        call()
    # An error of the core or of numpy that slips through would be long or of several lines.
    assert "\n" not in str(caught.value)
    assert type(caught.value) is error


def name_of(case: Case) -> str:
    return case[2].replace("\\", "")[:40]


@pytest.mark.parametrize("case", ARRAYS, ids=name_of)
def test_wrong_arrays_are_named(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", SHAPES, ids=name_of)
def test_wrong_shapes_are_named(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", SIGMAS, ids=name_of)
def test_wrong_sigmas_are_named(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", MODELS, ids=name_of)
def test_wrong_models_are_named(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", OPTIONS, ids=name_of)
def test_wrong_options_are_named(case: Case) -> None:
    check(case)


# What must not be lost or taken for something else


def test_kernels_may_come_from_a_generator() -> None:
    crf = df.DenseCRF(df.Gaussian(sigma_space=s) for s in (1, 2))  # type: ignore[arg-type]
    assert len(crf.kernels) == 2


def test_a_failed_inference_leaves_out_alone() -> None:
    out = np.full((2, 4, 5), 7.0)
    with pytest.raises(ValueError, match="unary must be finite"):
        infer(nan_at_one((2, 4, 5)), out=out)
    np.testing.assert_array_equal(out, 7)


def test_nan_that_is_let_in_stays_with_its_neighbours() -> None:
    unary = np.zeros((2, 50), np.float32)
    unary[0, 0] = np.nan
    q = df.DenseCRF([df.Gaussian(sigma_space=1)], iterations=1).infer(unary, check_finite=False)
    assert np.isnan(q[:, 0]).all()
    assert np.isfinite(q[:, 25:]).all()


def test_compatibility_is_copied() -> None:
    mine = np.ones((2, 2))
    crf = df.DenseCRF([COLOR], compatibility=mine)
    mine[0, 0] = np.nan
    assert np.isfinite(infer(model=crf)).all()
