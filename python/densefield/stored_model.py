"""Models as dictionaries and JSON files: what a person can read, checked when it is read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast

import numpy as np

from densefield.compatibility import Checked, Potts
from densefield.kernels import Bilateral, Gaussian, Kernel
from densefield.whole_files import write_whole

if TYPE_CHECKING:
    from densefield.crf import DenseCRF

FORMAT = "densefield-model"
VERSION = 1

_REQUIRED = object()
_Made = TypeVar("_Made")

_MODEL_OPTIONS = ("normalization", "iterations", "exclude_self", "tolerance", "output")
_WINDOW_OPTIONS = ("filter_size", "shape", "downsampling", "start_from")
_KERNEL_OPTIONS: dict[str, tuple[str, ...]] = {
    "Gaussian": ("sigma_space", "method"),
    "Bilateral": ("sigma_space", "sigma_color"),
}
_KERNEL_TYPES: dict[str, type[Gaussian] | type[Bilateral]] = {
    "Gaussian": Gaussian,
    "Bilateral": Bilateral,
}


class StoredModel:
    """What makes a model a dictionary or a file, and back; a part of `DenseCRF`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the model as a dictionary of numbers, strings and lists, ready for JSON.

        The device is left out: where a model is computed is no part of it.

        Returns
        -------
        dict

        Raises
        ------
        ValueError
            If a kernel is `Features`, which belongs to one image.

        Examples
        --------
        >>> import densefield as df
        >>> df.DenseCRF([df.Gaussian(sigma_space=3, weight=2)]).to_dict()["kernels"]
        [{'type': 'Gaussian', 'weight': 2.0, 'sigma_space': [3.0], 'method': 'grid'}]
        """
        return _model_content(cast("DenseCRF", self))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Make the model that `to_dict` wrote.

        Parameters
        ----------
        content : mapping
            Fields that are left out have the defaults of the model; a field ``fit`` is read over.

        Returns
        -------
        DenseCRF or ConvCRF
            What the field ``type`` says; the inference of the model has the same bits.

        Raises
        ------
        ValueError
            If a field is missing, unknown or wrong; the text names it.

        Examples
        --------
        >>> import densefield as df
        >>> crf = df.default_crf()
        >>> df.DenseCRF.from_dict(crf.to_dict()).kernels == crf.kernels
        True
        """
        made = _model_of(content)
        if not isinstance(made, cls):
            raise ValueError(
                f"type must be {cls.__name__!r}, got {content['type']!r}; DenseCRF.from_dict and "
                f"DenseCRF.load take both"
            )
        return made

    def save(self, path: str | PathLike[str]) -> None:
        """Write `to_dict` as a JSON file, whole or not at all; one that is there is replaced."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Make the model of a file that `save` or `FitResult.save` wrote.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        DenseCRF or ConvCRF

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is no model; the text names file and field.
        """
        return read_json(path, cls.from_dict)


def model_options(crf: DenseCRF) -> dict[str, Any]:
    """Return the arguments that make a model like this one."""
    from densefield.conv_crf import ConvCRF

    names: tuple[str, ...] = ("kernels", "compatibility", *_MODEL_OPTIONS, "device")
    if isinstance(crf, ConvCRF):
        names += (*_WINDOW_OPTIONS, "unary_weight")
    return {name: getattr(crf, name) for name in names}


def remade(crf: DenseCRF, **changes: Any) -> DenseCRF:
    """Return the same model with other values of some arguments."""
    from densefield.conv_crf import ConvCRF
    from densefield.crf import DenseCRF

    make = ConvCRF if isinstance(crf, ConvCRF) else DenseCRF
    return make(**{**model_options(crf), **changes})


def write_json(path: str | PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a dictionary as a readable file, whole or not at all."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_whole({Path(path): lambda file: file.write(text.encode())})


def read_json(path: str | PathLike[str], make: Callable[[Any], _Made]) -> _Made:
    """Read a file and make something of its content; errors name the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        return make(json.loads(text, parse_constant=_refuse_constant))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not a JSON file: {error}; write it with the save method of a model"
        ) from error
    except ValueError as error:  # not UTF-8, too
        raise ValueError(f"{path}: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"numbers must be finite, got {name}")


class Fields:
    """The fields of one mapping, each taken once; what is wrong is told with its place."""

    def __init__(self, place: str, content: Any) -> None:
        if not isinstance(content, Mapping):
            raise ValueError(f"{place} must be an object with fields, got {shown(content)}")
        self.place = place
        self._left = dict(content)

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return the value of a field and count it as read."""
        if name not in self._left and default is _REQUIRED:
            raise ValueError(f"{self.place} has no field {name!r}, which is needed")
        return self._left.pop(name, default)

    def take_some(self, *names: str) -> dict[str, Any]:
        """Return those of the fields that are there."""
        return {name: self._left.pop(name) for name in names if name in self._left}

    def take_choice(self, name: str, options: tuple[str, ...]) -> str:
        """Return the value of a field that must be one of some strings."""
        value = self.take(name)
        if value not in options:
            wanted = " or ".join(map(repr, options))
            raise ValueError(f"{self.place}: {name} must be {wanted}, got {shown(value)}")
        return str(value)

    def finish(self) -> None:
        """Raise if a field was not read."""
        if self._left:
            unknown = ", ".join(map(repr, self._left))
            raise ValueError(f"{self.place} has unknown fields: {unknown}; remove or correct them")

    def make(self, function: Callable[..., _Made], options: Mapping[str, Any]) -> _Made:
        """Call a constructor; what it refuses is told with the place."""
        try:
            return function(**options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.place}: {error}") from error


def shown(value: Any) -> str:
    """Write a value that came in place of another, not too long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _model_content(crf: DenseCRF) -> dict[str, Any]:
    from densefield.conv_crf import ConvCRF

    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "type": "ConvCRF" if isinstance(crf, ConvCRF) else "DenseCRF",
        "kernels": [_kernel_content(kernel) for kernel in crf.kernels],
        "compatibility": _compatibility_content(crf.compatibility),
        **{name: getattr(crf, name) for name in _MODEL_OPTIONS},
    }
    if isinstance(crf, ConvCRF):
        content |= {name: getattr(crf, name) for name in _WINDOW_OPTIONS}
        content["unary_weight"] = np.asarray(crf.unary_weight).tolist()
    return content


def _kernel_content(kernel: Kernel) -> dict[str, Any]:
    kind = type(kernel).__name__
    if not isinstance(kernel, Gaussian | Bilateral):
        raise ValueError(
            f"kernels must be Gaussian or Bilateral to be stored, got {kind}: features belong to "
            f"one image; store the other kernels, and add it when the model is used"
        )
    content: dict[str, Any] = {"type": kind, "weight": kernel.weight}
    for name in _KERNEL_OPTIONS[kind]:
        value = getattr(kernel, name)
        content[name] = list(value) if isinstance(value, tuple) else value
    if kernel.checked_compatibility is not None:
        content["compatibility"] = _compatibility_content(kernel.checked_compatibility)
    if kernel.normalization is not None:
        content["normalization"] = kernel.normalization
    return content


def _compatibility_content(checked: Checked) -> Any:
    if isinstance(checked, Potts):
        return {"type": "Potts", "weight": checked.weight}
    return checked.tolist()


def _model_of(content: Any) -> DenseCRF:
    from densefield.conv_crf import ConvCRF
    from densefield.crf import DenseCRF

    fields = Fields("the model", content)
    fields.take_choice("format", (FORMAT,))
    version = fields.take("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(
            f"the model: version must be {VERSION}, got {shown(version)}; a file of a newer "
            f"densefield needs that version to be read"
        )
    fields.take("fit", None)
    is_conv = fields.take_choice("type", ("DenseCRF", "ConvCRF")) == "ConvCRF"
    kernels = fields.take("kernels")
    if not isinstance(kernels, list | tuple):
        raise ValueError(f"the model: kernels must be a list, got {shown(kernels)}")
    options = fields.take_some(*_MODEL_OPTIONS)
    options["kernels"] = [_kernel_of(f"kernels[{m}]", kernel) for m, kernel in enumerate(kernels)]
    options["compatibility"] = _compatibility_of("compatibility", fields.take("compatibility"))
    if is_conv:
        options |= fields.take_some(*_WINDOW_OPTIONS, "unary_weight")
    fields.finish()
    return fields.make(ConvCRF if is_conv else DenseCRF, options)


def _kernel_of(place: str, content: Any) -> Kernel:
    fields = Fields(place, content)
    kind = fields.take_choice("type", tuple(_KERNEL_TYPES))
    options: dict[str, Any] = {name: fields.take(name) for name in _KERNEL_OPTIONS[kind][:1]}
    options |= fields.take_some(*_KERNEL_OPTIONS[kind][1:], "normalization")
    options["weight"] = fields.take("weight")
    own = fields.take("compatibility", None)
    if own is not None:
        options["compatibility"] = _compatibility_of(f"{place}.compatibility", own)
    fields.finish()
    made: Kernel = fields.make(_KERNEL_TYPES[kind], options)
    return made


def _compatibility_of(place: str, content: Any) -> Any:
    if not isinstance(content, Mapping):
        if not isinstance(content, list | tuple):
            raise ValueError(
                f"{place} must be a list of numbers, a matrix as a list of rows, or an object "
                f'{{"type": "Potts", "weight": number}}, got {shown(content)}'
            )
        return content
    fields = Fields(place, content)
    fields.take_choice("type", ("Potts",))
    made = fields.make(Potts, {"weight": fields.take("weight")})
    fields.finish()
    return made
