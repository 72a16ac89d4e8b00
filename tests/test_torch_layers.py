"""The PyTorch layers forwards: values, dtypes, strides, batches, compilation, errors."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import densefield as df

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra is 'torch'")
layers = pytest.importorskip("densefield.torch")

GRID = (9, 11)
KERNELS = [
    df.Gaussian(sigma_space=2, weight=1.5),
    df.Bilateral(sigma_space=(6, 8), sigma_color=30, weight=2),
]


def make_batch(size: int = 2, labels: int = 3, **options: Any) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(size, labels, *GRID, generator=generator, **options)
    return logits, 255 * torch.rand(size, 3, *GRID, generator=generator, **options)


def numpy_model(**options: Any) -> df.DenseCRF:
    return df.DenseCRF(KERNELS, iterations=10, **options)


MODULES = {
    "dense": lambda: layers.DenseCRF(KERNELS),
    "conv": lambda: layers.ConvCRF(KERNELS, filter_size=5),
    "rnn": lambda: layers.CRFasRNN(num_labels=3),
}


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> Any:
    return MODULES[request.param]().eval()


# Values


def test_dense_crf_is_that_of_numpy_for_every_image_of_the_batch() -> None:
    logits, image = make_batch()
    result = layers.DenseCRF(KERNELS).eval()(logits, image)
    for b in range(2):
        expected = numpy_model().infer(-logits[b].numpy(), image[b].numpy(), channel_axis=0)
        # Standard deviations are stored as logarithms in float32: 2e-7 of them is rounded off.
        np.testing.assert_allclose(result[b].detach().numpy(), expected, atol=1e-5)


def test_conv_crf_is_that_of_numpy() -> None:
    logits, image = make_batch(size=1)
    result = layers.ConvCRF(KERNELS, filter_size=5, unary_weight=0.7).eval()(logits, image)
    crf = df.ConvCRF(KERNELS, filter_size=5, unary_weight=0.7)
    expected = crf.infer(-logits[0].numpy(), image[0].numpy(), channel_axis=0)
    np.testing.assert_allclose(result[0].detach().numpy(), expected, atol=1e-5)


def test_functions_take_the_numbers_of_the_kernels_where_no_tensor_is_given() -> None:
    logits, image = make_batch(size=1)
    result = layers.dense_crf(logits, image, kernels=KERNELS)
    expected = numpy_model().infer(-logits[0].numpy(), image[0].numpy(), channel_axis=0)
    np.testing.assert_array_equal(result[0].numpy(), expected)


def test_tensors_replace_the_numbers_of_the_kernels() -> None:
    logits, image = make_batch(size=1)
    matrix = torch.tensor([[0.0, 1.0, 2.0], [0.5, 0.0, 1.0], [2.0, 1.0, 0.0]])
    result = layers.dense_crf(
        logits,
        image,
        kernels=KERNELS,
        weights=torch.tensor([0.5, 3.0]),
        sigmas=torch.tensor([1.0, 4.0, 5.0, 20.0]),
        compatibility=matrix,
    )
    kernels = [
        df.Gaussian(sigma_space=1, weight=0.5),
        df.Bilateral(sigma_space=(4, 5), sigma_color=20, weight=3),
    ]
    crf = df.DenseCRF(kernels, compatibility=matrix.numpy())
    expected = crf.infer(-logits[0].numpy(), image[0].numpy(), channel_axis=0)
    np.testing.assert_array_equal(result[0].numpy(), expected)


def test_kernels_may_have_compatibilities_of_their_own() -> None:
    logits, image = make_batch(size=1)
    vector = -np.array([1.0, 2.0, 0.5])
    kernels = [df.Gaussian(sigma_space=2, compatibility=vector), KERNELS[1]]
    result = layers.DenseCRF(kernels, compatibility=df.Potts(0.5)).eval()(logits, image)
    crf = df.DenseCRF(kernels, compatibility=df.Potts(0.5))
    expected = crf.infer(-logits[0].numpy(), image[0].numpy(), channel_axis=0)
    np.testing.assert_allclose(result[0].detach().numpy(), expected, atol=1e-5)


def test_training_makes_fewer_updates_than_evaluation() -> None:
    logits, image = make_batch(size=1)
    crf = layers.DenseCRF(KERNELS, training_iterations=2, iterations=4)
    for mode, iterations in ((True, 2), (False, 4)):
        expected = layers.dense_crf(
            logits, image, kernels=KERNELS, sigmas=crf.sigmas, iterations=iterations
        )
        torch.testing.assert_close(crf.train(mode)(logits, image), expected, atol=1e-5, rtol=0)


def test_volumes_and_lines_are_grids_too() -> None:
    crf = layers.DenseCRF([df.Gaussian(sigma_space=1)]).eval()
    for grid in [(7,), (3, 4, 5)]:
        assert crf(torch.zeros(1, 2, *grid)).shape == (1, 2, *grid)


# Dtypes, strides, batches


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(module: Any, name: str) -> None:
    dtype = getattr(torch, name)
    logits, image = (tensor.to(dtype) for tensor in make_batch())
    result = module(logits, image)
    assert result.dtype == dtype
    assert torch.equal(result, module(logits.float(), image.float()).to(dtype))


def test_automatic_mixed_precision_changes_nothing(module: Any) -> None:
    logits, image = make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = module(logits, image)
    assert torch.equal(result, module(logits, image))


def test_float64_is_computed_in_float64() -> None:
    logits, image = make_batch(size=1, dtype=torch.float64)
    result = layers.dense_crf(logits, image, kernels=KERNELS)
    expected = numpy_model().infer(-logits[0].numpy(), image[0].numpy(), channel_axis=0)
    np.testing.assert_array_equal(result[0].numpy(), expected)


def test_images_may_be_bytes(module: Any) -> None:
    logits, image = make_batch()
    image = image.to(torch.uint8)
    assert torch.equal(module(logits, image), module(logits, image.float()))


def test_strides_do_not_matter(module: Any) -> None:
    logits, image = make_batch()
    expected = module(logits, image)
    channels_last = torch.channels_last
    moved = logits.to(memory_format=channels_last), image.to(memory_format=channels_last)
    assert torch.equal(module(*moved), expected)
    every_other = [tensor.repeat_interleave(2, dim=3)[..., ::2] for tensor in (logits, image)]
    assert not every_other[0].is_contiguous()
    assert torch.equal(module(*every_other), expected)


def test_an_empty_batch_gives_an_empty_batch(module: Any) -> None:
    logits, image = make_batch(size=0)
    assert module(logits, image).shape == (0, 3, *GRID)


def test_inputs_are_not_written(module: Any) -> None:
    logits, image = make_batch()
    before = logits.clone(), image.clone()
    module(logits, image)
    assert torch.equal(logits, before[0]) and torch.equal(image, before[1])


# Compilation and state


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_modules_are_one_graph(module: Any) -> None:
    logits, image = make_batch()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(logits, image), module(logits, image))


@pytest.mark.filterwarnings("ignore")
def test_compiled_functions_are_one_graph() -> None:
    logits, image = make_batch()

    def refine(logits: Any, image: Any) -> Any:
        return layers.dense_crf(logits, image, kernels=KERNELS).argmax(dim=1)

    compiled = torch.compile(refine, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(logits, image), refine(logits, image))


def test_state_goes_to_a_file_and_back(module: Any) -> None:
    logits, image = make_batch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.1)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = next(m for m in (make().eval() for make in MODULES.values()) if type(m) is type(module))
    assert not torch.equal(other(logits, image), module(logits, image))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(logits, image), module(logits, image))


def test_parameters_have_their_documented_start() -> None:
    rnn = layers.CRFasRNN(num_labels=2)
    assert torch.equal(rnn.spatial_weights, 3 * torch.eye(2))
    assert torch.equal(rnn.bilateral_weights, 5 * torch.eye(2))
    assert torch.equal(rnn.compatibility, -torch.eye(2))
    dense = layers.DenseCRF(KERNELS)
    torch.testing.assert_close(dense.sigmas, torch.tensor([2.0, 6.0, 8.0, 30.0]))
    assert dense.weights.tolist() == [1.5, 2.0]


# Errors


def test_import_of_the_package_does_not_import_torch() -> None:
    program = "import sys, densefield; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_torch_the_error_names_the_extra() -> None:
    program = "import sys; sys.modules['torch'] = None; import densefield.torch"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert b"pip install 'densefield[torch]'" in done.stderr


BAD_INPUTS = {
    "no batch": (
        lambda x, i: (x[0, 0], i[0, 0]),
        ValueError,
        r"add a batch axis with logits\[None\]",
    ),
    "integer logits": (lambda x, i: (x.int(), i), TypeError, r"use logits.float\(\)"),
    "other grid": (lambda x, i: (x, i[..., 1:]), ValueError, "the batch and grid of the logits"),
    "no channels": (lambda x, i: (x, i[:, 0]), ValueError, "give a grey image one channel"),
    "other batch": (lambda x, i: (x, i[:1]), ValueError, "the batch and grid of the logits"),
    "no image": (lambda x, i: (x, None), ValueError, "image must be given"),
    "NaN": (lambda x, i: (x * torch.nan, i), ValueError, "must be finite"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_are_refused(name: str) -> None:
    change, error, text = BAD_INPUTS[name]
    with pytest.raises(error, match=text):
        layers.DenseCRF(KERNELS)(*change(*make_batch()))


def test_kernels_of_feature_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="as channels of the image"):
        layers.DenseCRF([df.Features(np.zeros((99, 2)))])


def test_a_device_without_a_backend_is_refused() -> None:
    logits, image = make_batch()

    class Elsewhere(torch.Tensor):
        device = torch.device("mps")

    with pytest.raises(RuntimeError, match=r"mps.*the CPU and on CUDA.*move them with .cpu\(\)"):
        layers.DenseCRF(KERNELS)(logits.as_subclass(Elsewhere), image.as_subclass(Elsewhere))


def test_parameters_elsewhere_are_refused() -> None:
    logits, image = make_batch()

    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 1)

    weights = torch.ones(1).as_subclass(Elsewhere)
    with pytest.raises(RuntimeError, match=r"logits and weights .* cpu and cuda:1; move the mod"):
        layers.dense_crf(logits, image, kernels=[df.Gaussian(sigma_space=1)], weights=weights)
