"""The options that set the model, and the CRF that they describe."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

import densefield

__all__ = ["build_crf", "choose_crf", "model_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULT = densefield.default_crf()
_SPATIAL = next(kernel for kernel in _DEFAULT.kernels if isinstance(kernel, densefield.Gaussian))

# The window model: best of a few settings on the photographs of docs/conv_crf.md.
_CONV_BILATERAL = densefield.Bilateral(sigma_space=50, sigma_color=4, weight=5)
_CONV_FILTER_SIZE = 11
_CONV_DOWNSAMPLING = 4

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
    command = click.option(
        "--params",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="A model's file, as `densefield fit` writes it; in place of all options of the model.",
    )(command)
    command = click.option(
        "--filter-size",
        type=click.IntRange(min=1),
        default=None,
        help=f"Side of the window of --model conv, an odd number.  [default: {_CONV_FILTER_SIZE}]",
    )(command)
    for name, kind, default, text in reversed(_OPTIONS):
        command = click.option(
            name, type=kind, default=None, help=f"{text}  [default: {_shown(default)}]"
        )(command)
    return click.option(
        "--model",
        type=click.Choice(["dense", "conv"]),
        default=None,
        help="dense: all pixels talk to each other; conv: those in a window, with defaults of its "
        "own for the bilateral kernel (50, 4, 5).  [default: dense]",
    )(command)


def _shown(default: object) -> str:
    """Write a number, or one per axis, as a user would."""
    numbers = default if isinstance(default, tuple) else (default,)
    return ", ".join(f"{number:g}" for number in numbers)


def choose_crf(
    params: Path | None, options: Mapping[str, float | str | None]
) -> densefield.DenseCRF:
    """Read the model of a file, or make it of options; both together are an error."""
    if params is None:
        return build_crf(options)
    given = [f"--{name.replace('_', '-')}" for name, v in options.items() if v is not None]
    if given:
        raise click.UsageError(
            f"--params sets the whole model: leave out {', '.join(given)}, or edit {params.name}"
        )
    return densefield.DenseCRF.load(params)


def build_crf(options: Mapping[str, float | str | None]) -> densefield.DenseCRF:
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
        if isinstance(value, float) and not math.isfinite(value):
            raise click.BadParameter(
                f"must be a finite number, got {value}", param_hint=f"'--{name.replace('_', '-')}'"
            )
    is_conv = options.get("model") == "conv"
    if options.get("filter_size") is not None and not is_conv:
        raise click.UsageError("--filter-size belongs to --model conv; give that too")
    given = {name: v for name, v in options.items() if v is not None and not isinstance(v, str)}
    make: Callable[..., densefield.DenseCRF] = densefield.DenseCRF
    bilateral = _BILATERAL
    if is_conv:
        bilateral = _CONV_BILATERAL
        make = functools.partial(
            densefield.ConvCRF,
            filter_size=int(given.get("filter_size", _CONV_FILTER_SIZE)),
            downsampling=_CONV_DOWNSAMPLING,
        )
    try:
        return make(
            kernels=[
                densefield.Gaussian(
                    sigma_space=given.get("spatial_sigma", _SPATIAL.sigma_space),
                    weight=given.get("spatial_weight", _SPATIAL.weight),
                ),
                densefield.Bilateral(
                    sigma_space=given.get("sigma_space", bilateral.sigma_space),
                    sigma_color=given.get("sigma_color", bilateral.sigma_color),
                    weight=given.get("weight", bilateral.weight),
                ),
            ],
            compatibility=_DEFAULT.compatibility,
            normalization=_DEFAULT.normalization,
            iterations=int(given.get("iterations", _DEFAULT.iterations)),
        )
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
