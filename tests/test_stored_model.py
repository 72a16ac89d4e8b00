"""Models as dictionaries and files: what comes back, and what a bad file is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densefield as df

KERNELS = (
    df.Gaussian(sigma_space=1 / 3, weight=0.1, method="lattice"),
    df.Bilateral(
        sigma_space=(4.7, 5),
        sigma_color=(9, 8, 7.1),
        weight=2,
        compatibility=[-1.0, -0.3, -2.0],
        normalization="after",
    ),
    df.Bilateral(sigma_space=None, sigma_color=30, compatibility=df.Potts(0.5)),
)
MODELS: dict[str, df.DenseCRF] = {
    "default": df.default_crf(),
    "dense": df.DenseCRF(
        KERNELS,
        compatibility=np.random.default_rng(0).normal(size=(3, 3)),
        normalization="before",
        iterations=3,
        exclude_self=True,
        tolerance=0.01,
    ),
    "conv": df.ConvCRF(
        KERNELS[:1],
        5,
        shape="diamond",
        downsampling=2,
        unary_weight=[1.0, 0.7, 0.1],
        start_from="log_marginals",
        output="scores",
        iterations=2,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_the_same_bits_of_inference(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    unary = rng.normal(size=(3, 7, 9)).astype(np.float32)
    MODELS[name].save(tmp_path / "model.json")
    loaded = df.DenseCRF.load(tmp_path / "model.json")
    assert repr(loaded) == repr(MODELS[name])
    assert loaded.kernels == MODELS[name].kernels
    found, expected = loaded.infer(unary, image), MODELS[name].infer(unary, image)
    assert found.tobytes() == expected.tobytes()


def test_the_file_says_what_it_is_and_what_the_numbers_are(tmp_path: Path) -> None:
    df.default_crf().save(tmp_path / "model.json")
    content = json.loads((tmp_path / "model.json").read_text())
    assert (content["format"], content["version"]) == ("densefield-model", 1)
    assert content["type"] == "DenseCRF"
    assert content["kernels"][0] == {
        **{"type": "Gaussian", "weight": 2.0, "sigma_space": [1.0], "method": "grid"}
    }
    assert content["compatibility"] == {"type": "Potts", "weight": 1.0}
    assert "device" not in content


def test_fields_with_a_default_may_be_left_out() -> None:
    kernel = {"type": "Gaussian", "weight": 2, "sigma_space": 1}
    content = {"format": "densefield-model", "version": 1, "type": "DenseCRF"}
    content |= {"kernels": [kernel], "compatibility": {"type": "Potts", "weight": 1}}
    expected = df.DenseCRF([df.Gaussian(sigma_space=1, weight=2)])
    assert repr(df.DenseCRF.from_dict(content)) == repr(expected)


def test_a_dense_model_is_not_taken_for_a_conv_crf() -> None:
    with pytest.raises(ValueError, match="type must be 'ConvCRF', got 'DenseCRF'"):
        df.ConvCRF.from_dict(MODELS["default"].to_dict())


def test_features_cannot_be_stored() -> None:
    crf = df.DenseCRF([df.Features(np.zeros((3, 1)))])
    with pytest.raises(ValueError, match="features belong to one image"):
        crf.to_dict()


def changed(place: list[Any], value: Any) -> dict[str, Any]:
    """The dense model with one field replaced, or taken away by the value `...`."""
    content = MODELS["dense"].to_dict()
    part: Any = content
    for key in place[:-1]:
        part = part[key]
    if value is ...:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (["format"], "other", "format must be 'densefield-model', got 'other'"),
        (["version"], 2, "version must be 1, got 2"),
        (["version"], True, "version must be 1, got True"),
        (["type"], "CRF", "type must be 'DenseCRF' or 'ConvCRF', got 'CRF'"),
        (["kernels"], {}, "kernels must be a list, got {}"),
        (["kernels"], ..., "has no field 'kernels'"),
        (["compatibility"], ..., "has no field 'compatibility'"),
        (["compatibility"], "Potts", "compatibility must be a list of numbers"),
        (["compatibility"], {"type": "Potts"}, "compatibility has no field 'weight'"),
        (["compatibility"], [[1, 2]], r"compatibility must be Potts\(\) or have shape"),
        (["iterations"], 2.5, "the model: iterations must be an integer, got float 2.5"),
        (["normalization"], "both", "normalization must be one of"),
        (["filter_size"], 3, "the model has unknown fields: 'filter_size'"),
        (["kernels", 0], 3, r"kernels\[0\] must be an object with fields, got 3"),
        (["kernels", 0, "type"], "Box", r"kernels\[0\]: type must be"),
        (["kernels", 0, "weight"], ..., r"kernels\[0\] has no field 'weight'"),
        (["kernels", 0, "weight"], "2", r"kernels\[0\]: weight must be a real number, got str"),
        (["kernels", 0, "sigma_space"], [-1], r"kernels\[0\]: sigma_space\[0\] must be.*above 0"),
        (["kernels", 1, "sigma_color"], ..., r"kernels\[1\].*sigma_color"),
        (["kernels", 1, "sigmas"], 3, r"kernels\[1\] has unknown fields: 'sigmas'"),
        (["kernels", 2, "compatibility", "weight"], None, r"kernels\[2\].compatibility: Potts"),
    ],
)
def test_a_bad_field_is_named(place: list[Any], value: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        df.DenseCRF.from_dict(changed(place, value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a JSON file"),
        ("[1]", "the model must be an object with fields"),
        ('{"weight": NaN}', "numbers must be finite, got NaN"),
        ("\udcff", "utf-8"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"model\.json.*{message}"):
        df.DenseCRF.load(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        df.DenseCRF.load(tmp_path / "none.json")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    MODELS["default"].save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="features belong"):
        df.DenseCRF([df.Features(np.zeros((3, 1)))]).save(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["model.json"]


class TestFitResult:
    RESULT = df.FitResult(
        crf=MODELS["dense"],
        loss="soft_iou",
        parameters=("weights",),
        history=(df.FitStep(0, 0.5, 0.7), df.FitStep(1, 1 / 3, 0.6)),
        best_step=1,
        reason="max_steps",
        num_evaluations=4,
    )

    def test_a_file_gives_it_back(self, tmp_path: Path) -> None:
        self.RESULT.save(tmp_path / "fit.json")
        loaded = df.FitResult.load(tmp_path / "fit.json")
        assert loaded.to_json() == self.RESULT.to_json()
        assert (loaded.history, loaded.best) == (self.RESULT.history, df.FitStep(1, 1 / 3, 0.6))
        assert repr(loaded.crf) == repr(self.RESULT.crf)

    def test_its_file_is_a_model_too(self, tmp_path: Path) -> None:
        self.RESULT.save(tmp_path / "fit.json")
        assert repr(df.DenseCRF.load(tmp_path / "fit.json")) == repr(self.RESULT.crf)

    def test_a_file_without_a_fit_is_told_apart(self, tmp_path: Path) -> None:
        MODELS["default"].save(tmp_path / "model.json")
        with pytest.raises(ValueError, match=r"no field 'fit'.*DenseCRF\.load"):
            df.FitResult.load(tmp_path / "model.json")

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("loss", "l2", "fit: loss must be"),
            ("reason", None, "fit: reason must be"),
            ("parameters", ["mu"], "fit: parameters must be a list of names"),
            ("history", [], "fit: history must be a list of steps"),
            ("history", [{"step": 0}], r"fit: history\[0\] has no field 'train_loss'"),
            ("best_step", 2, "fit: best_step must be 1 or less, got 2"),
            ("num_evaluations", -1, "fit: num_evaluations must be 0 or more"),
            ("more", 1, "fit has unknown fields: 'more'"),
        ],
    )
    def test_a_bad_field_is_named(self, tmp_path: Path, name: str, value: Any, text: str) -> None:
        content = self.RESULT.to_dict()
        content["fit"][name] = value
        (tmp_path / "fit.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=text):
            df.FitResult.load(tmp_path / "fit.json")
