"""The CUDA backend, on a device or on the emulator: what its kernels could get wrong.

That it agrees with the CPU on random problems is tests/test_backends_agree.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import densefield as df
from densefield import _densefield
from gradient_checks import assert_gradient

# Both backends round sums of up to a few hundred terms in their own order.
TOLERANCE: dict[str, float] = {"f4": 2e-5, "f8": 1e-12}


def assert_filters_agree(features: Any, values: Any, device: Any, dtype: str = "f8") -> None:
    """Compare filter, transpose and diagonal of a lattice with the CPU's."""
    features, values = np.asarray(features, dtype), np.asarray(values, dtype)
    cpu = df.PermutohedralLattice(features, device="cpu")
    cuda = df.PermutohedralLattice(features, device=device)
    assert cuda.num_vertices == cpu.num_vertices
    tolerance = TOLERANCE[dtype]
    for transpose in (False, True):
        expected = cpu.filter(values, transpose=transpose)
        scale = float(np.abs(expected).max(initial=1e-300))
        result = cuda.filter(values, transpose=transpose)
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(cuda.diagonal(), cpu.diagonal(), rtol=tolerance)


@pytest.mark.parametrize("num_channels", [1, 3, 16, 17, 21, 64, 150])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_any_number_of_channels(num_channels: int, dtype: str, device: Any) -> None:
    rng = np.random.default_rng(num_channels)
    assert_filters_agree(
        rng.normal(size=(300, 5)), rng.normal(size=(300, num_channels)), device, dtype
    )


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 6, 13, 20, 32])
def test_any_number_of_dimensions(dim: int, device: Any) -> None:
    rng = np.random.default_rng(dim)
    # Wide enough for keys of one, two, four and more words.
    assert_filters_agree(50 * rng.normal(size=(60, dim)), rng.normal(size=(60, 2)), device)


@pytest.mark.parametrize("num_points", [1, 2, 31, 32, 33, 255, 256, 257, 2047, 2049])
def test_sizes_around_those_of_blocks_and_tiles(num_points: int, device: Any) -> None:
    rng = np.random.default_rng(num_points)
    assert_filters_agree(rng.normal(size=(num_points, 2)), rng.normal(size=(num_points, 3)), device)


def test_points_that_are_all_the_same(device: Any) -> None:
    values = np.random.default_rng(0).normal(size=(1000, 3))
    assert_filters_agree(np.full((1000, 3), 0.3), values, device)


def test_points_that_share_no_vertex(device: Any) -> None:
    features = 1000.0 * np.arange(200)[:, None] * np.ones(3)
    assert_filters_agree(features, np.ones((200, 2)), device)


def test_as_many_vertices_as_fill_a_power_of_two_but_one(device: Any) -> None:
    # A point at 2i in one dimension of this scale touches vertices of its own.
    for num_points in range(1, 40):
        features = 7.0 * np.arange(num_points)[:, None]
        lattice = df.PermutohedralLattice(features, device=device)
        if lattice.num_vertices in (3, 7, 15, 31, 63):
            assert_filters_agree(features, np.ones((num_points, 1)), device)


def test_same_bits_from_run_to_run(device: Any) -> None:
    rng = np.random.default_rng(3)
    unary = rng.uniform(0, 3, size=(21, 24, 31)).astype("f4")
    image = rng.integers(0, 256, size=(24, 31, 3), dtype=np.uint8)
    crf = df.DenseCRF(df.default_crf().kernels, iterations=3, device=device)
    first = crf.infer(unary, image)
    for _ in range(2):
        np.testing.assert_array_equal(crf.infer(unary, image), first)


@pytest.mark.parametrize("num_kernels", [0, 1, 6])
def test_scores_and_their_gradients(num_kernels: int, device: Any) -> None:
    rng = np.random.default_rng(num_kernels)
    unary, upstream = rng.normal(size=(2, 5, 9, 11))
    kernels = [df.Gaussian(sigma_space=1 + m) for m in range(num_kernels)]
    results = []
    for where in ("cpu", device):
        crf = df.DenseCRF(kernels, output="scores", iterations=3, device=where)
        scores, vjp = crf.infer_vjp(unary)
        np.testing.assert_array_equal(scores, crf.infer(unary))
        results.append((scores, vjp(upstream).unary))
    for ours, expected in zip(results[1], results[0], strict=True):
        # Sums of numbers of size 1, some hundred of them.
        np.testing.assert_allclose(ours, expected, atol=1e-11)


def marginals_agree(crf: Any, unary: Any, image: Any, device: Any, **options: Any) -> None:
    expected = crf(**options, device="cpu").infer(unary, image)
    result = crf(**options, device=device).infer(unary, image)
    # Marginals are at most 1; differences grow a little from update to update.
    np.testing.assert_allclose(result, expected, rtol=0, atol=10 * TOLERANCE["f4"])


@pytest.mark.parametrize("num_labels", [1, 2, 9, 150])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_marginals_of_volumes(num_labels: int, exclude_self: bool, device: Any) -> None:
    rng = np.random.default_rng(num_labels)
    unary = rng.uniform(0, 3, size=(num_labels, 6, 11, 9)).astype("f4")
    image = rng.uniform(0, 99, size=(6, 11, 9, 2)).astype("f4")
    kernels = [
        df.Gaussian(sigma_space=4, weight=1),
        df.Bilateral(sigma_space=3, sigma_color=20, weight=1),
    ]
    for model in (df.DenseCRF, df.ConvCRF):
        options = {"kernels": kernels, "exclude_self": exclude_self, "iterations": 2}
        marginals_agree(model, unary, image, device, **options)


@pytest.mark.parametrize("num_labels", [2, 4])
def test_more_kernels_than_one_launch_takes(num_labels: int, device: Any) -> None:
    rng = np.random.default_rng(5)
    unary = rng.uniform(0, 3, size=(num_labels, 9, 10)).astype("f4")
    image = rng.uniform(0, 99, size=(9, 10, 3)).astype("f4")
    mu = rng.normal(size=(num_labels, num_labels))
    kernels = [
        df.Bilateral(sigma_space=1 + k, sigma_color=20, weight=0.2, compatibility=mu * (k % 2) - k)
        for k in range(9)
    ]
    marginals_agree(df.DenseCRF, unary, image, device, kernels=kernels, iterations=2)


def test_more_labels_than_fit_shared_memory(device: Any) -> None:
    rng = np.random.default_rng(6)
    unary = rng.uniform(0, 3, size=(7000, 2, 3)).astype("f4")
    kernels = [df.Gaussian(sigma_space=1, weight=1)]
    marginals_agree(df.DenseCRF, unary, None, device, kernels=kernels, iterations=2)


@pytest.mark.parametrize("filter_size", [1, 3, 11, 41])
@pytest.mark.parametrize("shape", ["square", "diamond"])
@pytest.mark.parametrize("normalization", ["none", "before"])
def test_windows_of_any_size(filter_size: int, shape: Any, normalization: Any, device: Any) -> None:
    rng = np.random.default_rng(filter_size)
    # Wider than a tile, and not a multiple of it.
    features, values = rng.normal(size=(10, 37, 2)), rng.normal(size=(10, 37, 13))
    arguments = (features, filter_size, shape)
    cpu = df.WindowKernel(*arguments, normalization=normalization, device="cpu")
    cuda = df.WindowKernel(*arguments, normalization=normalization, device=device)
    for step in ("apply", "apply_transpose"):
        expected = getattr(cpu, step)(values)
        scale = float(np.abs(expected).max())
        result = getattr(cuda, step)(values)
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE["f8"] * scale)
    np.testing.assert_allclose(cuda.diagonal(), cpu.diagonal(), rtol=TOLERANCE["f8"])


@pytest.mark.parametrize("form", ["potts", "vector", "matrix"])
@pytest.mark.parametrize("normalization", ["symmetric", "before", "none"])
def test_gradients_are_those_of_the_cpu(form: str, normalization: Any, device: Any) -> None:
    rng = np.random.default_rng(7)
    mu: Any = {
        "potts": df.Potts(),
        "vector": rng.normal(size=3),
        "matrix": rng.normal(size=(3, 3)),
    }[form]
    kernels = [
        df.Gaussian(sigma_space=4, weight=0.5),
        df.Bilateral(sigma_space=3, sigma_color=20, weight=0.4),
    ]
    unary, grad = rng.uniform(0, 3, size=(2, 3, 9, 10))
    image = rng.uniform(0, 99, size=(9, 10, 3))
    gradients = []
    for where in ("cpu", device):
        options = {"normalization": normalization, "exclude_self": True, "iterations": 3}
        crf = df.DenseCRF(kernels, compatibility=mu, device=where, **options)
        gradients.append(crf.infer_vjp(unary, image)[1](grad))
    expected, result = gradients
    # Sums of a few hundred products, three updates deep.
    for name in ("unary", "image", "weights", "compatibility"):
        assert_gradient(getattr(result, name), getattr(expected, name), 1e-10)
    for own, of_cpu in zip(result.sigmas, expected.sigmas, strict=True):
        assert_gradient(own.sigma_space, of_cpu.sigma_space, 1e-10)
    assert_gradient(result.sigmas[1].sigma_color, expected.sigmas[1].sigma_color, 1e-10)


@pytest.mark.parametrize("filter_size", [3, 11, 41])
@pytest.mark.parametrize("shape", ["square", "diamond"])
def test_vjp_of_windows_of_any_size(filter_size: int, shape: Any, device: Any) -> None:
    rng = np.random.default_rng(filter_size)
    # Wider than a tile, not a multiple of it, and more channels than a block takes at a time.
    features, values, grad = (rng.normal(size=(10, 37, n)) for n in (2, 13, 13))
    arguments, options = (features, filter_size, shape), {"normalization": "before"}
    expected = df.WindowKernel(*arguments, **options, device="cpu").vjp(values, grad)
    result = df.WindowKernel(*arguments, **options, device=device).vjp(values, grad)
    for own, of_cpu in zip(result, expected, strict=True):
        assert_gradient(own, of_cpu, 1e-10)  # sums of up to a few thousand products


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization": "none", "downsampling": 2},
        {"normalization": "after", "downsampling": 2},
    ],
)
def test_gradients_of_windows_are_those_of_the_cpu(options: Any, device: Any) -> None:
    rng = np.random.default_rng(9)
    grid = (3, 5, 6)
    unary, grad = rng.uniform(0, 3, size=(2, 3, *grid))
    image = rng.uniform(0, 99, size=(*grid, 5))  # more channels than a thread takes at a time
    kernels = [
        df.Gaussian(sigma_space=4, weight=0.05),
        df.Bilateral(sigma_space=3, sigma_color=50, weight=0.04),
    ]
    options = {"exclude_self": True, "iterations": 2, "filter_size": 3} | options
    options["compatibility"] = rng.normal(size=(3, 3))
    expected, result = (
        df.ConvCRF(kernels, device=where, **options).infer_vjp(unary, image)[1](grad)
        for where in ("cpu", device)
    )
    # Sums of a few hundred products, two updates deep.
    for name in ("unary", "image", "weights", "compatibility"):
        assert_gradient(getattr(result, name), getattr(expected, name), 1e-10)
    for own, of_cpu in zip(result.sigmas, expected.sigmas, strict=True):
        assert_gradient(own.sigma_space, of_cpu.sigma_space, 1e-10)
    assert_gradient(result.sigmas[1].sigma_color, expected.sigmas[1].sigma_color, 1e-10)


@pytest.mark.parametrize("stride", [2, -1])
def test_strided_arrays(stride: int, device: Any) -> None:
    rng = np.random.default_rng(8)
    unary = rng.uniform(0, 3, size=(3, 16, 20)).astype("f4")[:, ::stride, ::stride]
    image = rng.uniform(0, 99, size=(*unary.shape[1:], 6)).astype("f4")[..., ::2]
    out = np.zeros((*unary.shape[1:], 6), "f4")[..., ::2]
    kernels = [df.Bilateral(sigma_space=3, sigma_color=20, weight=1)]
    expected = df.DenseCRF(kernels, device="cpu").infer(unary, image)
    df.DenseCRF(kernels, device=device).infer(
        np.moveaxis(unary, 0, -1), image, label_axis=-1, out=out
    )
    np.testing.assert_allclose(np.moveaxis(out, -1, 0), expected, atol=10 * TOLERANCE["f4"])


def test_what_exceeds_the_device_says_how_much_is_needed_and_leaves_it_usable(device: Any) -> None:
    huge = np.broadcast_to(np.float32(0), (10**14, 2))
    with pytest.raises(MemoryError, match=r"on the device: .* bytes"):
        df.PermutohedralLattice(huge, check_finite=False, device=device)
    lattice = df.PermutohedralLattice(np.zeros((5, 2)), device=device)
    assert lattice.filter(np.ones((5, 1))).shape == (5, 1)


def test_the_device_of_a_thread_wins_and_is_given_back(device: Any) -> None:
    before = _densefield.device()
    previous = _densefield.set_device_here(device)
    try:
        assert _densefield.device() == device
    finally:
        _densefield.set_device_here(previous)
    assert _densefield.device() == before


def test_devices_that_cannot_be_used_say_why() -> None:
    problem = _densefield.device_problem("cuda")
    if not problem:
        pytest.skip("there is a CUDA device")
    assert df.system_info()["cuda"] is False
    assert df.system_info()["cuda_reason"] == problem
    with pytest.raises(RuntimeError, match="was asked for, but") as error:
        df.PermutohedralLattice(np.zeros((1, 1)), device="cuda")
    assert "use device='cpu'" in str(error.value)


@pytest.mark.parametrize("make", [df.DenseCRF, df.ConvCRF, df.PermutohedralLattice])
def test_unknown_devices_are_errors(make: Any) -> None:
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'"):
        make(np.zeros((1, 1)) if make is df.PermutohedralLattice else [], device="gpu")
    with pytest.raises(TypeError, match="device must be 'cpu', 'cuda' or 'cuda:N', got int"):
        make(np.zeros((1, 1)) if make is df.PermutohedralLattice else [], device=0)


def test_models_remember_their_device() -> None:
    assert df.DenseCRF([], device="cpu").device == "cpu"
    assert "device='cpu'" in repr(df.ConvCRF([], device="cpu"))
