"""The PyTorch layers backwards: gradcheck, opcheck, the reference, the golden data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import densefield as df
from densefield import reference
from golden import load_golden
from gradient_checks import assert_gradient

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra is 'torch'")
layers = pytest.importorskip("densefield.torch")

GRID = (3, 4)
KERNELS = [
    df.Gaussian(sigma_space=1.37, weight=0.7, method="lattice"),
    df.Bilateral(sigma_space=(2.17, 3.41), sigma_color=0.63, weight=0.9),
]


def tensor(*shape: int, seed: int, requires_grad: bool = True) -> Any:
    values = np.random.default_rng(seed).normal(size=shape)
    return torch.tensor(values, requires_grad=requires_grad)


def numbers() -> dict[str, Any]:
    """Weights, standard deviations of both kernels."""
    return {
        "weights": torch.tensor([0.7, 0.9], dtype=torch.float64, requires_grad=True),
        "sigmas": torch.tensor([1.37, 2.17, 3.41, 0.63], dtype=torch.float64, requires_grad=True),
    }


def check(function: Callable[..., Any], *inputs: Any) -> bool:
    return bool(torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-6))


# Central differences in float64


@pytest.mark.parametrize("output", ["marginals", "scores"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 2)], ids=["potts", "vector", "matrix"])
def test_gradients_of_the_dense_crf(shape: tuple[int, ...], output: str) -> None:
    def infer(logits: Any, image: Any, weights: Any, sigmas: Any, mu: Any) -> Any:
        return layers.dense_crf(
            logits,
            image,
            kernels=KERNELS,
            weights=weights,
            sigmas=sigmas,
            compatibility=mu,
            iterations=3,
            output=output,
        )

    logits, image = tensor(2, 2, *GRID, seed=1), tensor(2, 2, *GRID, seed=2)
    assert check(infer, logits, image, *numbers().values(), tensor(*shape, seed=3))


def test_gradients_to_compatibilities_of_each_kernel() -> None:
    def infer(logits: Any, vector: Any, matrix: Any) -> Any:
        mu = [vector, matrix]
        return layers.dense_crf(
            logits, image, kernels=KERNELS, compatibility=mu, exclude_self=True, iterations=2
        )

    image = tensor(1, 1, *GRID, seed=2, requires_grad=False)
    assert check(infer, tensor(1, 2, *GRID, seed=1), tensor(2, seed=3), tensor(2, 2, seed=4))


@pytest.mark.parametrize("shape", [(1,), (2,)])
def test_gradients_of_the_conv_crf(shape: tuple[int, ...]) -> None:
    def infer(logits: Any, image: Any, weights: Any, sigmas: Any, mu: Any, factor: Any) -> Any:
        return layers.conv_crf(
            logits,
            image,
            kernels=KERNELS,
            weights=weights,
            sigmas=sigmas,
            compatibility=mu,
            unary_weight=factor,
            filter_size=3,
            iterations=2,
        )

    logits, image = tensor(2, 2, *GRID, seed=1), tensor(2, 2, *GRID, seed=2)
    mu, factor = tensor(2, seed=3), tensor(*shape, seed=4)
    assert check(infer, logits, image, *numbers().values(), mu, factor)


def test_gradients_of_crf_as_rnn_to_its_matrices() -> None:
    layer = layers.CRFasRNN(num_labels=2, sigma_space=3, sigma_color=1).double()
    logits, image = tensor(1, 2, *GRID, seed=1), tensor(1, 2, *GRID, seed=2, requires_grad=False)
    names = [name for name, _ in layer.named_parameters()]

    def infer(logits: Any, *matrices: Any) -> Any:
        values = dict(zip(names, matrices, strict=True))
        return torch.func.functional_call(layer, values, (logits, image))

    matrices = [tensor(2, 2, seed=3 + i) for i in range(3)]
    assert check(infer, logits, *matrices)


@pytest.mark.parametrize("which", ["all", "sigmas"])
def test_a_zeroed_gradient_does_not_pass(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from densefield import layer

    right = layer.infer_vjp

    def wrong(*arguments: Any, **options: Any) -> list[Any]:
        gradients = right(*arguments, **options)
        zeroed = range(len(gradients)) if which == "all" else [len(gradients) - 1]
        return [0 * g if i in zeroed else g for i, g in enumerate(gradients)]

    monkeypatch.setattr(layer, "infer_vjp", wrong)
    logits = tensor(1, 2, *GRID, seed=1)
    image = tensor(1, 2, *GRID, seed=2, requires_grad=False)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        check(
            lambda x, sigmas: layers.dense_crf(x, image, kernels=KERNELS, sigmas=sigmas),
            logits,
            numbers()["sigmas"],
        )


# The operator's registrations


def operator_inputs(*, requires_grad: bool) -> tuple[Any, ...]:
    from densefield.torch.functional import make_layer

    options: Any = {"normalization": "symmetric", "iterations": 2, "exclude_self": False}
    layer = make_layer(KERNELS, None, **options, output="marginals")
    flat = [
        torch.tensor(values, dtype=torch.float64, requires_grad=requires_grad)
        for values in ([0.7, 0.9], [1.37, 2.17, 3.41, 0.63], [1.0], [1.0])
    ]
    grids = [tensor(2, 2, *GRID, seed=seed, requires_grad=requires_grad) for seed in (1, 2)]
    return *grids, *flat, layer


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_operator_is_registered_as_pytorch_asks(requires_grad: bool) -> None:
    from densefield.torch.operator import mean_field

    results = torch.library.opcheck(mean_field, operator_inputs(requires_grad=requires_grad))
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.filterwarnings("ignore")
def test_compiled_gradients_are_those_of_plain_calls() -> None:
    logits, image = tensor(2, 2, *GRID, seed=1), tensor(2, 2, *GRID, seed=2)
    crf = layers.DenseCRF(KERNELS)
    results = []
    for function in (crf, torch.compile(crf, fullgraph=True, backend="aot_eager")):
        crf.zero_grad()
        loss = (function(logits, image) ** 2).sum()
        gradients = torch.autograd.grad(loss, [logits, image])
        loss = (function(logits, image) ** 2).sum()
        loss.backward()
        results.append([*gradients, crf.weights.grad.clone(), crf.log_sigmas.grad.clone()])
    for plain, compiled in zip(*results, strict=True):
        assert torch.equal(plain, compiled)


def test_a_second_derivative_is_refused() -> None:
    logits = tensor(1, 2, *GRID, seed=1)
    q = layers.dense_crf(logits, kernels=KERNELS[:1])
    (gradient,) = torch.autograd.grad((q**2).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.sum().backward()


def test_only_wanted_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from densefield import layer

    right, wanted = layer.infer_vjp, []

    def watched(*arguments: Any, **options: Any) -> list[Any]:
        wanted.append(list(options["wanted"]))
        return right(*arguments, **options)

    monkeypatch.setattr(layer, "infer_vjp", watched)
    crf = layers.DenseCRF(KERNELS)
    crf.log_sigmas.requires_grad_(False)
    logits = tensor(1, 2, *GRID, seed=1)
    image = tensor(1, 2, *GRID, seed=2, requires_grad=False)
    crf(logits, image).sum().backward()
    # unary, image, weights, sigmas, compatibility (Potts), factor of the unary
    assert wanted == [[True, False, True, False, False, False]]
    assert crf.log_sigmas.grad is None and image.grad is None


# Other gradients than those of contiguous float64


def test_gradients_have_the_dtype_of_what_they_belong_to() -> None:
    logits = tensor(1, 2, *GRID, seed=1).detach().half().requires_grad_()
    crf = layers.DenseCRF(KERNELS[:1])
    (crf(logits) ** 2).sum().backward()
    assert logits.grad.dtype == torch.float16
    assert crf.weights.grad.dtype == torch.float32
    assert float(logits.grad.abs().sum()) > 0


def test_gradients_of_strided_tensors_are_those_of_contiguous_ones() -> None:
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        logits = tensor(2, 2, *GRID, seed=1).detach().to(memory_format=memory_format)
        logits.requires_grad_()
        q = layers.dense_crf(logits, kernels=KERNELS[:1])
        # A sum's upstream gradient is an expanded number; a permuted one has strides too.
        (q * tensor(*GRID, 2, 2, seed=5).permute(2, 3, 0, 1)).sum().backward()
        results.append(logits.grad)
    assert torch.equal(*results)


def test_an_empty_batch_has_empty_gradients() -> None:
    logits = tensor(0, 2, *GRID, seed=1)
    crf = layers.DenseCRF(KERNELS[:1])
    crf(logits).sum().backward()
    assert logits.grad.shape == logits.shape
    assert crf.weights.grad.tolist() == [0.0]


# The reference and the golden data


def test_gradients_of_a_batch_are_those_of_the_reference() -> None:
    logits, image = tensor(2, 3, *GRID, seed=1), tensor(2, 2, *GRID, seed=2)
    upstream = tensor(2, 3, *GRID, seed=3, requires_grad=False)
    values = numbers()
    q = layers.dense_crf(logits, image, kernels=KERNELS, **values, iterations=3)
    (q * upstream).sum().backward()
    mu, grad_weights, grad_sigmas = reference.potts(3), np.zeros(2), np.zeros(4)
    for b in range(2):
        colors = image[b].detach().permute(1, 2, 0).numpy()
        features = [
            reference.grid_positions(GRID, sigma=1.37),
            # The axes of sigma_space are those of the array, y first; columns have x first.
            reference.bilateral_features(colors, sigma_space=(3.41, 2.17), sigma_color=0.63),
        ]
        gradients = reference.mean_field_vjp(
            -logits[b].detach().reshape(3, -1).numpy(),
            [reference.NormalizedKernel(reference.Lattice(f)) for f in features],
            [0.7 * mu, 0.9 * mu],
            upstream[b].reshape(3, -1).numpy(),
            iterations=3,
        )
        assert_gradient(logits.grad[b], -gradients.unary.reshape(3, *GRID), tolerance=1e-9)
        grad_weights += [np.sum(mu * grad) for grad in gradients.compatibilities]
        wide = reference.bilateral_features_vjp(
            features[1],
            gradients.features[1],
            shape=GRID,
            sigma_space=(3.41, 2.17),
            sigma_color=0.63,
        )
        assert_gradient(image.grad[b].permute(1, 2, 0), wide.image, tolerance=1e-9)
        near = reference.bilateral_features_vjp(
            features[0], gradients.features[0], shape=GRID, sigma_space=1.37
        )
        grad_sigmas += [near.sigma_space.sum(), *wide.sigma_space[::-1], wide.sigma_color.sum()]
    assert_gradient(values["weights"].grad, grad_weights, tolerance=1e-9)
    assert_gradient(values["sigmas"].grad, grad_sigmas, tolerance=1e-9)


def relative_error(result: Any, expected: Any) -> float:
    difference = np.abs(result.detach().numpy().reshape(expected.shape) - expected)
    return float(difference.max() / np.abs(expected).max())


def test_crf_as_rnn_reproduces_the_golden_scores_and_gradients() -> None:
    stored = load_golden("a")
    layer = layers.CRFasRNN(num_labels=6).train()
    with torch.no_grad():
        layer.spatial_weights.copy_(torch.tensor(stored["rnn_spatial_ker_weights"]))
        layer.bilateral_weights.copy_(torch.tensor(stored["rnn_bilateral_ker_weights"]))
        layer.compatibility.copy_(-torch.tensor(stored["rnn_compatibility_matrix"]))
    logits = torch.tensor(np.log(stored["probabilities"]))[None].requires_grad_()
    image = torch.tensor(stored["image"]).permute(2, 0, 1)[None]
    scores = layer(logits, image)
    scores.backward(torch.tensor(stored["rnn_upstream"].astype(np.float32))[None])
    results = {
        "rnn_out": scores,
        "rnn_grad_unary": logits.grad,
        "rnn_grad_spatial_ker_weights": layer.spatial_weights.grad,
        "rnn_grad_bilateral_ker_weights": layer.bilateral_weights.grad,
        "rnn_grad_compatibility_matrix": -layer.compatibility.grad,
    }
    errors = {key: relative_error(value, stored[key]) for key, value in results.items()}
    assert max(errors.values()) < 1e-4, errors


CONV_SETTINGS: dict[str, dict[str, Any]] = {
    "conv_k7_blur1": {"filter_size": 7},
    "conv_k11_blur4": {"filter_size": 11, "downsampling": 4},
    "conv_k5_sym": {"filter_size": 5, "normalization": "symmetric", "iterations": 3},
    "conv_k7_blur1_final": {"filter_size": 7, "output": "marginals"},
    "conv_k3_blur2_bias": {
        "filter_size": 3,
        "downsampling": 2,
        "iterations": 2,
        "output": "marginals",
    },
}


@pytest.mark.parametrize("key", CONV_SETTINGS)
def test_conv_crf_reproduces_the_golden_scores_and_gradients(key: str) -> None:
    stored = load_golden("a")
    options = {"normalization": "none", "iterations": 5, "output": "scores", **CONV_SETTINGS[key]}
    has_positions = key == "conv_k3_blur2_bias"
    start = {"pos_sdims": 3.0, "col_schan": 13.0} | ({"col_sdims": 30.0} if has_positions else {})
    # Standard deviations are stored as reciprocals there.
    learned = {name: torch.tensor([1 / value], requires_grad=True) for name, value in start.items()}
    learned["pos_compat"] = torch.tensor([3.0], requires_grad=True)
    learned["col_compat"] = torch.tensor([10.0], requires_grad=True)
    label_weight = torch.full((6,), 0.2, requires_grad=True)
    kernels = [
        df.Gaussian(sigma_space=(3, 3)),
        df.Bilateral(sigma_space=(30, 30) if has_positions else None, sigma_color=13),
    ]
    order = ["pos_sdims", *(["col_sdims"] if has_positions else []), "col_schan"]
    sigmas = {name: (1 / learned[name]).repeat(2 if "sdims" in name else 1) for name in order}
    for sigma in sigmas.values():
        sigma.retain_grad()
    logits = torch.tensor(np.log(stored["probabilities"]))[None].requires_grad_()
    image = torch.tensor(stored["image"].astype(np.float32)).permute(2, 0, 1)[None]
    image.requires_grad_()
    result = layers.conv_crf(
        logits,
        image,
        kernels=kernels,
        weights=torch.cat([learned["pos_compat"], learned["col_compat"]]),
        sigmas=torch.cat(list(sigmas.values())),
        compatibility=-label_weight,
        unary_weight=1 - label_weight,
        start_from="log_marginals",
        **options,
    )
    result.backward(torch.tensor(stored[f"{key}_upstream"].astype(np.float32))[None])
    results = {
        "": result,
        "_grad_unary": logits.grad,
        "_grad_image": image.grad,
        "_grad_CRF.weight": label_weight.grad,
        "_grad_pos_compat": learned["pos_compat"].grad,
        "_grad_col_compat": learned["col_compat"].grad,
    }
    errors = {name: relative_error(value, stored[key + name]) for name, value in results.items()}
    for name, sigma in sigmas.items():
        # The parts of the axes nearly cancel, so the error is seen beside their sizes.
        size = float(sigma.grad.abs().sum()) * start[name] ** 2
        errors[name] = (
            abs(float(learned[name].grad) - float(stored[f"{key}_grad_{name}"][0])) / size
        )
    assert max(errors.values()) < 1e-4, errors
