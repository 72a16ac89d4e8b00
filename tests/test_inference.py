"""How an inference runs: callbacks, early stops, own steps, interruption, bits, threads."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import densefield as df
from densefield import reference

Array = NDArray[Any]
GRID = (20, 30)
KERNELS = [
    df.Gaussian(sigma_space=2, weight=1),
    df.Bilateral(sigma_space=9, sigma_color=20, weight=2),
]


def make_problem(labels: int = 4, grid: tuple[int, ...] = GRID) -> tuple[Array, Array]:
    rng = np.random.default_rng(labels)
    unary = rng.uniform(0, 3, size=(labels, *grid)).astype(np.float32)
    return unary, rng.integers(0, 256, size=(*grid, 3), dtype=np.uint8)


def collect(seen: list[Array], stop_at: int | None = None) -> Callable[[int, Array], bool]:
    def callback(iteration: int, q: Array) -> bool:
        seen.append(q)
        assert iteration == len(seen)
        return iteration == stop_at

    return callback


# Callbacks and early stops


@pytest.mark.usefixtures("backend")
def test_callback_sees_what_fewer_iterations_give() -> None:
    unary, image = make_problem()
    seen: list[Array] = []
    df.DenseCRF(KERNELS, iterations=3).infer(unary, image, callback=collect(seen))
    for iterations, q in enumerate(seen, start=1):
        expected = df.DenseCRF(KERNELS, iterations=iterations).infer(unary, image)
        np.testing.assert_array_equal(q, expected)
    assert len(seen) == 3


def test_callback_can_stop() -> None:
    unary, image = make_problem()
    seen: list[Array] = []
    q = df.DenseCRF(KERNELS, iterations=9).infer(unary, image, callback=collect(seen, stop_at=2))
    assert len(seen) == 2
    np.testing.assert_array_equal(q, seen[-1])


def test_what_a_callback_does_to_its_marginals_changes_nothing() -> None:
    unary, image = make_problem()
    crf = df.DenseCRF(KERNELS, iterations=3)
    q = crf.infer(unary, image, callback=lambda _, q: q.fill(np.nan))
    np.testing.assert_array_equal(q, crf.infer(unary, image))


def test_error_of_a_callback_reaches_the_caller_and_leaves_out_alone() -> None:
    unary, image = make_problem()
    out = np.full(unary.shape, 7, np.float32)

    def fail(_iteration: int, _q: Array) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        df.DenseCRF(KERNELS).infer(unary, image, callback=fail, out=out)
    np.testing.assert_array_equal(out, 7)


def test_callback_may_infer_itself() -> None:
    unary, image = make_problem()
    crf = df.DenseCRF(KERNELS, iterations=2)
    inner: list[Array] = []
    q = crf.infer(unary, image, callback=lambda _i, _q: inner.append(crf.infer(unary, image)))
    np.testing.assert_array_equal(inner[0], q)
    np.testing.assert_array_equal(inner[1], q)


@pytest.mark.usefixtures("backend")
def test_tolerance_stops_when_no_marginal_changes_by_more() -> None:
    unary, image = make_problem()
    seen: list[Array] = []
    crf = df.DenseCRF(KERNELS, iterations=100, tolerance=1e-3)
    q = crf.infer(unary, image, callback=collect(seen))
    changes = [float(np.abs(b - a).max()) for a, b in itertools.pairwise(seen)]
    assert 2 < len(seen) < 100
    assert changes[-1] <= 1e-3 < min(changes[:-1])
    np.testing.assert_array_equal(q, seen[-1])


def test_tolerance_alone_gives_the_marginals_it_stopped_at() -> None:
    unary, image = make_problem()
    seen: list[Array] = []
    crf = df.DenseCRF(KERNELS, iterations=100, tolerance=1e-3)
    crf.infer(unary, image, callback=collect(seen))
    np.testing.assert_array_equal(crf.infer(unary, image), seen[-1])


# Own steps


@pytest.mark.usefixtures("backend")
def test_own_steps_give_what_infer_gives() -> None:
    unary, image = make_problem()
    inference = df.DenseCRF(KERNELS).start(unary, image)
    for _ in range(3):
        inference.step()
    assert inference.iteration == 3
    expected = df.DenseCRF(KERNELS, iterations=3).infer(unary, image)
    np.testing.assert_array_equal(inference.q, expected)


def test_step_returns_the_largest_change() -> None:
    unary, image = make_problem()
    inference = df.DenseCRF(KERNELS).start(unary, image)
    before = inference.q
    change = inference.step()
    assert change == pytest.approx(float(np.abs(inference.q - before).max()), rel=1e-6)


@pytest.mark.parametrize("label_axis", [0, 1, -1])
@pytest.mark.usefixtures("backend")
def test_assigned_marginals_are_gone_on_from(label_axis: int) -> None:
    unary, image = make_problem()
    moved = np.moveaxis(unary, 0, label_axis)
    first = df.DenseCRF(KERNELS).start(moved, image, label_axis=label_axis)
    first.step()
    second = df.DenseCRF(KERNELS).start(moved, image, label_axis=label_axis)
    second.q = first.q
    np.testing.assert_array_equal(second.q, first.q)
    first.step(), second.step()
    np.testing.assert_array_equal(second.q, first.q)


def test_assigned_marginals_are_copied() -> None:
    unary, image = make_problem()
    inference = df.DenseCRF(KERNELS).start(unary, image)
    mine = inference.q
    inference.q = mine
    mine.fill(np.nan)
    assert np.isfinite(inference.q).all()


# Bits


@pytest.mark.usefixtures("backend")
def test_inference_has_the_same_bits_from_run_to_run() -> None:
    unary, image = make_problem(21, (100, 130))
    crf = df.DenseCRF(KERNELS, iterations=3)
    np.testing.assert_array_equal(crf.infer(unary, image), crf.infer(unary, image))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inference_has_the_same_bits_on_any_number_of_threads(dtype: type) -> None:
    unary, image = make_problem(21, (100, 130))
    results = []
    for threads in (1, 2, 5):
        with df.num_threads(threads):
            results.append(df.DenseCRF(KERNELS, iterations=3).infer(unary.astype(dtype), image))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize("what", ["kl_divergence", "energy"])
def test_sums_have_the_same_bits_on_any_number_of_threads(what: str) -> None:
    unary, image = make_problem(5, (100, 130))
    crf = df.DenseCRF(KERNELS, iterations=1)
    q = crf.infer(unary, image)
    argument = q if what == "kl_divergence" else q.argmax(axis=0)
    results = set()
    for threads in (1, 2, 5):
        with df.num_threads(threads):
            results.add(getattr(crf, what)(argument, unary, image))
    assert len(results) == 1


# Prepared models


def test_a_prepared_model_serves_any_number_of_unaries() -> None:
    unary, image = make_problem(4)
    other, _ = make_problem(7)
    crf = df.DenseCRF(KERNELS)
    prepared = crf.prepare(image)
    for u in (unary, other, unary):
        np.testing.assert_array_equal(prepared.infer(u), crf.infer(u, image))


def test_a_prepared_model_serves_threads_at_once() -> None:
    image = make_problem()[1]
    prepared = df.DenseCRF(KERNELS, iterations=4).prepare(image)
    unaries = [make_problem(labels)[0] for labels in (2, 9, 21, 40)]
    expected = [prepared.infer(u) for u in unaries]
    start = threading.Barrier(4)

    def infer(unary: Array) -> list[Array]:
        start.wait()
        return [prepared.infer(unary) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for results, wanted in zip(pool.map(infer, unaries), expected, strict=True):
            for q in results:
                np.testing.assert_array_equal(q, wanted)


def test_a_prepared_model_tells_the_size_of_its_lattices() -> None:
    prepared = df.DenseCRF(KERNELS).prepare(make_problem()[1])
    assert [(lattice.num_points, lattice.dim) for lattice in prepared.lattices] == [
        (600, 2),
        (600, 5),
    ]
    assert prepared.nbytes > sum(lattice.nbytes for lattice in prepared.lattices)


# The process


INTERRUPTED = """
import os, signal, threading, time
import numpy as np, densefield as df
unary = np.random.default_rng(0).random((21, 60, 60), np.float32)
# A process that was started in the background ignores Ctrl-C unless told otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
started = threading.Event()
def interrupt():
    started.wait()
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
prepared = df.DenseCRF([df.Gaussian(sigma_space=3)], iterations=10**9).prepare(shape=(60, 60))
started.set()
try:
    prepared.infer(unary)
except KeyboardInterrupt:
    print("stopped")
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_ctrl_c_stops_between_updates() -> None:
    # 1e9 updates would take days: only the interrupt ends this within the limit of run().
    assert run(INTERRUPTED).stdout == "stopped\n"


def test_import_is_silent_and_brings_in_nothing_large() -> None:
    large = "{'torch', 'jax', 'PIL', 'click', 'tqdm', 'scipy', 'threadpoolctl'}"
    finished = run(f"import densefield, sys; assert not {large} & set(sys.modules)")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


# Scores


def test_scores_are_what_the_last_softmax_is_taken_of() -> None:
    rng = np.random.default_rng(3)
    unary, matrix = rng.normal(size=(3, 6, 7)), rng.normal(size=(3, 3))
    kernel = df.Gaussian(sigma_space=1, method="lattice", normalization="none")
    options: Any = {"compatibility": matrix, "iterations": 4}
    scores = df.DenseCRF([kernel], **options, output="scores").infer(unary)
    q = df.DenseCRF([kernel], **{**options, "iterations": 3}).infer(unary)
    lattice = df.PermutohedralLattice(reference.grid_positions((6, 7)))
    message = lattice.filter(q.reshape(3, -1).T).T.reshape(3, 6, 7)
    expected = -unary - np.einsum("lk,kyx->lyx", matrix, message)
    # Sums of float64 of size 10.
    np.testing.assert_allclose(scores, expected, atol=1e-13)


def test_scores_without_iterations_are_minus_the_unary() -> None:
    unary = np.random.default_rng(3).normal(size=(3, 6))
    crf = df.DenseCRF([df.Gaussian(sigma_space=1)], iterations=0, output="scores")
    np.testing.assert_array_equal(crf.infer(unary), -unary)


@pytest.mark.parametrize("options", [{"tolerance": 0.1}, {}])
def test_scores_exclude_what_looks_at_marginals(options: Any) -> None:
    crf = df.DenseCRF([], output="scores", **options)
    callback = None if options else lambda iteration, q: False
    with pytest.raises(ValueError, match="output='scores' excludes a callback and tolerance"):
        crf.infer(np.zeros((2, 3)), callback=callback)
