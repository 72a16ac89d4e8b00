"""The handler by which a program that JAX compiled for the CPU calls inference."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import densefield as df
from densefield import layer

jax = pytest.importorskip("jax", reason="JAX is not installed: the extra is 'jax'")
adapter = pytest.importorskip("densefield.jax")

GRID = (4, 5)
# Numbers that float32 holds exactly: so they are the same here and in NumPy's classes.
SPACE = df.Gaussian(sigma_space=1.5, weight=0.5)
KERNELS = [SPACE, df.Bilateral(sigma_space=2, sigma_color=0.75, weight=1.25)]


@pytest.fixture
def double_precision() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def on_other_platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def choose(*arrays: Any, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
        return default(*arrays)

    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    jax.clear_caches()
    yield
    jax.clear_caches()


def make_inputs(dtype: type = np.float32) -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    logits, image = rng.normal(size=(3, *GRID)), rng.normal(size=(2, *GRID))
    return logits.astype(dtype), image.astype(dtype)


def refine(logits: Any, image: Any = None) -> Any:
    kernels = KERNELS[:1] if image is None else KERNELS
    return adapter.dense_crf(logits, image, kernels=kernels, iterations=3)


def loss(logits: Any, image: Any) -> Any:
    return (refine(logits, image) ** 2).sum()


# What is compiled


def test_program_for_the_cpu_calls_the_handler() -> None:
    program = jax.jit(jax.grad(loss)).lower(*make_inputs()).compile().as_text()
    assert program.count('"densefield_mean_field"') == 2 and "callback" not in program


def test_eager_calls_of_one_shape_are_traced_once() -> None:
    logits, image = make_inputs()
    refine(logits, image)
    size = adapter._compute._cache_size()
    refine(logits + 1, image)
    assert adapter._compute._cache_size() == size


# Values


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_are_those_of_numpy(dtype: type) -> None:
    logits, image = make_inputs(dtype)
    expected = df.DenseCRF(KERNELS, iterations=3).infer(-logits, image, channel_axis=0)
    result = jax.jit(refine)(logits, image)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)


def test_gradients_have_the_bits_of_numpy() -> None:
    logits, image = make_inputs()
    q, vjp = df.DenseCRF(KERNELS, iterations=3).infer_vjp(-logits, image, channel_axis=0)
    expected = vjp(2 * q)
    by_logits, by_image = jax.jit(jax.grad(loss, argnums=(0, 1)))(logits, image)
    np.testing.assert_array_equal(by_logits, -expected.unary)
    np.testing.assert_array_equal(by_image, expected.image)


def test_without_an_image() -> None:
    logits, _ = make_inputs()
    expected = df.DenseCRF([SPACE], iterations=3).infer(-logits)
    np.testing.assert_array_equal(jax.jit(refine)(logits), expected)
    by_logits = jax.jit(jax.grad(lambda x: refine(x)[0].sum()))(logits)
    assert np.abs(by_logits).max() > 0


def test_loop_of_a_program_calls_the_handler_every_time() -> None:
    logits, image = make_inputs()
    again = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: refine(y, image), x))
    expected = refine(refine(refine(logits, image), image), image)
    np.testing.assert_array_equal(again(logits), expected)


def test_arguments_cannot_be_written_and_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    right, flags = layer.infer, []

    def watched(form: Any, unary: Any, image: Any, *rest: Any, **options: Any) -> Any:
        flags.extend([unary.flags.writeable, image.flags.writeable])
        return right(form, unary, image, *rest, **options)

    monkeypatch.setattr(layer, "infer", watched)
    logits, image = make_inputs()
    jax.block_until_ready(jax.jit(refine)(logits, image))
    assert flags == [False, False]


def test_inputs_are_not_changed() -> None:
    inputs = [jax.numpy.asarray(array) for array in make_inputs()]
    before = [np.array(array) for array in inputs]
    jax.block_until_ready(jax.jit(jax.grad(loss, argnums=(0, 1)))(*inputs))
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_other_platforms_call_back_with_the_same_result(request: pytest.FixtureRequest) -> None:
    inputs = make_inputs()
    value_and_grad = jax.value_and_grad(loss, argnums=(0, 1))
    expected = jax.jit(value_and_grad)(*inputs)
    request.getfixturevalue("on_other_platform")
    program = jax.jit(value_and_grad)
    assert "@densefield_mean_field" not in program.lower(*inputs).as_text()
    jax.tree.map(np.testing.assert_array_equal, program(*inputs), expected)


# Errors


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.grad, jax.vmap])
def test_refused_values_raise_an_error_of_jax_with_the_text(transform: Any) -> None:
    logits, image = make_inputs()
    logits[0, 1, 2] = np.nan
    if transform is jax.vmap:
        logits, image = logits[None], image[None]
    function = loss if transform is jax.grad else refine
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"ValueError: unary .* NaN"):
        jax.block_until_ready(transform(function)(logits, image))


def test_after_an_error_the_same_program_works() -> None:
    logits, image = make_inputs()
    program = jax.jit(refine)
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(program(np.full_like(logits, np.nan), image))
    np.testing.assert_array_equal(program(logits, image), refine(logits, image))


class UnwritableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


KINDS = {
    "INVALID_ARGUMENT: TypeError: this": TypeError("this"),
    "RESOURCE_EXHAUSTED: MemoryError: this": MemoryError("this"),
    "CANCELLED: KeyboardInterrupt: this": KeyboardInterrupt("this"),
    "INTERNAL: OSError: β": OSError("β"),
    "INTERNAL: RuntimeError: no text": UnwritableError(),
}


@pytest.mark.parametrize("text", KINDS)
def test_every_exception_becomes_an_error_of_its_kind(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise KINDS[text]

    monkeypatch.setattr(layer, "infer", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match=text):
        jax.block_until_ready(refine(*make_inputs()))


def call_target(*arrays: Any, **attributes: Any) -> Any:
    shape = jax.ShapeDtypeStruct((2,), np.float32)
    return jax.ffi.ffi_call("densefield_mean_field", shape)(*arrays, **attributes)


FOREIGN_CALLS = {
    "float32 or float64, got XLA's type 4": lambda: call_target(np.zeros(2, np.int32)),
    "expected texts alone": lambda: call_target(np.zeros(2, np.float32), layer=np.float32(1)),
    "TypeError: _fill.. got an unexpected keyword": lambda: call_target(other="text"),
}


@pytest.mark.parametrize("text", FOREIGN_CALLS)
def test_calls_of_others_are_refused(text: str) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match=text):
        jax.block_until_ready(FOREIGN_CALLS[text]())


# Threads

THREADS = """
import threading
import jax, numpy as np
import densefield as df
from densefield.jax import dense_crf

kernels = [df.Bilateral(sigma_space=3, sigma_color=0.5)]
images = np.random.default_rng(5).normal(size=(4, 3, 30, 40)).astype(np.float32)
refine = jax.jit(lambda image: dense_crf(image, image, kernels=kernels))
expected = [np.asarray(refine(image)) for image in images]
results = [[] for _ in images]

def work(k):
    for _ in range(20):
        results[k].append(refine(images[k]))

threads = [threading.Thread(target=work, args=(k,)) for k in range(len(images))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for result, right in zip(results, expected, strict=True):
    for array in result:
        np.testing.assert_array_equal(array, right)
"""

# One call of the loop is under way when Python ends, the others are still to come.
EXIT = """
import threading
import jax, numpy as np
import densefield as df
from densefield import layer
from densefield.jax import dense_crf

right, has_begun = layer.infer, threading.Event()

def infer(*arguments, **options):
    has_begun.set()
    return right(*arguments, **options)

layer.infer = infer
kernels = [df.Bilateral(sigma_space=3, sigma_color=0.5)]
image = np.random.default_rng(5).normal(size=(3, 200, 300)).astype(np.float32)

def refine(scores):
    return dense_crf(scores, image, kernels=kernels)

result = jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda _, y: refine(y), x))(image)
has_begun.wait()
"""

# Seconds, many times what is needed: a deadlock is to end the test, not a slow machine.
PATIENCE = 300


@pytest.mark.parametrize("program", [THREADS, EXIT], ids=["at once", "while Python ends"])
def test_no_deadlock(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)
