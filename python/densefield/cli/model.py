"""The options that set the model, and the CRF that they describe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

import densefield

__all__ = ["build_crf", "model_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULT = densefield.default_crf()
_SPATIAL = next(kernel for kernel in _DEFAULT.kernels if isinstance(kernel, densefield.Gaussian))
_BILATERAL = next(kernel for kernel in _DEFAULT.kernels if isinstance(kernel, densefield.Bilateral))

# Name, type, default, and what the option sets.
_OPTIONS: tuple[tuple[str, click.IntRange | type[float], object, str], ...] = (
    ("--sigma-space", float, _BILATERAL.sigma_space, "Reach of the bilateral kernel in pixels."),
    (
        "--sigma-color",
        float,
        _BILATERAL.sigma_color,
        "Reach of the bilateral kernel in grey levels of 0..255.",
    ),
    ("--weight", float, _BILATERAL.weight, "Weight of the bilateral kernel."),
    ("--spatial-sigma", float, _SPATIAL.sigma_space, "Reach of the spatial kernel in pixels."),
    ("--spatial-weight", float, _SPATIAL.weight, "Weight of the spatial kernel."),
    ("--iterations", click.IntRange(min=0), _DEFAULT.iterations, "Mean-field iterations."),
)


def model_options(command: _Command) -> _Command:
    """Add the options of the model to a command; one not given comes as None."""
    for name, kind, default, text in reversed(_OPTIONS):
        command = click.option(
            name, type=kind, default=None, help=f"{text}  [default: {_shown(default)}]"
        )(command)
    return command


def _shown(default: object) -> str:
    """Write a number, or one per axis, as a user would."""
    numbers = default if isinstance(default, tuple) else (default,)
    return ", ".join(f"{number:g}" for number in numbers)


def build_crf(options: Mapping[str, float | None]) -> densefield.DenseCRF:
    """Make the default CRF with the options that were given in place of its own.

    Parameters
    ----------
    options : mapping of str to number or None
        By the names of the command's parameters; None: the package's default.

    Returns
    -------
    densefield.DenseCRF

    Raises
    ------
    click.UsageError
        If the model refuses a value.
    """
    if all(value is None for value in options.values()):
        return _DEFAULT
    for name, value in options.items():
        if value is not None and not math.isfinite(value):
            raise click.BadParameter(
                f"must be a finite number, got {value}", param_hint=f"'--{name.replace('_', '-')}'"
            )
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return densefield.DenseCRF(
            kernels=[
                densefield.Gaussian(
                    sigma_space=given.get("spatial_sigma", _SPATIAL.sigma_space),
                    weight=given.get("spatial_weight", _SPATIAL.weight),
                ),
                densefield.Bilateral(
                    sigma_space=given.get("sigma_space", _BILATERAL.sigma_space),
                    sigma_color=given.get("sigma_color", _BILATERAL.sigma_color),
                    weight=given.get("weight", _BILATERAL.weight),
                ),
            ],
            compatibility=_DEFAULT.compatibility,
            normalization=_DEFAULT.normalization,
            iterations=int(given.get("iterations", _DEFAULT.iterations)),
        )
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
