"""``densefield fit`` and ``refine --params``: files in, a model's file out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

click_testing = pytest.importorskip("click.testing", reason="the extra 'cli' is not installed")
pytest.importorskip("scipy", reason="the extra 'fit' is not installed")
Image = pytest.importorskip("PIL.Image", reason="the extra 'cli' is not installed")

import densefield as df  # noqa: E402
from densefield.cli.commands import app  # noqa: E402
from densefield.cli.training_set import read_names  # noqa: E402

STEMS = ("ape", "bee", "cat", "dog", "eel")
QUICK = ("--max-steps", "2", "--iterations", "2", "--sigma-space", "5", "--sigma-color", "20")


def run(*arguments: str | Path) -> Any:
    return click_testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


class Folders:
    """Images, logits, label maps, and where the result goes."""

    def __init__(self, folder: Path) -> None:
        self.inputs = tuple(folder / name for name in ("images", "scores", "labels"))
        for path in self.inputs:
            path.mkdir()
        self.output = folder / "fitted.json"
        for seed, stem in enumerate(STEMS):
            self._write(stem, seed)

    def _write(self, stem: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (10 + seed, 14)
        truth = np.zeros(shape, np.uint8)
        truth[:, 7:] = 1
        truth[0] = 255
        pixels = rng.integers(0, 30, (*shape, 3), np.uint8)
        pixels[truth == 1] += 90
        logits = rng.normal(size=(2, *shape)) + np.stack([truth != 1, truth == 1])
        images, scores, labels = self.inputs
        Image.fromarray(pixels).save(images / f"{stem}.png")
        np.save(scores / f"{stem}.npy", logits.astype(np.float32))
        Image.fromarray(truth).convert("P").save(labels / f"{stem}.png")

    def files(self, stem: str) -> tuple[Path, Path, Path]:
        images, scores, labels = self.inputs
        return images / f"{stem}.png", scores / f"{stem}.npy", labels / f"{stem}.png"

    def list_of(self, name: str, *lines: str) -> Path:
        path = self.output.with_name(name)
        path.write_text("\n".join(lines))
        return path

    def fit(self, *options: str | Path) -> Any:
        return run("fit", *self.inputs, "-o", self.output, *QUICK, *options)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


class TestFit:
    def test_folders_give_a_model_that_refine_takes(self, folders: Folders, tmp_path: Path) -> None:
        result = folders.fit()
        assert result.exit_code == 0, result.output
        fitted = df.FitResult.load(folders.output)
        assert fitted.best.train_loss < fitted.history[0].train_loss
        assert fitted.crf.iterations == 2
        image, scores, _ = folders.files("ape")
        arguments = ("refine", image, scores, "--marginals", "-o")
        assert run(*arguments, tmp_path / "a.png", "--params", folders.output).exit_code == 0
        assert run(*arguments, tmp_path / "b.png").exit_code == 0
        unary = df.unary_from_logits(np.load(scores))
        expected = fitted.crf.infer(unary, np.asarray(Image.open(image)))
        found, default = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
        # The command's probabilities are rounded to float32 and clipped on their way.
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert not np.allclose(default, expected, atol=1e-2)

    def test_it_says_what_it_found(self, folders: Folders) -> None:
        result = folders.fit()
        fitted = df.FitResult.load(folders.output)
        assert f"Gaussian  weight {fitted.crf.kernels[0].weight:.4g}" in result.output
        assert f"-> {fitted.best.train_loss:.4f}" in result.output
        assert f"written     {folders.output}" in result.output

    def test_it_does_what_python_does(self, folders: Folders) -> None:
        assert folders.fit("--validation", "0", "--parameters", "weights").exit_code == 0
        images, unaries, labels = [], [], []
        for stem in STEMS:
            image, scores, label = folders.files(stem)
            images.append(np.asarray(Image.open(image)))
            logits = np.load(scores)
            exponentials = np.exp(logits - logits.max(axis=0))
            unaries.append(df.unary_from_probabilities(exponentials / exponentials.sum(axis=0)))
            labels.append(np.asarray(Image.open(label)))
        gaussian, bilateral = df.default_crf().kernels
        start = df.DenseCRF(
            [gaussian, df.Bilateral(sigma_space=5, sigma_color=20, weight=bilateral.weight)],
            iterations=2,
        )
        expected = df.fit(start, images, unaries, labels, parameters=["weights"], max_steps=2)
        found = df.FitResult.load(folders.output)
        # Both make the same probabilities but for the last digit of float32.
        assert [step.train_loss for step in found.history] == pytest.approx(
            [step.train_loss for step in expected.history], rel=1e-5
        )

    def test_three_files_are_enough(self, folders: Folders) -> None:
        result = run("fit", *folders.files("bee"), "-o", folders.output, *QUICK)
        assert result.exit_code == 0, result.output
        assert df.FitResult.load(folders.output).history[0].validation_loss is None

    def test_options_choose_loss_parameters_and_model(self, folders: Folders) -> None:
        options = ("--loss", "soft_iou", "--parameters", "compatibility", "--model", "conv")
        result = folders.fit(*options, "--compatibility", "matrix", "--filter-size", "3")
        assert result.exit_code == 0, result.output
        fitted = df.FitResult.load(folders.output)
        assert (fitted.loss, fitted.parameters) == ("soft_iou", ("compatibility",))
        assert isinstance(fitted.crf, df.ConvCRF)
        assert np.shape(fitted.crf.compatibility) == (2, 2)

    def test_lists_choose_images_and_validation(self, folders: Folders) -> None:
        train = folders.list_of("train.txt", "ape", "bee.png", "", "cat 1")
        held_out = folders.list_of("val.txt", "eel")
        folders.files("dog")[2].unlink()  # not in a list, not missed
        result = folders.fit("--names", train, "--validation", held_out)
        assert result.exit_code == 0, result.output
        both = df.FitResult.load(folders.output).history[0]
        assert both.validation_loss is not None
        folders.fit("--names", train, "--validation", "0", "--overwrite")
        alone = df.FitResult.load(folders.output).history[0]
        assert (alone.train_loss, alone.validation_loss) == (both.train_loss, None)

    def test_a_model_may_be_fitted_further(self, folders: Folders) -> None:
        assert folders.fit("--validation", "0").exit_code == 0
        further = folders.output.with_name("further.json")
        result = run(
            *("fit", *folders.inputs, "-o", further, "--params", folders.output),
            *("--validation", "0", "--max-steps", "1"),
        )
        assert result.exit_code == 0, result.output
        first, second = (df.FitResult.load(path) for path in (folders.output, further))
        assert second.history[0].train_loss == first.best.train_loss

    def test_a_file_that_is_there_is_kept(self, folders: Folders) -> None:
        folders.output.write_text("mine")
        result = folders.fit()
        assert result.exit_code == 1
        assert "is there already; pass --overwrite" in result.stderr
        assert folders.output.read_text() == "mine"
        assert folders.fit("--overwrite").exit_code == 0
        assert df.FitResult.load(folders.output).history

    def test_ctrl_c_leaves_no_file(self, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(df, "fit", stop)
        assert folders.fit().exit_code == 130
        assert not folders.output.exists()

    def test_a_missing_scipy_is_told_before_anything_is_read(
        self, folders: Folders, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing() -> None:
            raise ModuleNotFoundError("get it with: pip install 'densefield[fit]'")

        monkeypatch.setattr("densefield.cli.fit.import_minimize", missing)
        folders.files("ape")[0].write_bytes(b"not an image")
        result = folders.fit()
        assert result.exit_code == 1
        assert "densefield[fit]" in result.stderr
        assert "ape" not in result.stderr


class TestWhatFitRefuses:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            (("--loss", "l2"), "--loss"),
            (("--validation", "half"), "must be a fraction or a file with names"),
            (("--filter-size", "3"), "--filter-size belongs to --model conv"),
            (("--compatibility", "full"), "--compatibility"),
            (("-o", "here.txt"), "must end in .json"),
            (("-o", "nowhere/x.json"), "there is no folder"),
        ],
    )
    def test_wrong_options(self, folders: Folders, options: tuple[str, ...], text: str) -> None:
        result = folders.fit(*options)
        assert result.exit_code == 2
        assert text in result.stderr
        assert not folders.output.exists()

    def test_a_file_among_folders(self, folders: Folders) -> None:
        images, scores, _ = folders.inputs
        result = run("fit", images, scores, folders.files("ape")[2], "-o", folders.output)
        assert result.exit_code == 2
        assert "must be three files or three folders" in result.stderr

    def test_names_without_all_three_files(self, folders: Folders) -> None:
        folders.files("cat")[1].unlink()
        result = folders.fit()
        assert result.exit_code == 1
        assert "cat: no scores" in result.stderr
        assert "--names" in result.stderr

    def test_a_name_in_both_lists(self, folders: Folders) -> None:
        names = folders.list_of("names.txt", "ape", "bee")
        result = folders.fit("--names", names, "--validation", names)
        assert result.exit_code == 2
        assert "2 names are in both lists, for example ape" in result.stderr

    def test_label_maps_that_are_none(self, folders: Folders) -> None:
        label = folders.files("bee")[2]
        for labels, text in (
            (np.zeros((11, 14, 3), np.uint8), "one integer per pixel"),
            (np.zeros((5, 5), np.uint8), "labels must have the image's size"),
        ):
            Image.fromarray(labels).save(label)
            result = folders.fit()
            assert result.exit_code == 1
            assert "bee.png" in result.stderr
            assert text in result.stderr


class TestRefineWithParams:
    def test_options_of_the_model_are_refused_beside_it(
        self, folders: Folders, tmp_path: Path
    ) -> None:
        df.default_crf().save(folders.output)
        image, scores, _ = folders.files("ape")
        result = run(
            *("refine", image, scores, "-o", tmp_path / "x.png", "--params", folders.output),
            *("--weight", "3", "--model", "dense"),
        )
        assert result.exit_code == 2
        assert "--params sets the whole model: leave out --weight, --model" in result.stderr
        assert not (tmp_path / "x.png").exists()

    def test_a_bad_file_is_named_with_its_field(self, folders: Folders, tmp_path: Path) -> None:
        content = df.default_crf().to_dict()
        content["kernels"][1]["sigma_color"] = "blue"
        folders.output.write_text(json.dumps(content))
        image, scores, _ = folders.files("ape")
        result = run("refine", image, scores, "-o", tmp_path / "x.png", "--params", folders.output)
        assert result.exit_code == 1
        assert "fitted.json: kernels[1]: sigma_color" in result.stderr


def test_names_are_read_with_and_without_suffixes(folders: Folders) -> None:
    path = folders.list_of("names.txt", "2007_000033", "a.b", "cat.jpg  -1", "", "dog.npz")
    assert read_names(path) == ["2007_000033", "a.b", "cat", "dog"]
