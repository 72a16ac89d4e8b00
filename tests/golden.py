"""Loader of the golden data: outputs of the packages whose numbers this project reproduces.

The data do not ship with the project. They are looked for in the folder that the environment
variable ``DENSEFIELD_TEST_DATA`` names, else in a folder ``shared/data`` beside or above the
repository; tests that need them are skipped with a reason where they are not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
DATA_VARIABLE = "DENSEFIELD_TEST_DATA"
CROPS = ("a", "b", "c")


@dataclass(frozen=True)
class GoldenKernel:
    """One pairwise term; a sequence of sigmas has x first."""

    sigma_space: float | tuple[float, float]
    sigma_color: float | tuple[float, float, float] | None  # None: spatial only
    weight: float = 1.0


@dataclass(frozen=True)
class GoldenSetting:
    """What was run for one key ``pyd_*`` of the crops.

    ``compatibility`` of a kernel is ``weight`` times Potts; ``vector`` is the diagonal matrix of
    the stored ``compat_vector`` and ``matrix`` the symmetric part of the stored
    ``compat_matrix``, added to the energy with the stored sign and for every kernel.
    """

    kernels: tuple[GoldenKernel, GoldenKernel]
    normalization: Literal["none", "before", "after", "symmetric"]
    iterations: int
    compatibility: Literal["potts", "vector", "matrix"] = "potts"


_DEFAULT = (GoldenKernel(3.0, None, 3.0), GoldenKernel(80.0, 13.0, 10.0))
_UNIT = (GoldenKernel(3.0, None), GoldenKernel(80.0, 13.0))
_ANISOTROPIC = (GoldenKernel((3.0, 5.0), None), GoldenKernel((40.0, 20.0), (13.0, 9.0, 20.0)))
_DEEPLAB = (GoldenKernel(1.0, None, 3.0), GoldenKernel(67.0, 3.0, 4.0))
_WEAK = (GoldenKernel(3.0, None, 0.03), GoldenKernel(80.0, 13.0, 0.05))

# `pyd_features_sym_5it` has feature arrays of its own: see `weighted_feature_arrays`.
SETTINGS: dict[str, GoldenSetting] = {
    "pyd_default_sym_1it": GoldenSetting(_DEFAULT, "symmetric", 1),
    "pyd_default_sym_10it": GoldenSetting(_DEFAULT, "symmetric", 10),
    "pyd_deeplab_sym_10it": GoldenSetting(_DEEPLAB, "symmetric", 10),
    "pyd_default_after_5it": GoldenSetting(_DEFAULT, "after", 5),
    "pyd_default_before_5it": GoldenSetting(_DEFAULT, "before", 5),
    "pyd_none_5it": GoldenSetting(_WEAK, "none", 5),
    "pyd_vector_5it": GoldenSetting(_ANISOTROPIC, "symmetric", 5, "vector"),
    "pyd_matrix_5it": GoldenSetting(_UNIT, "symmetric", 5, "matrix"),
}


def find_data_folder() -> Path | None:
    """Return the folder of the test data, or None where there is none."""
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return Path(named) if Path(named).is_dir() else None
    for folder in Path(__file__).resolve().parents[1:]:
        candidate = folder / "shared" / "data"
        if candidate.is_dir():
            return candidate
    return None


def require_data_folder() -> Path:
    """Return the folder of the test data, or skip the test."""
    folder = find_data_folder()
    if folder is None:
        pytest.skip(f"the test data are not here; name their folder in {DATA_VARIABLE}")
    return folder


def load_golden(name: str) -> dict[str, Array]:
    """Return the arrays of ``golden/NAME.npz``, or skip the test."""
    path = require_data_folder() / "golden" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"the golden file {path.name} is not in the folder of the test data")
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}


def compatibility_matrices(
    setting: GoldenSetting, golden: dict[str, Array]
) -> list[NDArray[np.float64]]:
    """Return A_m of both kernels as the old package has them: Potts is ``-w [l = l']``.

    The marginals are also those of ``w [l != l']``, since the marginals of a node sum to 1; the
    divergence is not.
    """
    num_labels = len(golden["unary"])
    if setting.compatibility == "vector":
        return [np.diag(golden["compat_vector"].astype(np.float64))] * 2
    if setting.compatibility == "matrix":
        stored = golden["compat_matrix"].astype(np.float64)
        return [0.5 * (stored + stored.T)] * 2
    return [-kernel.weight * np.eye(num_labels) for kernel in setting.kernels]


def weighted_feature_arrays(
    golden: dict[str, Array],
) -> list[tuple[NDArray[np.float32], float]]:
    """Return the features (N, d) and Potts weights of the two settings given by features.

    For a crop (`pyd_features_sym_5it`) the columns are (y / 2, x / 4) and
    (y / 20, x / 30, green / 9); for the volume (`pyd_5it`) they are the axes of the array, first
    to last, over (2, 2, 3) and (5, 5, 8), then the grey value over 1.5.
    """
    if "volume" in golden:
        grey, fine, wide, weights = golden["volume"], [2, 2, 3], [5, 5, 8, 1.5], (2.0, 4.0)
    else:
        grey, fine, wide, weights = golden["image"][..., 1], [2, 4], [20, 30, 9], (3.0, 6.0)
    columns = np.concatenate([np.indices(grey.shape), grey[None]]).astype(np.float32)
    columns = columns.reshape(len(columns), -1).T
    position = np.divide(columns[:, :-1], fine, dtype=np.float32)
    return [(position, weights[0]), (np.divide(columns, wide, dtype=np.float32), weights[1])]
