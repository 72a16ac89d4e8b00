"""Arrays on a device: what is refused, what runs out, and in which words."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import densefield as df
from conftest import DEVICES, Backend, reason_to_skip
from densefield import _densefield
from device_libraries import (
    KERNELS,
    MODELS,
    Interface,
    example,
    on,
    pointer_of,
)


@pytest.mark.parametrize("model", MODELS)
def test_arrays_in_different_places_are_named(model: Any, device: str) -> None:
    unary, image = example()
    text = rf"{device}:0 and {{}} on the CPU; move {{}} there .*densefield.to_device\({{}}"
    with pytest.raises(RuntimeError, match="unary and image must be on one device, got unary on"):
        model(KERNELS).infer(df.to_device(unary, device), image)
    with pytest.raises(RuntimeError, match=text.format("unary", "unary", "unary")):
        model(KERNELS).infer(unary, df.to_device(image, device))
    with pytest.raises(RuntimeError, match=text.format("out", "out", "out")):
        model(KERNELS).infer(*on(device, unary, image), out=np.empty_like(unary))


def test_devices_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason_to_skip(Backend("cuda-emulated", "base", 1)):
        pytest.skip("the emulated device is not built")
    program = """
import numpy as np
import densefield as df
unary = np.random.default_rng(0).random((3, 5, 6), "f4")
kernels = [df.Gaussian(sigma_space=1)]
expected = df.DenseCRF(kernels, device="cuda-emulated").infer(unary)
there = df.to_device(unary, "cuda-emulated:1")
result = df.DenseCRF(kernels).infer(there)
assert result.device == there.device == "cuda-emulated:1", result.device
np.testing.assert_array_equal(result.numpy(), expected)
on_second = df.DenseCRF(kernels, device="cuda-emulated:1")
np.testing.assert_array_equal(on_second.infer(unary), expected)
for call in (
    lambda: df.DenseCRF(kernels).infer(there, df.to_device(unary[0], "cuda-emulated")),
    lambda: df.DenseCRF(kernels, device="cuda-emulated").infer(there),
    lambda: df.DenseCRF(kernels, device="cuda-emulated:0").prepare(shape=(5, 6)).infer(there),
    lambda: df.DenseCRF(kernels).prepare(shape=(5, 6)).infer(there),
    lambda: df.DenseCRF(kernels, device="cuda-emulated:2").infer(unary),
):
    try:
        call()
    except RuntimeError as error:
        print(error)
"""
    monkeypatch.setenv("DENSEFIELD_EMULATION_DEVICES", "2")
    lines = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for line, wanted in zip(
        lines,
        (
            "unary on cuda-emulated:1 and image on cuda-emulated:0; move one of them with",
            "unary is on cuda-emulated:1, but device='cuda-emulated' was asked for",
            "unary is on cuda-emulated:1, but what it is to be computed with was prepared on "
            "cuda-emulated:0",
            "was prepared on cpu; prepare that with device='cuda-emulated:1'",
            "the last device that this process can use is 'cuda-emulated:1'",
        ),
        strict=True,
    ):
        assert wanted in line


def test_too_little_memory_says_how_much_is_needed_and_leaves_the_device_usable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if reason_to_skip(Backend("cuda-emulated", "base", 1)):
        pytest.skip("the emulated device is not built")
    program = """
import numpy as np
import densefield as df
small, large = (np.random.default_rng(0).random((3, n, n), "f4") for n in (8, 500))
crf = df.ConvCRF([df.Gaussian(sigma_space=1)], iterations=2)
there = df.to_device(large, "cuda-emulated")
expected = crf.infer(small)
for array in (there, large):
    model = crf if array is there else df.ConvCRF(crf.kernels, device="cuda-emulated")
    for _ in range(2):
        try:
            model.infer(array)
        except MemoryError as error:
            print(error)
        result = crf.infer(df.to_device(small, "cuda-emulated")).numpy()
        np.testing.assert_allclose(result, expected, atol=1e-6)
try:
    df.to_device(np.zeros(10**8), "cuda-emulated")
except MemoryError as error:
    print(error)
"""
    monkeypatch.setenv("DENSEFIELD_EMULATION_MEMORY", str(16 * 10**6))
    lines = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert len(lines) == 5
    # The table of 49 neighbours; what is free is less by the input alone, but for some bytes.
    text = r"not enough memory on the device: 49000000 bytes are needed at once and 12999\d{3} of"
    assert re.match(text, lines[0])
    assert lines[1] == lines[0]  # the first try has left nothing behind
    assert "800000000 bytes are needed" in lines[4]


def test_nan_is_found_on_the_device(device: str) -> None:
    unary, image = example()
    unary[0, 0, :2] = np.nan, np.inf
    with pytest.raises(ValueError, match="unary must be finite, got 2 NaN or infinite values of"):
        df.ConvCRF(KERNELS).infer(*on(device, unary, image))
    result: Any = df.ConvCRF(KERNELS[:1]).infer(df.to_device(unary, device), check_finite=False)
    assert np.isnan(result.numpy()).any()
    image = image.astype("f4")
    image[-1, -1, -1] = np.inf
    with pytest.raises(ValueError, match="image must be finite, got 1 NaN or infinite values of"):
        df.DenseCRF(KERNELS).infer(*on(device, example()[0], image))


def test_arrays_of_no_numbers_are_refused(device: str) -> None:
    class Complex(Interface):
        pass

    array = Complex(df.to_device(np.zeros((2, 8)), device), typestr="<c16", strides=None)
    with pytest.raises(TypeError, match=r"unary cannot be read where it is.*real numbers.*complex"):
        df.DenseCRF([]).infer(array)
    with pytest.raises(TypeError, match="array must hold real numbers, got dtype complex128"):
        df.to_device(np.zeros(3, complex), device)
    masked = Interface(df.to_device(np.zeros((2, 8)), device), mask=1)
    with pytest.raises(TypeError, match="unary cannot be read where it is: it is masked"):
        df.DenseCRF([]).infer(masked)


def test_an_out_that_does_not_fit_is_refused(device: str) -> None:
    unary, image = on(device, *example())
    out: Any
    for shape, dtype in (((3, 9, 10), "f4"), ((3, 9, 11), "f8")):
        out = df.to_device(np.zeros(shape, dtype), device)
        with pytest.raises(ValueError, match=r"out must be a writable float32 array of shape \(3"):
            df.DenseCRF(KERNELS).infer(unary, image, out=out)
    out = Interface(df.to_device(np.zeros((3, 9, 11), "f4"), device))
    out.__cuda_array_interface__["data"] = (pointer_of(out.array), True)
    with pytest.raises(ValueError, match="got read-only float32"):
        df.DenseCRF(KERNELS).infer(unary, image, out=out)


def test_functions_of_the_host_say_that_they_are(device: str) -> None:
    unary, image = on(device, *example())
    with pytest.raises(TypeError, match=f"logits is on {device}:0, and this needs an array in"):
        df.unary_from_logits(unary)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"unary is on .* needs an array in host memory"):
        df.ConvCRF(KERNELS).infer(unary, image, tile=4)
    with pytest.raises(TypeError, match=r"is on .* already"):
        df.to_device(unary, device)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device must be 'cuda' or 'cuda:N', got 'cpu'"):
        df.to_device(np.zeros(3), "cpu")


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1", "cpu:0", "cuda:1 ", "cuda:99999"])
def test_names_of_devices(name: str) -> None:
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or 'cuda:N', got"):
        df.DenseCRF([], device=name)


def test_pointers_of_the_host_are_refused() -> None:
    if all(reason_to_skip(Backend(device, "base", 1)) for device in DEVICES):
        pytest.skip("no device is here")
    array = np.zeros((2, 4), "f4")

    class OnHost:
        __cuda_array_interface__ = array.__array_interface__ | {"version": 3}

    with pytest.raises((ValueError, RuntimeError), match=r"unary|device='cuda"):
        df.DenseCRF([]).infer(OnHost())  # type: ignore[arg-type]


def test_arrays_for_the_core_are_never_converted() -> None:
    lattice = _densefield.PointLatticeF32(np.zeros((2, 1), "f4"))
    values, wrong = np.ones((2, 1), "f4"), np.ones((2, 1), "f8")
    for arguments in (
        (wrong, False, values),
        (values, False, wrong),
        ([[1.0], [1.0]], False, values),
    ):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            lattice.filter(*arguments)  # type: ignore[arg-type]
