"""How many threads the CPU engine uses.

The number comes from the first of these that is there: a surrounding `num_threads` block,
`set_num_threads`, the environment variable ``DENSEFIELD_NUM_THREADS``, the environment variable
``OMP_NUM_THREADS`` (first entry of a comma list), the CPUs in the process's affinity mask. The
last three are looked at once, when the number is first needed; a variable that is not a whole
number from 1 to 1024 is ignored.
"""

from __future__ import annotations

import contextlib
import importlib.util
import operator
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, SupportsIndex

from densefield import _densefield

__all__ = ["get_num_threads", "num_threads", "set_num_threads"]

_MAX_THREADS = 1024  # kMaxThreads of the C++ core, which checks it too


def set_num_threads(n: SupportsIndex) -> None:
    """Set the number of threads for the whole process.

    Parameters
    ----------
    n : int
        From 1 to 1024. It counts the calling thread, so 1 starts no other. More than the
        machine has CPUs is allowed and rarely useful.

    Raises
    ------
    TypeError
        If `n` is not a whole number.
    ValueError
        If `n` is out of range.

    See Also
    --------
    num_threads : for a block of code and the calling thread only.

    Notes
    -----
    Results have the same bits with any number of threads. The number takes effect with the next
    operation; one that runs in another thread keeps its own. A forked child inherits it.

    Examples
    --------
    >>> import densefield as df
    >>> before = df.get_num_threads()
    >>> df.set_num_threads(2)
    >>> df.get_num_threads()
    2
    >>> df.set_num_threads(before)
    """
    _densefield.set_num_threads(_checked(n))


def get_num_threads() -> int:
    """Return how many threads an operation started here and now would use.

    Returns
    -------
    int
        At least 1; the calling thread is counted.

    Examples
    --------
    >>> import densefield as df
    >>> df.get_num_threads() >= 1
    True
    """
    return _densefield.get_num_threads()


def num_threads(n: SupportsIndex) -> contextlib.AbstractContextManager[None]:
    """Use `n` threads in a block, for operations that the calling thread starts.

    Other Python threads are not disturbed, blocks may be nested, and the block wins over
    `set_num_threads`, even if that is called inside it.

    Parameters
    ----------
    n : int
        From 1 to 1024; checked at the call, before the block is entered.

    Returns
    -------
    context manager

    Raises
    ------
    TypeError
        If `n` is not a whole number.
    ValueError
        If `n` is out of range.

    Notes
    -----
    Coroutines of one thread share the number: do not await inside the block.

    Examples
    --------
    >>> import densefield as df
    >>> with df.num_threads(1):
    ...     df.get_num_threads()
    1
    """
    return _number_here(_checked(n))


@contextlib.contextmanager
def _number_here(n: int) -> Iterator[None]:
    previous = _densefield.set_num_threads_here(n)
    try:
        yield
    finally:
        _densefield.set_num_threads_here(previous)


def _checked(n: SupportsIndex) -> int:
    way_out = "n=1 runs everything on the calling thread"
    wanted = f"n must be a whole number of threads from 1 to {_MAX_THREADS}"
    if isinstance(n, bool):
        raise TypeError(f"{wanted}, got {n} (bool); {way_out}")
    try:
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"{wanted}, got {n!r} ({type(n).__name__}); {way_out}") from None
    if not 1 <= number <= _MAX_THREADS:
        raise ValueError(f"{wanted}, got {number}; {way_out}")
    return number


# threadpoolctl lists and limits the threads of all libraries in a process, and finds those whose
# controller class is registered with it. The class derives from one of threadpoolctl's, whose
# import costs up to 50 ms, which most users would pay for nothing. So nothing is imported:
# if threadpoolctl is loaded already, the class is registered at once; otherwise a finder waits
# for somebody to import it, adds the registration to that import, and is gone.


def _register_controller(threadpoolctl: Any) -> None:
    class DensefieldController(threadpoolctl.LibController):  # type: ignore[misc]
        """Shows densefield's process-wide number of threads to threadpoolctl."""

        user_api = "densefield"
        internal_api = "densefield"
        filename_prefixes = ("_densefield",)
        check_symbols = ("densefield_get_num_threads", "densefield_set_num_threads")

        def get_num_threads(self) -> int:
            return int(self.dynlib.densefield_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.densefield_set_num_threads(num_threads)

        def get_version(self) -> str | None:
            return getattr(sys.modules.get("densefield"), "__version__", None)

    threadpoolctl.register(DensefieldController)


class _ThreadpoolctlFinder:
    """Import finder that finds nothing but sees the import of threadpoolctl."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "threadpoolctl":
            return None
        with contextlib.suppress(ValueError):  # another thread's import was first
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if hasattr(module, "register"):  # threadpoolctl 3.2 and newer
                _register_controller(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _make_visible_to_threadpoolctl() -> None:
    threadpoolctl = sys.modules.get("threadpoolctl")
    if threadpoolctl is None:
        sys.meta_path.insert(0, _ThreadpoolctlFinder())
    elif hasattr(threadpoolctl, "register"):
        _register_controller(threadpoolctl)


_make_visible_to_threadpoolctl()
