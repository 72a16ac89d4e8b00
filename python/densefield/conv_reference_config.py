"""The configuration dictionary of the published ConvCRF code, as options of `ConvCRF`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from densefield._arrays import as_flag, as_float_array, as_number
from densefield.compatibility import Potts
from densefield.kernels import Bilateral, Gaussian

_DEFAULTS: dict[str, Any] = {
    "filter_size": 11,
    "blur": 4,
    "norm": "none",
    "weight": "vector",
    "unary_weight": 1,
    "weight_init": 0.2,
    "convcomp": False,
    "logsoftmax": True,
    "softmax": True,
    "final_softmax": False,
}
_POSITION_DEFAULTS: dict[str, Any] = {"sdims": 3, "compat": 3}
_COLOR_DEFAULTS: dict[str, Any] = {"sdims": 80, "schan": 13, "compat": 10, "use_bias": False}

# How it is computed or what is trained: nothing that changes the result.
_READ_OVER = {"merge", "trainable", "trainable_bias", "pyinn", "seq"}


def options_from_config(
    config: Mapping[str, Any],
    *,
    label_weight: npt.ArrayLike | None,
    label_transform: npt.ArrayLike | None,
) -> dict[str, Any]:
    """Return keyword arguments of `ConvCRF`, without the iterations.

    The published update is ``(u - w) log p + w (I + M) sum_m c_m K_m q``: the unary weight is
    u - w, the compatibility ``-diag(w) (I + M)``, the kernels have the weights c_m.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"config must be a dictionary, got {type(config).__name__}")
    position = _section("pos_feats", config.get("pos_feats", {}), _POSITION_DEFAULTS)
    color = _section("col_feats", config.get("col_feats", {}), _COLOR_DEFAULTS)
    rest = {k: v for k, v in config.items() if k not in ("pos_feats", "col_feats", *_READ_OVER)}
    values = _section("config", rest, _DEFAULTS)
    if not as_flag("softmax", values["softmax"]):
        raise ValueError("softmax must be True: without it the updates are no mean field")
    norms = {"none": "none", "sym": "symmetric"}
    if values["norm"] not in norms:
        raise ValueError(f"norm must be 'none' or 'sym', got {values['norm']!r}")
    weight = _label_weight(values, label_weight)
    unary_weight: Any = 1.0
    if weight is not None:
        unary_weight = as_number("unary_weight", values["unary_weight"]) - weight
    has_bias = as_flag("use_bias", color["use_bias"])
    return {
        "kernels": [
            Gaussian(sigma_space=position["sdims"], weight=position["compat"]),
            Bilateral(
                sigma_space=color["sdims"] if has_bias else None,
                sigma_color=color["schan"],
                weight=color["compat"],
            ),
        ],
        "filter_size": values["filter_size"],
        "downsampling": values["blur"],
        "normalization": norms[values["norm"]],
        "compatibility": _compatibility(
            1.0 if weight is None else weight, values["convcomp"], label_transform
        ),
        "unary_weight": unary_weight,
        "start_from": "log_marginals"
        if as_flag("logsoftmax", values["logsoftmax"])
        else "marginals",
        "output": "marginals" if as_flag("final_softmax", values["final_softmax"]) else "scores",
    }


def _section(name: str, given: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults with the given values; unknown keys are refused."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a dictionary, got {type(given).__name__}")
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(
            f"{name} has unknown keys {unknown}; known are {sorted(defaults)}; remove what is "
            f"your own code's"
        )
    return {**defaults, **given}


def _label_weight(
    values: dict[str, Any], trained: npt.ArrayLike | None
) -> float | npt.NDArray[np.float64] | None:
    kind = values["weight"]
    if kind not in (None, "scalar", "vector"):
        raise ValueError(f"weight must be None, 'scalar' or 'vector', got {kind!r}")
    if trained is None:
        return None if kind is None else as_number("weight_init", values["weight_init"])
    if kind is None:
        raise ValueError("label_weight must not be given where the configuration's weight is None")
    array: npt.NDArray[np.float64] = np.asarray(
        as_float_array("label_weight", trained, can_skip=False), np.float64
    ).reshape(-1)
    return float(array[0]) if array.size == 1 else array


def _compatibility(
    weight: float | npt.NDArray[np.float64], transforms: Any, trained: npt.ArrayLike | None
) -> Potts | npt.NDArray[np.float64]:
    if as_flag("convcomp", transforms) != (trained is not None):
        raise ValueError(
            "label_transform, the (C, C) weights of the 1 x 1 convolution, must be given if and "
            "only if the configuration's convcomp is True"
        )
    if trained is None:
        return Potts(weight) if isinstance(weight, float) else -weight
    matrix = np.asarray(as_float_array("label_transform", trained, can_skip=False), np.float64)
    matrix = matrix.reshape(matrix.shape[:2])  # a convolution's weights end in (1, 1)
    transform: npt.NDArray[np.float64] = np.eye(len(matrix)) + matrix
    return -np.reshape(weight, (-1, 1)) * transform
