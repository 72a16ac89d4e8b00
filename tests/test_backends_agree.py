"""Random problems: all backends give the same numbers, and those of the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import densefield as df
from conftest import BACKENDS, Backend, reason_to_skip, running_on
from densefield import reference

Array = NDArray[Any]
FUZZ = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

# Levels fold sums over 4 to 16 lanes in their own order: a few hundred roundings.
TOLERANCE = {"f8": 1e-11, "f4": 5e-5}


def results_of(compute: Any) -> dict[Backend, Array]:
    """Compute on every backend that is there."""
    results = {}
    for backend in BACKENDS:
        if reason_to_skip(backend) is None:
            with running_on(backend):
                results[backend] = compute()
    return results


def assert_agreement(results: dict[Backend, Array], scale: float, tolerance: float) -> None:
    first = next(iter(results.values()))
    for backend, result in results.items():
        difference = float(np.abs(result - first).max(initial=0.0))
        assert difference <= tolerance * scale, f"{backend} differs by {difference}"


def test_there_is_more_than_one_backend_to_compare() -> None:
    assert sum(reason_to_skip(backend) is None for backend in BACKENDS) >= 2


@FUZZ
@given(
    seed=st.integers(0, 2**32 - 1),
    num_points=st.integers(1, 400),
    dim=st.integers(1, 10),
    channels=st.integers(1, 40),
    log_spread=st.floats(-3, 5),
    transpose=st.booleans(),
)
def test_lattices_agree(
    seed: int, num_points: int, dim: int, channels: int, log_spread: float, transpose: bool
) -> None:
    rng = np.random.default_rng(seed)
    features = 10**log_spread * rng.normal(size=(num_points, dim))
    values = rng.normal(size=(num_points, channels))
    results = results_of(
        lambda: df.PermutohedralLattice(features).filter(values, transpose=transpose)
    )
    expected = reference.Lattice(features).filter(values, transpose=transpose)
    scale = float(np.abs(expected).max())
    # Features of 1e5 leave weights of 1e-11.
    tolerance = max(TOLERANCE["f8"], 1e-15 * 10**log_spread)
    assert_agreement(results, scale, tolerance)
    assert np.abs(next(iter(results.values())) - expected).max() <= tolerance * scale


@FUZZ
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    labels=st.integers(1, 40),
    channels=st.integers(1, 5),
    normalization=st.sampled_from(["none", "before", "after", "symmetric"]),
    form=st.sampled_from(["potts", "vector", "matrix"]),
    method=st.sampled_from(["grid", "lattice"]),
    exclude_self=st.booleans(),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_marginals_agree(
    seed: int,
    grid: list[int],
    labels: int,
    channels: int,
    normalization: Any,
    form: str,
    method: Any,
    exclude_self: bool,
    dtype: str,
) -> None:
    rng = np.random.default_rng(seed)
    mu: Any = {
        "potts": df.Potts(),
        "vector": rng.normal(size=labels),
        "matrix": rng.normal(size=(labels, labels)) / labels,
    }[form]
    kernels = [
        df.Gaussian(sigma_space=rng.uniform(0.5, 9), weight=0.3, method=method),
        df.Bilateral(sigma_space=rng.uniform(1, 9), sigma_color=20, weight=0.5),
    ]
    crf = df.DenseCRF(
        kernels,
        compatibility=mu,
        normalization=normalization,
        iterations=2,
        exclude_self=exclude_self,
    )
    unary = rng.uniform(0, 3, size=(labels, *grid)).astype(dtype)
    image = rng.uniform(0, 60, size=(*grid, channels)).astype(dtype)
    results = results_of(lambda: crf.infer(unary, image))
    assert_agreement(results, 1.0, TOLERANCE[dtype])
    first = next(iter(results.values()))
    # Marginals are a distribution: 40 roundings of float32.
    np.testing.assert_allclose(first.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_threads_of_one_level_give_the_same_bits(dtype: str) -> None:
    rng = np.random.default_rng(0)
    unary = rng.uniform(0, 3, size=(21, 90, 110)).astype(dtype)
    image = rng.integers(0, 256, size=(90, 110, 3), dtype=np.uint8)
    results = results_of(lambda: df.default_crf().infer(unary, image))
    of_level: dict[tuple[str, str], Array] = {}
    for backend, q in results.items():
        np.testing.assert_array_equal(
            q, of_level.setdefault((backend.device, backend.simd_level), q)
        )
