"""Inferences recorded as CUDA graphs, and what a recording forbids.

On the emulated device a recording keeps the work and every call that a real capture refuses is an
error there too; a graph's memory is NaN whenever it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import densefield as df
from densefield import _densefield
from densefield._recording import Recording
from device_libraries import KERNELS, MODELS, Exporter, example, on

NOT_WHILE_RECORDING = "not permitted when stream is capturing|previous error during capture"

PREPARED: dict[str, Callable[..., Any]] = {
    "dense": lambda **options: df.DenseCRF(KERNELS, iterations=4, **options),
    "conv": lambda **options: df.ConvCRF(KERNELS, iterations=4, **options),
}


def replayed(device: str, prepared: Any, unary: Any) -> tuple[Recording, Any, Any]:
    """Record an inference; return it with the arrays that it reads and writes."""
    there, out = on(device, unary, np.zeros_like(unary))
    with Recording(device) as graph:
        assert prepared.infer(there, out=out, check_finite=False) is out
    return graph, there, out


@pytest.mark.parametrize("model", PREPARED)
@pytest.mark.parametrize("num_labels", [1, 2, 5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exclude_self": True},
        {"output": "scores"},
        {"compatibility": "matrix"},
        {"compatibility": "vector"},
    ],
    ids=str,
)
def test_inferences_are_recorded(
    model: str, num_labels: int, options: dict[str, Any], device: str
) -> None:
    shape = {"matrix": (num_labels, num_labels), "vector": (num_labels,)}
    name = options.get("compatibility")
    if name is not None:
        options = {"compatibility": np.random.default_rng(1).uniform(-1, 1, shape[name])}
    unary, image = example(num_labels)
    prepared = PREPARED[model](device=device, **options).prepare(image)
    graph, there, out = replayed(device, prepared, unary)
    np.testing.assert_array_equal(out.numpy(), 0)  # recorded, not done
    for changed in (unary, unary[:, ::-1].copy(), unary):
        there._copy_from(df.to_device(changed, device), 1.0)
        graph.launch()
        np.testing.assert_array_equal(out.numpy(), prepared.infer(there).numpy())


@pytest.mark.parametrize(
    "options",
    [
        {"unary_weight": 1.5},
        {"start_from": "log_marginals", "output": "scores"},
        {"downsampling": 2, "normalization": "none"},
        {"filter_size": 21},
    ],
    ids=str,
)
def test_options_of_conv_crf_are_recorded(options: dict[str, Any], device: str) -> None:
    unary, image = example()
    prepared = df.ConvCRF(KERNELS, iterations=3, device=device, **options).prepare(image)
    graph, there, out = replayed(device, prepared, unary)
    graph.launch()
    np.testing.assert_array_equal(out.numpy(), prepared.infer(there).numpy())


@pytest.mark.parametrize("model", MODELS)
def test_many_kernels_and_large_tables_are_recorded(model: Any, device: str) -> None:
    rng = np.random.default_rng(6)
    mu = rng.uniform(-1, 1, (40, 40))  # more bytes than one launch carries
    kernels = [df.Gaussian(sigma_space=1 + k, weight=0.2, compatibility=mu) for k in range(6)]
    prepared = model(kernels, iterations=2, device=device).prepare(shape=(6, 7))
    unary = rng.uniform(0, 3, (40, 6, 7)).astype("f4")
    graph, _, out = replayed(device, prepared, unary)
    graph.launch()
    np.testing.assert_array_equal(out.numpy(), prepared.infer(unary))


def test_results_may_be_made_while_recording(device: str) -> None:
    unary, image = example()
    prepared = df.DenseCRF(KERNELS, device=device).prepare(image)
    (there,) = on(device, unary)
    with Recording(device) as graph:
        q: Any = prepared.infer(there, check_finite=False)
    graph.launch()
    np.testing.assert_array_equal(q.numpy(), prepared.infer(unary))


def test_memory_from_before_is_kept_until_the_recording_ends(device: str) -> None:
    unary, image = example()
    prepared = df.DenseCRF(KERNELS, device=device).prepare(image)
    older = prepared.start(unary)
    there, out = on(device, unary, np.zeros_like(unary))
    with Recording(device) as graph:
        del older
        prepared.infer(there, out=out, check_finite=False)
    graph.launch()
    np.testing.assert_array_equal(out.numpy(), prepared.infer(unary))


def test_a_model_on_another_stream_joins_the_recording(device: str) -> None:
    unary, image = example()
    prepared = df.ConvCRF(KERNELS, device=device).prepare(image)  # on the library's own stream
    stream = 2  # CUDA's own of each thread
    there, out = (array._on_stream(stream) for array in on(device, unary, np.zeros_like(unary)))
    with Recording(device, stream) as graph:
        prepared.infer(there, out=out, check_finite=False)
    graph.launch()
    np.testing.assert_array_equal(out.numpy(), prepared.infer(unary))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "forbidden",
    [
        {"tolerance": 0.1},
        {"check_finite": True},
        {"reads": "host"},
        {"writes": "host"},
        {"from": "a library whose stream is not known"},
    ],
    ids=str,
)
def test_what_waits_is_not_recorded(model: Any, forbidden: dict[str, Any], device: str) -> None:
    unary, image = example()
    crf = model(KERNELS, iterations=2, tolerance=forbidden.get("tolerance", 0), device=device)
    prepared = crf.prepare(image)
    (there,) = on(device, unary)
    given: Any = unary if "reads" in forbidden else there
    if "from" in forbidden:
        given = Exporter(there)
    with pytest.raises(RuntimeError, match=NOT_WHILE_RECORDING), Recording(device):
        result = prepared.infer(given, check_finite=forbidden.get("check_finite", False))
        if "writes" in forbidden:
            result.numpy()
    # The device goes on working.
    np.testing.assert_array_equal(prepared.infer(there).numpy(), prepared.infer(unary))


def test_neither_a_lattice_nor_gradients_are_recorded(device: str) -> None:
    unary, image = on(device, *example())
    _, vjp = df.DenseCRF(KERNELS).infer_vjp(unary, image)
    with pytest.raises(RuntimeError, match=NOT_WHILE_RECORDING), Recording(device):
        df.DenseCRF(KERNELS).prepare(image)
    with pytest.raises(RuntimeError, match=NOT_WHILE_RECORDING), Recording(device):
        vjp(unary)
    assert np.isfinite(vjp(unary).unary.numpy()).all()


def test_the_default_stream_cannot_be_recorded(device: str) -> None:
    legacy = 1
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        _densefield.begin_recording(device, legacy)


def test_streams_that_were_not_waited_for_spoil_the_graph(device: str) -> None:
    if device != "cuda-emulated":
        pytest.skip("what a lost stream does to a GPU's next recording is not specified")
    own, other = _densefield.own_stream(device), 2
    with pytest.raises(RuntimeError, match="unjoined work"), Recording(device):
        _densefield.order_streams(device, own, other)
    with pytest.raises(RuntimeError, match="make the legacy stream depend"), Recording(device):
        _densefield.order_streams(device, own, 1)
    with pytest.raises(RuntimeError, match="uncaptured work"), Recording(device):
        _densefield.order_streams(device, other, own)


def test_a_graph_is_launched_after_it_was_recorded(device: str) -> None:
    recording = Recording(device)
    with pytest.raises(RuntimeError, match="nothing was recorded; end the with block first"):
        recording.launch()
    (array,) = on(device, np.ones(3))
    with recording:
        array._clear()
    np.testing.assert_array_equal(array.numpy(), 1)
    recording.launch()
    np.testing.assert_array_equal(array.numpy(), 0)


def test_events_tell_the_time_between_them(device: str) -> None:
    stream = _densefield.own_stream(device)
    (array,) = on(device, np.ones(100_000))
    first = _densefield.record_event(device, stream)
    array._clear()
    second = _densefield.record_event(device, stream)
    assert second.milliseconds_since(first) > 0
    assert first.milliseconds_since(first) == 0
