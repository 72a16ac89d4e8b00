"""Scores: the file formats, upsampling, and what becomes probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densefield.scores import (
    Scores,
    image_probabilities,
    load_scores,
    score_kind,
    to_probabilities,
    upsample,
)

LOGITS = np.random.default_rng(3).normal(0, 4, (3, 4, 5)).astype(np.float32)
# Products of float32 numbers near 1, a few roundings of 6e-8 each.
ROUNDING = 1e-6


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values.astype(np.float64))
    return exponentials / exponentials.sum(axis=0)


class TestLoadScores:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_reads_a_plain_array_of_any_float_type(self, tmp_path: Path, dtype: type) -> None:
        np.save(tmp_path / "x.npy", LOGITS.astype(dtype))
        loaded = load_scores(tmp_path / "x.npy")
        assert loaded.values.dtype == np.float32
        np.testing.assert_array_equal(loaded.values, LOGITS.astype(dtype).astype(np.float32))
        assert (loaded.scale, loaded.offset) == (None, None)

    def test_reads_the_entry_scores_among_others(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", scores=LOGITS, other=np.zeros(3))
        np.testing.assert_array_equal(load_scores(tmp_path / "x.npz").values, LOGITS)

    def test_reads_the_only_entry_whatever_its_name(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", arr=LOGITS, a=0.5)
        np.testing.assert_array_equal(load_scores(tmp_path / "x.npz").values, LOGITS)

    def test_reads_a_and_b(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", scores=LOGITS, a=0.25, b=-0.5)
        assert load_scores(tmp_path / "x.npz")[1:] == (0.25, -0.5)

    def test_b_is_zero_where_only_a_is_given(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", scores=LOGITS, a=0.25)
        assert load_scores(tmp_path / "x.npz")[1:] == (0.25, 0.0)

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ({"one": LOGITS, "two": LOGITS}, r"'scores' or a single array.*\['one', 'two'\]"),
            ({"scores": LOGITS, "b": 0.0}, "b without a"),
            ({"scores": LOGITS, "a": np.ones(2)}, r"a must be one number, got float64 of shape"),
            ({"scores": LOGITS[0]}, r"shape \(C, h, w\), got \(4, 5\); put the labels first"),
            ({"scores": LOGITS[None]}, r"got \(1, 3, 4, 5\); take one image of the batch"),
            ({"scores": LOGITS[:0]}, r"a label and a grid point at least, got shape \(0, 4, 5\)"),
            ({"scores": LOGITS.astype(object)}, "plain numbers; write it with numpy.save"),
        ],
    )
    def test_refuses_other_content(
        self, tmp_path: Path, entries: dict[str, np.ndarray], message: str
    ) -> None:
        np.savez(tmp_path / "x.npz", **entries)
        with pytest.raises(ValueError, match=message):
            load_scores(tmp_path / "x.npz")

    def test_refuses_integers(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros((2, 3, 3), np.uint8))
        with pytest.raises(TypeError, match=r"floating-point numbers, got uint8; convert"):
            load_scores(tmp_path / "x.npy")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
    def test_refuses_what_is_not_finite_in_float32(self, tmp_path: Path, bad: float) -> None:
        values = LOGITS.astype(np.float64)
        values[1, 2, 3] = bad
        np.save(tmp_path / "x.npy", values)
        with pytest.raises(ValueError, match="1 of 60 are NaN or infinite"):
            load_scores(tmp_path / "x.npy")

    def test_refuses_a_file_cut_short(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", scores=LOGITS)
        whole = (tmp_path / "x.npz").read_bytes()
        (tmp_path / "x.npz").write_bytes(whole[:100])
        with pytest.raises(ValueError, match="not a complete"):
            load_scores(tmp_path / "x.npz")

    def test_refuses_a_file_of_another_kind(self, tmp_path: Path) -> None:
        (tmp_path / "x.npy").write_text("no numbers")
        with pytest.raises(ValueError, match=r"numpy\.save"):
            load_scores(tmp_path / "x.npy")

    def test_a_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load_scores(tmp_path / "x.npy")


class TestScoreKind:
    def test_negative_values_are_logits(self) -> None:
        assert score_kind(np.array([[[1.25]], [[-0.25]]])) == "logits"

    def test_one_point_with_another_sum_makes_logits(self) -> None:
        values = softmax(LOGITS)
        values[:, 2, 2] *= 1.02
        assert score_kind(values) == "logits"

    def test_probabilities_rounded_to_float16_stay_probabilities(self) -> None:
        assert score_kind(softmax(LOGITS).astype(np.float16)) == "probabilities"


class TestUpsample:
    def test_pixel_centres_are_aligned_by_default(self) -> None:
        grid = np.array([[[0.0, 3.0]]])
        # Pixel x lies at (x + 0.5) / 3 - 0.5: the outer ones beyond the outermost grid points.
        expected = [0.0, 0.0, 1.0, 2.0, 3.0, 3.0]
        np.testing.assert_allclose(upsample(grid, (1, 6))[0, 0], expected, rtol=ROUNDING, atol=1e-6)

    def test_scale_and_offset_place_the_pixels(self) -> None:
        grid = np.array([[[0.0, 2.0, 8.0]]])
        pixels = upsample(grid, (1, 4), scale=0.5, offset=0.25)[0, 0]
        np.testing.assert_allclose(pixels, [0.5, 1.5, 3.5, 6.5], rtol=ROUNDING)

    def test_rows_and_columns_are_independent(self) -> None:
        rows, columns = np.array([1.0, 4.0]), np.array([2.0, 3.0, 7.0])
        both = upsample(np.outer(rows, columns)[None], (5, 9))[0]
        along_rows = upsample(rows.reshape(1, 2, 1), (5, 1))[0, :, 0]
        along_columns = upsample(columns.reshape(1, 1, 3), (1, 9))[0, 0]
        np.testing.assert_allclose(both, np.outer(along_rows, along_columns), rtol=ROUNDING)

    def test_a_constant_stays_exactly(self) -> None:
        values = np.full((2, 3, 3), 0.1, np.float32)
        assert np.unique(upsample(values, (17, 11))).tolist() == [np.float32(0.1)]

    def test_the_same_size_gives_an_equal_copy(self) -> None:
        result = upsample(LOGITS, (4, 5))
        np.testing.assert_array_equal(result, LOGITS)
        assert not np.shares_memory(result, LOGITS)

    def test_one_grid_point_fills_the_image(self) -> None:
        np.testing.assert_array_equal(upsample(np.full((1, 1, 1), 2.5), (3, 2)), 2.5)

    def test_a_read_only_strided_view_is_accepted_and_kept(self) -> None:
        values = np.asfortranarray(LOGITS)[:, ::-1]
        values.flags.writeable = False
        np.testing.assert_array_equal(upsample(values, (4, 5)), LOGITS[:, ::-1])

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"shape": (3, 9)}, r"4 x 5 points, more than the image's 3 x 9 pixels"),
            ({"shape": (0, 9)}, r"\(height, width\), both at least 1, got \(0, 9\)"),
            ({"shape": (9, 9, 3)}, r"pass image.shape\[:2\]"),
            ({"shape": (9, 9), "offset": 0.5}, r"offset=0.5 was given without scale"),
            ({"shape": (9, 9), "scale": 0.0}, r"scale must be positive"),
            ({"shape": (9, 9), "scale": np.nan}, r"scale must be positive"),
            ({"shape": (9, 9), "scale": 1.0}, r"grid positions 0 to 8, but .* 0 to 3"),
            ({"shape": (4, 5), "scale": 0.5, "offset": -1.5}, r"positions -1.5 to 0, but"),
        ],
    )
    def test_refuses(self, keywords: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            upsample(LOGITS, **keywords)  # type: ignore[arg-type]


class TestToProbabilities:
    def test_logits_go_through_softmax(self) -> None:
        result = to_probabilities(LOGITS)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, softmax(LOGITS), rtol=1e-5)  # exp of up to 15 in float32

    def test_large_logits_do_not_overflow(self) -> None:
        result = to_probabilities(np.array([[[1e4]], [[-1e4]]]))
        assert result.ravel().tolist() == [1.0, 0.0]

    def test_probabilities_are_divided_by_their_sum(self) -> None:
        result = to_probabilities(np.array([[[1.0]], [[3.0]]]), "probabilities")
        assert result.ravel().tolist() == [0.25, 0.75]

    def test_probabilities_are_left_alone_by_auto(self) -> None:
        values = softmax(LOGITS).astype(np.float32)
        np.testing.assert_allclose(to_probabilities(values), values, rtol=ROUNDING)

    def test_kind_overrules_what_the_values_look_like(self) -> None:
        values = np.array([[[0.0]], [[1.0]]])
        expected = softmax(values)
        np.testing.assert_allclose(to_probabilities(values, "logits"), expected, rtol=ROUNDING)

    @pytest.mark.parametrize(
        ("values", "kind", "message"),
        [
            ([[[-0.5]], [[1.5]]], "probabilities", r"the least is -0.5; use kind='logits'"),
            ([[[0.0]], [[0.0]]], "probabilities", r"0 at a point .* they are at 1 points"),
            ([[[0.0]], [[1.0]]], "softmax", r"'auto', 'probabilities' or 'logits', got 'softmax'"),
        ],
    )
    def test_refuses(self, values: list[list[list[float]]], kind: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            to_probabilities(values, kind)  # type: ignore[arg-type]


class TestImageProbabilities:
    def test_logits_are_upsampled_before_the_softmax(self) -> None:
        grid = np.array([[[0.0, 0.0]], [[-8.0, 8.0]]], np.float32)
        result = image_probabilities(Scores(grid), (1, 4))
        expected = 1 / (1 + np.exp([8.0, 4.0, -4.0, -8.0]))
        np.testing.assert_allclose(result[1, 0], expected, rtol=1e-5)

    def test_probabilities_are_upsampled_as_they_are(self) -> None:
        grid = np.array([[[0.0, 1.0]], [[1.0, 0.0]]], np.float32)
        result = image_probabilities(Scores(grid), (1, 4))
        np.testing.assert_allclose(result[0, 0], [0, 0.25, 0.75, 1], rtol=ROUNDING)

    def test_the_kind_is_told_on_the_grid(self) -> None:
        # At the two pixels of the image, between the grid's points, the sums are 1 by chance.
        grid = np.array([[[0.0, 0.0, 0.0]], [[1.5, 0.5, 1.5]]], np.float32)
        result = image_probabilities(Scores(grid, 1.0, 0.5), (1, 2))
        np.testing.assert_allclose(result[1, 0], 1 / (1 + np.exp(-1)), rtol=ROUNDING)

    def test_uses_the_scores_own_placement(self) -> None:
        grid = np.array([[[0.0, 1.0]], [[1.0, 0.0]]], np.float32)
        result = image_probabilities(Scores(grid, 0.5, 0.0), (1, 3))
        np.testing.assert_allclose(result[0, 0], [0.0, 0.5, 1.0], rtol=ROUNDING)
