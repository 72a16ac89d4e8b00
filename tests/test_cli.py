"""The command line: its files, its messages and its exit codes, on tiny images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

click_testing = pytest.importorskip("click.testing", reason="the extra 'cli' is not installed")
pytest.importorskip("tqdm", reason="the extra 'cli' is not installed")
Image = pytest.importorskip("PIL.Image", reason="the extra 'cli' is not installed")

import densefield  # noqa: E402
from densefield import pictures, whole_files  # noqa: E402
from densefield.cli.commands import app  # noqa: E402
from densefield.scores import image_probabilities, load_scores  # noqa: E402

HEIGHT, WIDTH, LABELS = 12, 16, 3


def run(*arguments: str | Path) -> Any:
    return click_testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_image(path: Path, seed: int = 0) -> Path:
    """A dark and a bright half, with noise."""
    pixels = np.random.default_rng(seed).integers(0, 40, (HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, WIDTH // 2 :] += 180
    Image.fromarray(pixels).save(path)
    return path


def write_scores(path: Path, num_labels: int = LABELS, seed: int = 1) -> Path:
    np.save(path, np.random.default_rng(seed).normal(0, 2, (num_labels, 3, 4)).astype(np.float16))
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_image(tmp_path / "cat.png"), write_scores(tmp_path / "cat.npy")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Images, scores, and where the results go; three pairs."""
    images, scores, out = (tmp_path / name for name in ("images", "scores", "out"))
    images.mkdir()
    scores.mkdir()
    for seed, stem in enumerate(("ape", "bee", "cat")):
        write_image(images / f"{stem}.png", seed)
        write_scores(scores / f"{stem}.npy", seed=seed)
    return images, scores, out


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestRefineFile:
    def test_writes_the_labels_of_refine(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        result = run("refine", *pair, "-o", tmp_path / "out.png")
        assert result.exit_code == 0, result.output
        image = np.asarray(Image.open(pair[0]))
        probabilities = image_probabilities(load_scores(pair[1]), (HEIGHT, WIDTH))
        expected = densefield.refine(image, probabilities)
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), expected)

    def test_the_labels_carry_the_palette(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        run("refine", *pair, "-o", tmp_path / "out.png")
        with Image.open(tmp_path / "out.png") as picture:
            assert picture.mode == "P"
            labels, colors = np.asarray(picture), np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(colors, pictures.label_colors(LABELS)[labels])

    def test_a_folder_as_output_takes_the_images_name(
        self, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        assert run("refine", *pair, "-o", tmp_path / "out").exit_code == 0
        assert names(tmp_path / "out") == ["cat.png"]

    def test_marginals_are_written_beside(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        run("refine", *pair, "-o", tmp_path / "out.png", "--marginals")
        marginals = np.load(tmp_path / "out.npy")
        assert (marginals.shape, marginals.dtype) == ((LABELS, HEIGHT, WIDTH), np.float32)
        labels = np.asarray(Image.open(tmp_path / "out.png"))
        np.testing.assert_array_equal(marginals.argmax(axis=0), labels)

    def test_overlay_is_written_beside(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        run("refine", *pair, "-o", tmp_path / "out.png", "--overlay")
        with Image.open(tmp_path / "out_overlay.png") as picture:
            assert (picture.mode, picture.size) == ("RGB", (WIDTH, HEIGHT))

    @pytest.mark.parametrize("option", ["--weight", "--spatial-weight", "--sigma-color"])
    def test_model_options_change_the_marginals(
        self, pair: tuple[Path, Path], tmp_path: Path, option: str
    ) -> None:
        run("refine", *pair, "-o", tmp_path / "default.png", "--marginals")
        result = run("refine", *pair, "-o", tmp_path / "other.png", "--marginals", option, "0.1")
        assert result.exit_code == 0, result.output
        default, other = np.load(tmp_path / "default.npy"), np.load(tmp_path / "other.npy")
        assert not np.allclose(default, other, atol=1e-3)

    def test_no_iterations_give_the_networks_probabilities(
        self, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        options = ("--marginals", "--iterations", "0")
        result = run("refine", *pair, "-o", tmp_path / "out.png", *options)
        assert result.exit_code == 0, result.output
        expected = image_probabilities(load_scores(pair[1]), (HEIGHT, WIDTH))
        # The unary energy clips probabilities from below, near 1e-5.
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-4)

    def test_an_existing_file_is_kept(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "out.png").write_bytes(b"mine")
        result = run("refine", *pair, "-o", tmp_path / "out.png")
        assert result.exit_code == 1
        assert "out.png is there already; pass --overwrite" in result.stderr
        assert (tmp_path / "out.png").read_bytes() == b"mine"

    def test_overwrite_replaces_it(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "out.png").write_bytes(b"other")
        assert run("refine", *pair, "-o", tmp_path / "out.png", "--overwrite").exit_code == 0
        assert np.asarray(Image.open(tmp_path / "out.png")).shape == (HEIGHT, WIDTH)

    def test_the_input_is_never_replaced(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        before = pair[0].read_bytes()
        result = run("refine", *pair, "-o", tmp_path, "--overwrite")
        assert result.exit_code == 2
        assert "would replace the input" in result.stderr
        assert pair[0].read_bytes() == before

    def test_the_scores_are_never_replaced_by_marginals(
        self, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        pair[0].rename(tmp_path / "photograph.png")
        result = run(
            *("refine", tmp_path / "photograph.png", pair[1]),
            *("-o", tmp_path / "cat.png", "--marginals", "--overwrite"),
        )
        assert result.exit_code == 2
        assert "would replace the input" in result.stderr

    def test_a_deep_image_is_refused_in_one_line(
        self, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        Image.fromarray(np.full((HEIGHT, WIDTH), 4000, np.uint16)).save(tmp_path / "deep.png")
        result = run("refine", tmp_path / "deep.png", pair[1], "-o", tmp_path / "out.png")
        assert result.exit_code == 1
        assert "must have 8 bits per channel" in result.stderr
        assert "Traceback" not in result.output
        assert not (tmp_path / "out.png").exists()


class TestManyLabels:
    def test_a_256th_label_fits_the_png(self, tmp_path: Path) -> None:
        image, scores = write_image(tmp_path / "x.png"), tmp_path / "x.npy"
        values = np.zeros((256, 1, 1), np.float32)
        values[255] = 50
        np.save(scores, values)
        assert run("refine", image, scores, "-o", tmp_path / "out.png").exit_code == 0
        assert np.unique(np.asarray(Image.open(tmp_path / "out.png"))).tolist() == [255]

    def test_more_labels_are_refused_with_the_way_out(self, tmp_path: Path) -> None:
        image, scores = write_image(tmp_path / "x.png"), write_scores(tmp_path / "x.npy", 257)
        result = run("refine", image, scores, "-o", tmp_path / "out.png")
        assert result.exit_code == 1
        assert "257 labels do not fit an index PNG, which holds 256" in result.stderr
        assert "--marginals" in result.stderr

    def test_more_labels_are_written_as_marginals(self, tmp_path: Path) -> None:
        image, scores = write_image(tmp_path / "x.png"), write_scores(tmp_path / "x.npy", 257)
        result = run("refine", image, scores, "-o", tmp_path / "out.png", "--marginals")
        assert result.exit_code == 0, result.output
        assert np.load(tmp_path / "out.npy").shape == (257, HEIGHT, WIDTH)
        assert not (tmp_path / "out.png").exists()


class TestRefineFolders:
    def test_every_pair_is_refined(self, folders: tuple[Path, Path, Path]) -> None:
        result = run("refine", *folders[:2], "-o", folders[2])
        assert result.exit_code == 0, result.output
        assert names(folders[2]) == ["ape.png", "bee.png", "cat.png"]
        assert "3 refined, 0 failed" in result.stdout

    def test_a_bad_file_is_told_and_does_not_stop_the_others(
        self, folders: tuple[Path, Path, Path]
    ) -> None:
        images, scores, out = folders
        (images / "ape.png").write_bytes(b"not an image")
        np.save(scores / "cat.npy", np.full((LABELS, 3, 4), np.nan, np.float32))
        result = run("refine", images, scores, "-o", out)
        assert result.exit_code == 1
        assert names(out) == ["bee.png"]
        assert "ape.png: cannot identify image file" in result.stderr
        assert "cat.png: scores must be finite" in result.stderr
        assert "1 refined, 2 failed" in result.stdout

    def test_files_without_a_partner_are_told(self, folders: tuple[Path, Path, Path]) -> None:
        images, scores, out = folders
        (images / "ape.png").unlink()
        (scores / "bee.npy").unlink()
        result = run("refine", images, scores, "-o", out)
        assert result.exit_code == 1
        assert "ape.npy: no image named ape" in result.stderr
        assert "bee.png: no scores bee.npy or bee.npz" in result.stderr
        assert names(out) == ["cat.png"]

    def test_two_images_of_one_name_are_told(self, folders: tuple[Path, Path, Path]) -> None:
        images, scores, out = folders
        write_image(images / "ape.bmp")
        result = run("refine", images, scores, "-o", out)
        assert result.exit_code == 1
        assert "more than one image or scores file of this name: ape.bmp, ape.png" in result.stderr
        assert names(out) == ["bee.png", "cat.png"]

    def test_other_files_are_left_alone(self, folders: tuple[Path, Path, Path]) -> None:
        (folders[0] / "notes.txt").write_text("x")
        (folders[0] / ".hidden.png").write_bytes(b"x")
        assert run("refine", *folders[:2], "-o", folders[2]).exit_code == 0

    def test_finished_images_are_skipped(self, folders: tuple[Path, Path, Path]) -> None:
        images, scores, out = folders
        out.mkdir()
        (out / "bee.png").write_bytes(b"mine")
        result = run("refine", images, scores, "-o", out)
        assert result.exit_code == 0
        assert "2 refined, 1 were there already" in result.stdout
        assert (out / "bee.png").read_bytes() == b"mine"

    def test_half_finished_images_are_told(self, folders: tuple[Path, Path, Path]) -> None:
        images, scores, out = folders
        out.mkdir()
        (out / "bee.png").write_bytes(b"mine")
        result = run("refine", images, scores, "-o", out, "--marginals")
        assert result.exit_code == 1
        assert "bee.png is there but not all that was asked for" in result.stderr
        assert (out / "bee.png").read_bytes() == b"mine"

    def test_two_results_of_one_name_are_refused(self, folders: tuple[Path, Path, Path]) -> None:
        write_image(folders[0] / "ape_overlay.png")
        write_scores(folders[1] / "ape_overlay.npy")
        result = run("refine", *folders[:2], "-o", folders[2], "--overlay")
        assert result.exit_code == 2
        assert "ape_overlay.png would replace another result" in " ".join(result.stderr.split())
        assert not folders[2].exists()

    def test_the_inputs_folder_as_output_is_refused(self, folders: tuple[Path, Path, Path]) -> None:
        result = run("refine", *folders[:2], "-o", folders[0], "--overwrite")
        assert result.exit_code == 2
        assert "would replace the input" in result.stderr


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["images", "scores/cat.npy", "-o", "out"], "two files or two folders"),
            (["images/cat.png", "scores/cat.npy"], "Missing option '-o'"),
            (["images/cat.png", "absent.npy", "-o", "o.png"], "'absent.npy' does not exist"),
            (["images/cat.png", "scores/cat.npy", "-o", "o.jpg"], "must be a .png file"),
            (["images/cat.png", "scores/cat.npy", "-o", "no/o.png"], "there is no folder no"),
            (["images", "scores", "-o", "images/cat.png"], "must be a folder, got the file"),
            (["empty", "empty", "-o", "out"], "no images in empty"),
            (["images", "scores", "-o", "out", "--sigma-space", "-1"], "sigma_space"),
            (["images", "scores", "-o", "out", "--weight", "nan"], "'--weight': must be a finite"),
            (["images", "scores", "-o", "out", "--iterations", "-1"], "--iterations"),
            (["images", "scores", "-o", "out", "--kind", "guess"], "'guess' is not one of"),
        ],
    )
    def test_ends_with_2_and_says_why(
        self,
        folders: tuple[Path, Path, Path],
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        message: str,
    ) -> None:
        monkeypatch.chdir(folders[0].parent)
        Path("empty").mkdir()
        result = run("refine", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not Path("out").exists()


class TestWholeFiles:
    def test_a_failure_leaves_nothing_new_and_keeps_the_old(self, tmp_path: Path) -> None:
        def fail(file: object) -> None:
            raise ValueError("half way")

        (tmp_path / "one").write_bytes(b"old")
        writers = {tmp_path / "one": lambda file: file.write(b"new"), tmp_path / "two": fail}
        with pytest.raises(ValueError, match="half way"):
            whole_files.write_whole(writers)
        assert names(tmp_path) == ["one"]
        assert (tmp_path / "one").read_bytes() == b"old"

    def test_ctrl_c_while_writing_leaves_no_file_and_ends_with_130(
        self, folders: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(file: Any, array: object) -> None:
            file.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(np, "save", stop)
        result = run("refine", *folders[:2], "-o", folders[2], "--marginals")
        assert result.exit_code == 130
        assert names(folders[2]) == []

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no file mode of this kind")
    def test_files_get_the_usual_mode(self, tmp_path: Path) -> None:
        (tmp_path / "usual").touch()
        whole_files.write_whole({tmp_path / "new": lambda file: file.write(b"x")})
        assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


class TestPictures:
    def test_colors_of_known_voc_labels(self) -> None:
        colors = pictures.label_colors(256)
        assert colors[[15, 20, 255]].tolist() == [[192, 128, 128], [0, 64, 128], [224, 224, 192]]

    def test_colors_stay_distinct_beyond_a_byte(self) -> None:
        assert len(np.unique(pictures.label_colors(3000), axis=0)) == 3000

    def test_overlay_dims_the_background_and_colors_the_rest(self) -> None:
        image = np.full((1, 2, 3), 100, np.uint8)
        colors = np.array([[0, 0, 0], [200, 0, 0]], np.uint8)
        mixed = pictures.overlay(image, np.array([[0, 1]]), colors=colors, dim=0.5, opacity=0.25)
        assert mixed.tolist() == [[[50, 50, 50], [125, 75, 75]]]

    @pytest.mark.parametrize(("width", "drawn"), [(1, [2]), (2, [2, 3]), (3, [1, 2, 3])])
    def test_outlines_lie_on_both_sides_of_a_border(self, width: int, drawn: list[int]) -> None:
        labels = np.array([[0, 0, 0, 1, 1, 1]])
        image = np.zeros((1, 6, 3), np.uint8)
        result = pictures.draw_outlines(image, labels, (9, 9, 9), width=width)
        assert np.flatnonzero(result[0, :, 0]).tolist() == drawn
        assert not image.any()

    def test_a_long_legend_takes_more_lines(self) -> None:
        panel = pictures.Panel("one", np.zeros((60, 200, 3), np.uint8))
        entries = [pictures.LegendEntry(f"a long name {i}", (9, 9, 9)) for i in range(4)]
        short = pictures.panel_sheet([panel], entries[:1], columns=1)
        long = pictures.panel_sheet([panel], entries, columns=1)
        assert long.width == short.width
        assert long.height > short.height

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
    def test_eight_bit_images_are_read_as_rgb(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "x.tif"
        Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode).save(path)
        assert pictures.read_photograph(path).tolist() == np.full((2, 3, 3), 255).tolist()


class TestDemo:
    def test_writes_a_picture_and_tells_time_and_size(self, tmp_path: Path) -> None:
        result = run("demo", "-o", tmp_path / "demo.png")
        assert result.exit_code == 0, result.output
        assert names(tmp_path) == ["demo.png"]
        with Image.open(tmp_path / "demo.png") as picture:
            assert picture.width > 2 * 512
            assert picture.height > 2 * 512
        for word in ("512 x 512", "vertices", "ms", "threads", "demo.png"):
            assert word in result.stdout

    def test_another_ending_is_wrong_usage(self, tmp_path: Path) -> None:
        result = run("demo", "-o", tmp_path / "demo.gif")
        assert result.exit_code == 2
        assert "must end in .png" in result.stderr


class TestProgram:
    def test_info_tells_what_runs(self) -> None:
        result = run("info")
        assert result.exit_code == 0
        for word in (densefield.__version__, "SIMD", "threads", "CUDA"):
            assert word in result.stdout

    def test_the_module_can_be_run(self) -> None:
        command = [sys.executable, "-m", "densefield", "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"densefield, version {densefield.__version__}"

    @pytest.mark.parametrize("module", ["click", "tqdm", "PIL"])
    def test_a_missing_package_is_told_with_the_way_to_get_it(self, module: str) -> None:
        program = (
            f"import sys; sys.modules[{module!r}] = None\nfrom densefield.cli import main; main()"
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"needs the package {module!r}" in done.stderr
        assert "pip install 'densefield[cli]'" in done.stderr
