"""What `densefield.fit` refuses, before any work."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest

import densefield as df
from labelled_fields import Fields, draw_fields

pytest.importorskip("scipy", reason="the extra 'fit' is not installed")

START = df.DenseCRF(
    [
        df.Gaussian(sigma_space=2.5, weight=0.5),
        df.Bilateral(sigma_space=8, sigma_color=20, weight=0.5),
    ],
    iterations=3,
)


@pytest.fixture(scope="module")
def fields() -> Fields:
    return draw_fields(START, ((12, 14), (10, 9), (11, 11)))


def test_arguments_of_the_wrong_kind_or_value(fields: Fields) -> None:
    def refused(error: type[Exception], text: str, *given: Any, **options: Any) -> None:
        with pytest.raises(error, match=text):
            df.fit(*(given or (START, *fields)), **options)

    refused(TypeError, "crf must be a DenseCRF or ConvCRF, got str", "crf", *fields)
    names = "'cross_entropy' or 'soft_iou' or 'soft_accuracy'"
    refused(ValueError, f"loss must be {names}, got 'l2'", loss="l2")
    refused(ValueError, "parameters must hold names among", parameters=["weight"])
    refused(TypeError, "parameters must be a sequence of names", parameters="weights")
    refused(ValueError, "parameters must hold one name or more", parameters=[])
    refused(ValueError, "bounds must have names among", bounds={"sigmas": (1, 2)})
    refused(ValueError, "must be a pair", bounds={"weights": 3})
    refused(ValueError, "got 2 above 1", bounds={"weights": (2, 1)})
    refused(ValueError, "above 0", bounds={"weights": (0, 1)})
    refused(ValueError, "within bounds", bounds={"weights": (1, 2)})
    refused(ValueError, "validation must be a fraction below 1", validation=1.0)
    refused(ValueError, "leaves none to learn from", validation=0.9)
    refused(ValueError, "got 2 entries", validation=([], []))
    refused(ValueError, "validation unaries", validation=([], [], []))
    refused(ValueError, "patience must be 1 or more", patience=0)
    refused(ValueError, "max_steps must be 1 or more", max_steps=0)
    refused(ValueError, "tolerance must be 0 or more", tolerance=-1.0)
    refused(ValueError, "sharpness must be a finite number above 0", sharpness=0)
    refused(ValueError, "mean_over must be 'images' or 'nodes', got 'pixels'", mean_over="pixels")
    refused(ValueError, "penalty must be 0 or more", penalty=-1.0)
    refused(ValueError, "sigma_step must be 0 or more", sigma_step=-1.0)
    refused(TypeError, "ignore_label must be an integer", ignore_label="void")
    refused(TypeError, "rng must be a seed", validation=0.5, rng="seed")
    refused(TypeError, "progress must be True or False", progress=1)


def test_models_that_cannot_be_fitted(fields: Fields) -> None:
    for crf, error, text in (
        (df.DenseCRF([]), ValueError, "crf must have a kernel"),
        (df.DenseCRF(START.kernels, iterations=0), ValueError, "and an iteration"),
        (df.DenseCRF([df.Features(np.zeros((9, 2)))]), TypeError, "belong to one image"),
        (df.DenseCRF([df.Gaussian(sigma_space=1, weight=0)]), ValueError, "above 0"),
    ):
        with pytest.raises(error, match=text):
            df.fit(crf, *fields)


def test_images_unaries_and_labels_that_do_not_fit(fields: Fields) -> None:
    images, unaries, labels = fields
    for given, error, text in (
        ((None, unaries, labels), ValueError, "images must be given"),
        (([], [], []), ValueError, "unaries must hold one array or more"),
        ((images, unaries, labels[:2]), ValueError, "as many images as unaries and labels"),
        ((images, unaries, 3), TypeError, "labels must be a sequence of arrays, got int"),
        ((images[::-1], unaries, labels), ValueError, r"images\[0\] has the grid"),
        ((images, unaries, labels[::-1]), ValueError, r"labels\[0\] must have the grid"),
        ((images, unaries, [a / 2 for a in labels]), TypeError, r"labels\[0\].*integers"),
        ((images, unaries, [a + 1 for a in labels]), ValueError, r"must lie in 0 \.\. 2"),
        ((images, unaries, [a - 1 for a in labels]), ValueError, "for example -1"),
        ((images, unaries, [a * 0 + 255 for a in labels]), ValueError, "one labelled node"),
        ((images, [a * np.nan for a in unaries], labels), ValueError, r"unaries\[0\].*finite"),
        ((images, [a[0, 0] for a in unaries], labels), ValueError, r"shape \(C, \*grid\)"),
    ):
        with pytest.raises(error, match=text):
            df.fit(START, *given)


def test_numbers_of_the_model_that_do_not_fit_the_data(fields: Fields) -> None:
    kernel = df.Bilateral(sigma_space=8, sigma_color=(1, 2), weight=1)
    with pytest.raises(ValueError, match=r"does not fit crf: sigma_color has 2 values"):
        df.fit(df.DenseCRF([kernel]), *fields)
    with pytest.raises(ValueError, match=r"does not fit crf: compatibility has shape \(2,\)"):
        df.fit(df.DenseCRF(START.kernels, compatibility=[-1, -1]), *fields)


@pytest.mark.parametrize(("module", "options"), [("scipy", {}), ("tqdm", {"progress": True})])
def test_a_missing_package_is_named_with_the_extra(
    fields: Fields, monkeypatch: pytest.MonkeyPatch, module: str, options: Any
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=module)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(ModuleNotFoundError, match=r"densefield\[fit\]"):
        df.fit(START, *fields, **options)
