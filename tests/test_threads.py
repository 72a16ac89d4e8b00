"""Number of threads of the CPU backend, fork, and what threadpoolctl sees."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import densefield as df
from densefield import _densefield

can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
HANG_SECONDS = 60  # far more than any child here needs


@pytest.fixture(autouse=True)
def _on_the_cpu() -> Iterator[None]:
    """Run on the CPU, whatever the other tests run on: no device survives a fork."""
    number, device = df.get_num_threads(), _densefield.device()
    _densefield.set_device("cpu")
    yield
    _densefield.set_device(device)
    df.set_num_threads(number)


def filtered_bytes() -> bytes:
    """Bits of a result that takes several tasks: the lattice filter of 40,000 points."""
    rng = np.random.default_rng(7)
    lattice = df.PermutohedralLattice(rng.random((40_000, 3)) * 20)
    return np.asarray(lattice.filter(rng.random((40_000, 4)))).tobytes()


def python(code: str, **variables: str) -> str:
    """What a fresh interpreter prints, with no thread variables but the given ones."""
    names = ("DENSEFIELD_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


PRINT_NUMBER_AND_SOURCE = """
import densefield as df
from densefield import _densefield
print(df.get_num_threads(), _densefield.num_threads_source())
"""


# ---- where the number comes from


def test_set_is_what_get_returns() -> None:
    df.set_num_threads(3)
    assert df.get_num_threads() == 3
    assert _densefield.num_threads_source() == "set_num_threads"


@pytest.mark.parametrize(
    ("variables", "printed"),
    [
        ({"DENSEFIELD_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3 DENSEFIELD_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "5"}, "5 OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "5,2"}, "5 OMP_NUM_THREADS"),
        ({"DENSEFIELD_NUM_THREADS": "0", "OMP_NUM_THREADS": "5"}, "5 OMP_NUM_THREADS"),
        ({"DENSEFIELD_NUM_THREADS": "many", "OMP_NUM_THREADS": "5"}, "5 OMP_NUM_THREADS"),
        ({"DENSEFIELD_NUM_THREADS": "1025", "OMP_NUM_THREADS": "5"}, "5 OMP_NUM_THREADS"),
    ],
)
def test_variables_are_asked_in_order(variables: dict[str, str], printed: str) -> None:
    assert python(PRINT_NUMBER_AND_SOURCE, **variables) == printed


@pytest.mark.skipif(sys.platform != "linux", reason="affinity masks are read on Linux only")
def test_affinity_mask_decides_without_variables() -> None:
    narrow = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert python(narrow + PRINT_NUMBER_AND_SOURCE) == "1 affinity mask"


def test_set_num_threads_wins_over_the_variable() -> None:
    code = "import densefield as df; df.set_num_threads(2); print(df.get_num_threads())"
    assert python(code, DENSEFIELD_NUM_THREADS="3") == "2"


def test_numpy_integers_are_numbers() -> None:
    df.set_num_threads(np.int64(4))
    assert df.get_num_threads() == 4


# ---- bad values

WANTED = "n must be a whole number of threads from 1 to 1024, got "
WAY_OUT = "; n=1 runs everything on the calling thread"


@pytest.mark.parametrize("function", [df.set_num_threads, df.num_threads])
@pytest.mark.parametrize("bad", [0, -1, 1025, 2**80])
def test_number_out_of_range_is_a_value_error(function, bad) -> None:  # type: ignore[no-untyped-def]
    df.set_num_threads(3)
    with pytest.raises(ValueError) as raised:
        function(bad)
    assert str(raised.value) == f"{WANTED}{bad}{WAY_OUT}"
    assert df.get_num_threads() == 3


@pytest.mark.parametrize("function", [df.set_num_threads, df.num_threads])
@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (2.0, "2.0 (float)"),
        ("2", "'2' (str)"),
        (None, "None (NoneType)"),
        (True, "True (bool)"),
        ([2], "[2] (list)"),
    ],
)
def test_other_kind_is_a_type_error(function, bad, shown) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError) as raised:
        function(bad)
    assert str(raised.value) == f"{WANTED}{shown}{WAY_OUT}"


@pytest.mark.parametrize("bad", [0, 1025])
def test_core_refuses_the_same_numbers(bad: int) -> None:
    _densefield.set_num_threads(1024)
    with pytest.raises(ValueError, match=rf"^n must be .* from 1 to 1024, got {bad}; n=1 "):
        _densefield.set_num_threads(bad)


# ---- the context manager


def test_block_sets_and_restores() -> None:
    df.set_num_threads(3)
    with df.num_threads(2):
        assert df.get_num_threads() == 2
        assert _densefield.num_threads_source() == "num_threads context"
    assert df.get_num_threads() == 3


def test_blocks_nest() -> None:
    df.set_num_threads(4)
    with df.num_threads(3):
        with df.num_threads(2):
            assert df.get_num_threads() == 2
        assert df.get_num_threads() == 3
    assert df.get_num_threads() == 4


def test_block_restores_after_an_exception() -> None:
    df.set_num_threads(3)
    with pytest.raises(KeyError), df.num_threads(2):
        raise KeyError
    assert df.get_num_threads() == 3


def test_block_wins_over_set_inside_it() -> None:
    with df.num_threads(2):
        df.set_num_threads(5)
        assert df.get_num_threads() == 2
    assert df.get_num_threads() == 5


def test_block_is_for_this_thread_only() -> None:
    df.set_num_threads(3)
    seen: list[int] = []
    with df.num_threads(2):
        other = threading.Thread(target=lambda: seen.append(df.get_num_threads()))
        other.start()
        other.join()
    assert seen == [3]


# ---- several threads, forked children


@pytest.mark.parametrize("n", [2, 3, 8])
def test_any_number_gives_the_same_bits(n: int) -> None:
    with df.num_threads(1):
        expected = filtered_bytes()
    with df.num_threads(n):
        assert filtered_bytes() == expected


def test_several_python_threads_get_the_same_bits() -> None:
    expected = filtered_bytes()
    results: list[bytes] = []
    callers = [threading.Thread(target=lambda: results.append(filtered_bytes())) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [expected] * 4


def exit_code_of_child(expected: bytes) -> int:
    """Fork; the child compares its own result and is killed if it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(HANG_SECONDS)
        os._exit(0 if filtered_bytes() == expected else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@can_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_of_a_used_pool_computes() -> None:
    df.set_num_threads(2)
    expected = filtered_bytes()
    assert [exit_code_of_child(expected) for _ in range(5)] == [0] * 5
    assert filtered_bytes() == expected


@can_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_of_a_busy_pool_computes() -> None:
    df.set_num_threads(2)
    expected = filtered_bytes()
    is_over = threading.Event()

    def keep_busy() -> None:
        while not is_over.is_set():
            filtered_bytes()

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        assert [exit_code_of_child(expected) for _ in range(5)] == [0] * 5
    finally:
        is_over.set()
        busy.join()


@can_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_process_pool_that_forks_computes() -> None:
    df.set_num_threads(2)
    expected = filtered_bytes()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(filtered_bytes) for _ in range(4)]
        assert [result.get(HANG_SECONDS) for result in results] == [expected] * 4


@can_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_keeps_the_number() -> None:
    df.set_num_threads(3)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(df.get_num_threads).get(HANG_SECONDS) == 3


def test_interpreter_ends_while_a_daemon_thread_computes() -> None:
    code = """
import threading, time
import numpy as np
import densefield as df
df.set_num_threads(2)
features = np.random.default_rng(7).random((40_000, 3)) * 20
def work():
    while True:
        df.PermutohedralLattice(features)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
print("end")
"""
    assert python(code) == "end"


def test_interpreter_ends_while_daemon_threads_infer() -> None:
    code = """
import threading, time
import numpy as np
import densefield as df
unary = np.random.default_rng(7).random((5, 60, 70), np.float32)
crf = df.DenseCRF([df.Gaussian(sigma_space=3)], iterations=100)
def work():
    while True:
        crf.infer(unary)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
print("end")
"""
    assert python(code) == "end"


# ---- threadpoolctl

LIMIT = """
def number():
    return [lib["num_threads"] for lib in threadpoolctl.threadpool_info()
            if lib["user_api"] == "densefield"]
densefield.set_num_threads(3)
with threadpoolctl.threadpool_limits(limits=1, user_api="densefield"):
    print(number(), densefield.get_num_threads(), end=" ")
print(number(), densefield.get_num_threads())
"""


@pytest.mark.parametrize(
    "imports",
    ["import densefield, threadpoolctl", "import threadpoolctl, densefield"],
)
def test_threadpoolctl_sees_and_limits(imports: str) -> None:
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    assert python(imports + LIMIT) == "[1] 1 [3] 3"


def test_import_leaves_threadpoolctl_alone() -> None:
    assert python("import sys, densefield; print('threadpoolctl' in sys.modules)") == "False"
