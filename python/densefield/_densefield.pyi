from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, type_check_only

import numpy as np
import numpy.typing as npt

_Floats: TypeAlias = npt.NDArray[np.floating[Any]]
_Compatibility: TypeAlias = list[tuple[str, list[float], float]]

# The classes for float32 and float64 share no base at run time; here a private one says that
# their interfaces are the same. Arrays and objects given to one must be of its own precision.

@type_check_only
class _PybindType(type): ...

__version__: Final[str]
compiler: Final[str]
cuda_build_note: Final[str]
max_dim: Final[int]
max_grid_kernel_axes: Final[int]

def get_num_threads() -> int: ...
def num_threads_source() -> str: ...
def set_num_threads(n: int) -> None: ...
def set_num_threads_here(n: int) -> int: ...
def new_result(dtype: np.dtype[Any], shape: Sequence[int]) -> _Floats: ...
def simd_level() -> str: ...
def simd_available() -> str: ...
def set_simd_level(name: str) -> None: ...

@type_check_only
class _PointLattice(metaclass=_PybindType):
    def __init__(self, features: _Floats) -> None: ...
    @property
    def num_points(self) -> int: ...
    @property
    def num_vertices(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def splat(self, values: _Floats, /) -> _Floats: ...
    def blur(self, vertices: _Floats, reverse: bool, /) -> _Floats: ...
    def slice(self, vertices: _Floats, /) -> _Floats: ...
    def filter(self, values: _Floats, transpose: bool, /) -> _Floats: ...
    def diagonal(self) -> _Floats: ...
    def reverse(self, values: _Floats, grad_out: _Floats, /) -> tuple[_Floats, _Floats]: ...

class PointLatticeF32(_PointLattice): ...
class PointLatticeF64(_PointLattice): ...

@type_check_only
class _KernelSpec(metaclass=_PybindType):
    def __init__(
        self,
        sigma_position: list[float],
        values: _Floats,
        sigma_value: list[float],
        normalization: str,
        grid_sigma: list[float],
        /,
    ) -> None: ...

class KernelSpecF32(_KernelSpec): ...
class KernelSpecF64(_KernelSpec): ...

@type_check_only
class _CrfModel(metaclass=_PybindType):
    def __init__(
        self, grid: list[int], kernels: Sequence[_KernelSpec], exclude_self: bool, /
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def lattices(self) -> list[tuple[int, int, int, int]]: ...
    def energy_terms(
        self, compatibility: _Compatibility, unary: _Floats, marginals: _Floats, /
    ) -> tuple[float, float, float, float]: ...

class CrfModelF32(_CrfModel): ...
class CrfModelF64(_CrfModel): ...

@type_check_only
class _MeanField(metaclass=_PybindType):
    def __init__(
        self,
        model: _CrfModel,
        compatibility: _Compatibility,
        unary: _Floats,
        keeps_marginals: bool,
        returns_scores: bool,
        /,
    ) -> None: ...
    def run(
        self,
        iterations: int,
        tolerance: float,
        callback: Callable[[], bool] | None,
        out: _Floats,
        /,
    ) -> int: ...
    def update(self, wants_change: bool, /) -> float: ...
    def store(self, out: _Floats, /) -> None: ...
    def load(self, marginals: _Floats, /) -> None: ...

class MeanFieldF32(_MeanField): ...
class MeanFieldF64(_MeanField): ...

@type_check_only
class _RecordedInference(metaclass=_PybindType):
    def __init__(
        self,
        model: _CrfModel,
        compatibility: _Compatibility,
        unary: _Floats,
        interval: int,
        returns_scores: bool,
        /,
    ) -> None: ...
    def run(self, iterations: int, tolerance: float, out: _Floats, /) -> int: ...
    def reverse(
        self,
        grad_marginals: _Floats,
        grad_unary: _Floats | None,
        kernels: Sequence[tuple[_KernelSpec | None, _Floats | None]],
        /,
    ) -> list[tuple[list[float], list[float]]]: ...
    @property
    def num_updates(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class RecordedInferenceF32(_RecordedInference): ...
class RecordedInferenceF64(_RecordedInference): ...

@type_check_only
class _WindowTerm(metaclass=_PybindType):
    def __init__(
        self,
        sigma_position: list[float],
        values: _Floats,
        sigma_value: list[float],
        normalization: str,
        weight: float,
        /,
    ) -> None: ...

class WindowTermF32(_WindowTerm): ...
class WindowTermF64(_WindowTerm): ...

@type_check_only
class _ConvModel(metaclass=_PybindType):
    def __init__(
        self,
        grid: list[int],
        shape: str,
        filter_size: int,
        cell_size: int,
        phase: list[int],
        groups: Sequence[Sequence[_WindowTerm]],
        exclude_self: bool,
        /,
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def num_taps(self) -> list[int]: ...
    def apply(self, group: int, values: _Floats, transpose: bool, out: _Floats, /) -> None: ...
    def diagonal(self, group: int, out: _Floats, /) -> None: ...
    def reverse(
        self,
        group: int,
        values: _Floats,
        grad_out: _Floats,
        grad_values: _Floats,
        term: _WindowTerm,
        grad_features: _Floats,
        /,
    ) -> list[float]: ...
    def energy_terms(
        self, compatibility: _Compatibility, unary: _Floats, marginals: _Floats, /
    ) -> tuple[float, float, float, float]: ...

class ConvModelF32(_ConvModel): ...
class ConvModelF64(_ConvModel): ...

@type_check_only
class _ConvField(_MeanField):
    def __init__(
        self,
        model: _ConvModel,
        compatibility: _Compatibility,
        unary: _Floats,
        returns_scores: bool,
        /,
    ) -> None: ...

class ConvFieldF32(_ConvField): ...
class ConvFieldF64(_ConvField): ...

@type_check_only
class _RecordedConvInference(metaclass=_PybindType):
    def __init__(
        self,
        model: _ConvModel,
        compatibility: _Compatibility,
        unary: _Floats,
        start: _Floats | None,
        returns_scores: bool,
        interval: int,
        /,
    ) -> None: ...
    def run(self, iterations: int, tolerance: float, out: _Floats, /) -> int: ...
    def reverse(
        self,
        grad_result: _Floats,
        grad_unary: _Floats | None,
        grad_start: _Floats | None,
        groups: Sequence[Sequence[tuple[_WindowTerm, _Floats | None]]],
        /,
    ) -> list[tuple[list[float], list[tuple[float, list[float]]]]]: ...
    @property
    def num_updates(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class RecordedConvInferenceF32(_RecordedConvInference): ...
class RecordedConvInferenceF64(_RecordedConvInference): ...
