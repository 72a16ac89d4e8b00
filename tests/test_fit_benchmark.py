"""The cross-validation of fitted models: what it learns from, and that it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="the extra 'cli' is not installed")
pytest.importorskip("scipy", reason="the extra 'fit' is not installed")

from benchmarks import fit_parameters  # noqa: E402
from benchmarks.accuracy import VOID, Photograph, boundary_band  # noqa: E402


def photograph() -> Photograph:
    labels = np.zeros((40, 50), np.uint8)
    labels[20:, 30:] = 3
    labels[0] = VOID
    probabilities = np.full((5, 40, 50), 0.001, np.float32)
    probabilities[0], probabilities[2, 35, 45] = 0.996, 0.5
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    return Photograph("made", image, labels, probabilities)


def test_the_window_has_most_of_the_band() -> None:
    band = np.zeros((40, 50), bool)
    band[10:13, 31:37] = True
    row, column = fit_parameters.best_corner(band, 8)
    assert band[row : row + 8, column : column + 8].sum() == band.sum()


def test_a_window_has_the_labels_that_have_a_chance_under_new_numbers() -> None:
    given = photograph()
    part = fit_parameters.cut(given, 100, all_pixels=True)
    # 0 is likely, 2 is so in one pixel, 3 is true.
    np.testing.assert_array_equal(np.unique(part.labels), [0, 2, VOID])
    np.testing.assert_array_equal(part.labels == 2, given.labels == 3)
    np.testing.assert_allclose(part.unary, -np.log(given.probabilities[[0, 2, 3]]), rtol=1e-6)


def test_pixels_far_from_a_boundary_are_void() -> None:
    given = photograph()
    labels = fit_parameters.cut(given, 100, all_pixels=False).labels
    far = ~boundary_band(given.labels)
    assert far.any()
    assert (labels[far] == VOID).all()
    assert (labels[~far & (given.labels != VOID)] != VOID).all()


def test_every_photograph_is_in_one_fold() -> None:
    folds = fit_parameters.fold_of(30, 3)
    assert np.bincount(folds).tolist() == [10, 10, 10]


def test_it_runs_on_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("images", "labels", "unaries"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(1)
    for name in "abc":
        labels = np.zeros((24, 32), np.uint8)
        labels[:, 16:] = 1
        pixels = (labels[..., None] * 90 + rng.integers(0, 30, (24, 32, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
        scores = np.full((21, 4, 5), -9.0)
        scores[0], scores[1] = np.linspace(2, -2, 5), np.linspace(-2, 2, 5)
        scores[:2] += rng.normal(size=(2, 4, 5))
        np.savez(tmp_path / "unaries" / f"{name}.npz", scores=scores, a=0.125, b=0.0)
    path = tmp_path / "out.json"
    arguments = ["--data", str(tmp_path), "--json", str(path), "--max-steps", "1"]
    assert fit_parameters.main(arguments) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    names = [result["method"] for result in found["results"]]
    assert names == ["no CRF", "defaults", "start", "fitted"]
    assert len(found["fitted"]) == 3
    assert "boundary acc." in capsys.readouterr().out
