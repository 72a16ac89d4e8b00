"""The benchmark suite: what it computes and writes. No time is asserted anywhere."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jsonschema = pytest.importorskip("jsonschema", reason="the extra 'test' is not installed")
pytest.importorskip("PIL.Image", reason="the extra 'cli' is not installed")

from benchmarks import (  # noqa: E402
    claims,
    costs,
    exact,
    inputs,
    peaks,
    results_file,
    tables,
)
from benchmarks.cases import GROUPS  # noqa: E402
from benchmarks.comparison import (  # noqa: E402
    Comparison,
    Contender,
    MemoryUse,
    Settings,
    Skipped,
    measure,
)
from densefield import reference  # noqa: E402
from densefield.cli.timing import Timing, take_turns  # noqa: E402

QUICK = Settings(threads=(1, 2), rounds=1, quick=True)
PEAKS = {
    threads: peaks.Peak(threads, 10.0 * threads, 100.0 * threads, 32.0, 3.1, "made up")
    for threads in (1, 2)
}


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(results_file.SCHEMA.read_text())
    return found


def check(content: dict[str, Any]) -> None:
    # Through text, so that what is checked is what a file would hold.
    jsonschema.validate(json.loads(json.dumps(content)), schema())


def small_run() -> results_file.Run:
    """Two contenders that do nothing, with everything that a row can hold."""
    contenders = [
        Contender("theirs", 1, lambda: None, lambda: 0.5, lambda _: np.array([0, 1])),
        Contender("ours", 1, lambda: None, lambda: 0.25, lambda _: np.array([0, 0])),
        Contender("ours", 2, lambda: None, lambda: 0.25, lambda _: np.array([0, 0])),
    ]
    comparison = Comparison(
        "group/task", "input", {"points": 7}, contenders, costs.Cost(100, 10), "what", "theirs"
    )
    run = results_file.Run(QUICK, list(PEAKS.values()))
    run.rows, _ = measure(comparison, QUICK, PEAKS)
    run.memory = [MemoryUse("memory/task", "ours", {"points": 7}, 1.5, 2.5)]
    run.skipped = [Skipped("group", "absent", "it is not installed")]
    return run


class TestTiming:
    def test_everything_runs_before_anything_is_timed(self) -> None:
        calls: list[str] = []
        runs = {name: lambda name=name: calls.append(name) for name in "abc"}
        take_turns(runs, rounds=1, seconds_per_sample=0)
        assert set(calls[:3]) == set("abc")

    def test_runs_take_turns_and_the_order_rotates(self) -> None:
        calls: list[str] = []
        runs = {name: lambda name=name: calls.append(name) for name in "abc"}
        take_turns(runs, rounds=3, seconds_per_sample=0)
        assert "".join(calls[-9:]) == "abcbcacab"

    def test_short_runs_are_called_several_times_in_a_sample(self) -> None:
        timing = take_turns({"a": lambda: None}, rounds=2, seconds_per_sample=1e-3)["a"]
        assert timing.calls_per_sample > 1
        assert len(timing.seconds) == 2

    def test_median_and_range_are_those_of_the_rounds(self) -> None:
        timing = Timing((4.0, 1.0, 2.0, 3.0, 5.0), 1)
        assert timing.median == 3
        assert timing.iqr_percent == pytest.approx(100 * 2 / 3)

    def test_no_rounds_are_refused(self) -> None:
        with pytest.raises(ValueError, match="rounds must be 1 or more, got 0"):
            take_turns({}, rounds=0)

    def test_what_is_taken_off_is_taken_off_round_by_round(self) -> None:
        longer = Timing((5.0, 9.0, 2.0), 3).less(Timing((1.0, 6.0, 3.0), 1))
        assert longer == Timing((4.0, 3.0, -1.0), 3)
        assert longer.median == 3.0


class TestCosts:
    def test_a_splat_reads_values_and_corners_and_writes_vertices(self) -> None:
        size = costs.LatticeSize.of(points=10, dim=2, vertices=4)
        cost = costs.splat(size, channels=3)
        assert cost.bytes == 4 * 3 * (10 + 4) + 6 * 10 * 3
        assert cost.operations == 2 * 10 * 3 * 3

    def test_a_spatial_kernel_on_its_grid_reads_no_tables(self) -> None:
        size = costs.LatticeSize(points=10, dim=2, vertices=4, corners=4, is_on_grid=True)
        assert costs.splat(size, channels=3).bytes == 4 * 3 * (10 + 4)
        assert costs.blur(size, channels=3).bytes == 2 * 4 * 3 * 4

    def test_a_filter_costs_its_three_steps(self) -> None:
        size = costs.LatticeSize.of(points=10, dim=2, vertices=4)
        steps = costs.splat(size, 3) + costs.blur(size, 3) + costs.slicing(size, 3)
        assert costs.lattice_filter(size, 3) == steps

    def test_every_update_of_a_dense_crf_costs_the_same(self) -> None:
        sizes = [costs.LatticeSize.of(points=10, dim=2, vertices=4)]
        one, two, three = (costs.updates(sizes, 3, count) for count in (1, 2, 3))
        assert three.bytes - two.bytes == two.bytes - one.bytes > 0
        assert three.operations - two.operations == two.operations - one.operations > 0

    def test_gradients_to_features_filter_the_marginals_again(self) -> None:
        sizes = [costs.LatticeSize.of(points=10, dim=2, vertices=4)]
        some = costs.backward(sizes, 3, 1, to_features=False)
        every = costs.backward(sizes, 3, 1, to_features=True)
        filtered = costs.blur(sizes[0], 3).operations + 2 * 2 * 10 * 3 * 3
        assert every.operations - some.operations == filtered

    def test_a_window_message_does_two_operations_per_tap_node_and_label(self) -> None:
        assert costs.window_message(nodes=10, taps=49, labels=21).operations == 2 * 10 * 49 * 21

    def test_the_floor_is_the_larger_of_bytes_and_operations(self) -> None:
        assert costs.Cost(bytes=10, operations=4).floor_seconds(5, 1) == 4
        assert costs.Cost(bytes=30, operations=4).floor_seconds(5, 1) == 6


class TestExactSums:
    def test_they_are_those_of_the_reference(self) -> None:
        rng = np.random.default_rng(3)
        features, values = rng.normal(size=(40, 3)), rng.random((40, 2))
        nodes = exact.sample_nodes(40)
        ones = np.ones((40, 1))
        whole = reference.exact_filter(values, features) / reference.exact_filter(ones, features)
        found = exact.normalized_sums(features, values, nodes)
        # Distances are taken by a matrix product here: a few digits of float64 are lost.
        np.testing.assert_allclose(found, whole[nodes], rtol=1e-12)

    def test_one_update_is_that_of_the_reference(self) -> None:
        rng = np.random.default_rng(4)
        features, unary = rng.normal(size=(40, 3)), rng.random((3, 40))
        nodes = exact.sample_nodes(40)
        operator = reference.exact_operator(features, mode="after")
        potts = 2.5 * reference.potts(3)
        expected = reference.mean_field(unary, [operator], [potts], iterations=1)[-1]
        found = exact.one_update(unary, [(features, 2.5)], nodes)
        np.testing.assert_allclose(found, expected[:, nodes].T, rtol=1e-11)

    def test_unsure_nodes_are_those_of_the_smallest_margin(self) -> None:
        unary = np.zeros((3, 100))
        unary[0] = -np.arange(100)
        assert exact.unsure_nodes(unary).tolist() == list(range(10))


class TestPeaks:
    @pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
    def test_the_multiply_add_loop_computes_its_sums(self, tmp_path: Path) -> None:
        native = peaks.compile_peaks(tmp_path, "base")
        assert native is not None
        # Each of the twelve sums starts at 1/4 and halves its distance to 1/2 in every round.
        assert native.multiply_add(0) == 12 * 0.25
        assert native.multiply_add(100) == 12 * 0.5

    @pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
    def test_the_chain_adds_eight_per_step(self, tmp_path: Path) -> None:
        native = peaks.compile_peaks(tmp_path, "base")
        assert native is not None
        assert native.chain(5) == 1 + 8 * 5


class TestRows:
    def test_shares_and_floor_follow_from_cost_and_peaks(self) -> None:
        row = small_run().rows[1]
        seconds = 1e-3 * row.median_ms
        assert row.copy_share == pytest.approx(100 / seconds / 10e9)
        assert row.peak_share == pytest.approx(10 / seconds / 100e9)
        assert row.floor_ms == pytest.approx(1e3 * max(100 / 10e9, 10 / 100e9))

    def test_ratios_refer_to_the_baseline_on_no_more_threads(self) -> None:
        theirs, one, two = small_run().rows
        assert theirs.ratio is None
        assert one.baseline == two.baseline == "theirs, 1 thread"
        assert two.ratio == pytest.approx(theirs.median_ms / two.median_ms)

    def test_equal_labels_are_counted(self) -> None:
        assert small_run().rows[1].labels_equal == 0.5

    def test_what_takes_no_longer_than_what_is_taken_off_is_left_out(self) -> None:
        def wait() -> None:
            time.sleep(2e-3)

        def measured(ours: Callable[[], None], copy: Callable[[], None]) -> Any:
            contenders = [Contender("ours", 1, ours), Contender("copy", 1, copy)]
            return measure(Comparison("group/task", "", {}, contenders, less="copy"), QUICK, PEAKS)

        rows, left_out = measured(lambda: None, wait)
        assert rows == []
        assert left_out[0].reason.startswith("no slower than copy")
        rows, left_out = measured(wait, lambda: None)
        assert [row.contender for row in rows] == ["ours"]
        assert left_out == []


class TestResultsFile:
    def test_a_run_fits_the_schema(self) -> None:
        check(small_run().as_json())

    def test_the_schema_is_one(self) -> None:
        jsonschema.Draft202012Validator.check_schema(schema())

    def test_a_ratio_without_its_baseline_does_not_fit(self) -> None:
        content = small_run().as_json()
        del content["rows"][1]["baseline"]
        with pytest.raises(jsonschema.ValidationError, match="baseline"):
            check(content)

    def test_every_stored_file_fits_the_schema(self) -> None:
        for path in results_file.run_files():
            check(results_file.read(path))

    def test_a_file_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        content = small_run().as_json()
        results_file.write(tmp_path / "run.json", content)
        found = results_file.read(tmp_path / "run.json")
        assert found["skipped"] == content["skipped"]
        assert found["rows"][0]["contender"] == "theirs"

    def test_another_version_is_refused_with_the_way_out(self, tmp_path: Path) -> None:
        (tmp_path / "old.json").write_text('{"version": 0}')
        with pytest.raises(ValueError, match="measure again with python -m benchmarks"):
            results_file.read(tmp_path / "old.json")


class TestGroups:
    @pytest.mark.parametrize("name", GROUPS)
    def test_every_case_runs_and_fits_the_schema(self, name: str) -> None:
        run = results_file.Run(QUICK, list(PEAKS.values()))
        for item in GROUPS[name](QUICK):
            if isinstance(item, Skipped):
                run.skipped.append(item)
            elif isinstance(item, MemoryUse):
                run.memory.append(item)
            else:
                rows, left_out = measure(item, QUICK, PEAKS)
                run.rows += rows
                run.skipped += left_out
        assert run.rows or run.memory or run.skipped
        check(run.as_json())
        # What has an error is near the exact sum: half of everything wrong would be above this.
        assert all(row.error < 0.2 for row in run.rows if row.error is not None)


class TestInputs:
    def test_a_cut_is_the_middle_of_the_photograph(self) -> None:
        scene = inputs.shipped()
        cut = scene.resized(100, 60)
        assert cut.grid == (100, 60)
        np.testing.assert_array_equal(cut.image, scene.image[206:306, 226:286])

    def test_a_larger_scene_is_mirrored(self) -> None:
        wide = inputs.shipped().resized(8, 1024)
        photograph = inputs.shipped().image[252:260]
        np.testing.assert_array_equal(wide.image[:, :512], photograph)
        np.testing.assert_array_equal(wide.image[:, 512:], photograph[:, ::-1])

    @pytest.mark.parametrize("count", [2, 30])
    def test_another_number_of_labels_still_sums_to_one(self, count: int) -> None:
        scene = inputs.shipped().resized(20, 30).with_labels(count)
        assert scene.probabilities.shape == (count, 20, 30)
        np.testing.assert_allclose(scene.probabilities.sum(axis=0), 1, rtol=1e-6)


class TestTables:
    @pytest.mark.parametrize(
        ("value", "text"), [(None, ""), (0.0, "0"), (12.345, "12.3"), (1e-5, "1.0e-05")]
    )
    def test_figures_are_short(self, value: float | None, text: str) -> None:
        assert tables.figure(value) == text

    def test_a_page_gets_the_tables_between_its_marks(self) -> None:
        page = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
        text = tables.markdown(small_run().as_json(), "here.json")
        found = tables.replace_between_marks(page, text)
        assert found.startswith("before\n")
        assert found.endswith("\nafter\n")
        assert "here.json" in found
        assert "old" not in found

    def test_a_page_shows_each_case_on_its_first_input(self) -> None:
        rows = [
            {"case": "a/x", "input": "one"},
            {"case": "a/x", "input": "two"},
            {"case": "a/y", "input": "two"},
        ]
        assert tables.of_first_input(rows) == [rows[0], rows[2]]

    def test_a_page_without_marks_is_refused(self) -> None:
        with pytest.raises(ValueError, match="the page must hold"):
            tables.replace_between_marks("nothing", "text")

    def test_losses_are_shown_as_ratios_below_one(self) -> None:
        row = dataclasses.replace(small_run().rows[1], ratio=0.25)
        assert "theirs, 1 thread: 0.250" in tables.case_text([row.as_json()])


class TestClaims:
    def claim(self, unit: str, device: str = "a CPU") -> claims.Claim:
        return claims.Claim("name", "text", "source", device, 10, unit)

    @pytest.mark.parametrize(
        ("unit", "value", "met"), [("ms", 9.9, True), ("ms", 11, False), ("x", 11, True)]
    )
    def test_a_time_must_be_at_most_and_a_ratio_at_least(
        self, unit: str, value: float, met: bool
    ) -> None:
        assert self.claim(unit).holds(value) is met

    def test_what_was_not_measured_is_not_judged(self) -> None:
        found = claims.Measured("GPU", "what", None, "ms", None, "no GPU here")
        rows = claims.table([dataclasses.replace(self.claim("ms"), measured=[found])])
        assert rows[1][-3:] == ["n/a: no GPU here", "", "n/a"]

    def test_a_claim_for_a_gpu_met_on_a_cpu_says_so(self) -> None:
        found = claims.Measured("CPU, 1 thread", "what", 5.0, "ms", True)
        assert self.claim("ms", "a GPU").verdict(found) == "met, though not on a GPU"

    def test_all_claims_are_answered_and_written(self, tmp_path: Path) -> None:
        bench = claims.Bench((1,), rounds=1, quick=True)
        bench.run()
        written = claims.write(tmp_path, claims.answers(bench), quick=True)
        assert (tmp_path / "claims.json") in written
        content = json.loads((tmp_path / "claims.json").read_text())
        for claim in content["claims"]:
            assert claim["measured"], claim["name"]
            for found in claim["measured"]:
                assert (found["value"] is None) == bool(found["reason"])
        page = (tmp_path / "claims.md").read_text()
        assert all(claim.name in page for claim in claims.CLAIMS)
        assert "never for a figure" in page
