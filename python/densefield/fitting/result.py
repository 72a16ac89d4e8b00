"""What a fit returns, and how it is stored beside the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, TypeAlias, cast, get_args

from densefield._arrays import as_count, as_number
from densefield.crf import DenseCRF
from densefield.fitting.losses import LOSS_NAMES, LossName
from densefield.fitting.parameters import PARAMETER_NAMES, ParameterName
from densefield.stored_model import Fields, read_json, shown, write_json

Reason: TypeAlias = Literal["converged", "validation", "max_steps", "no descent"]

REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True)
class FitStep:
    """The losses after one step of a fit.

    Attributes
    ----------
    step : int
        0 is the model at the start.
    train_loss : float
    validation_loss : float or None
        None without validation.
    """

    step: int
    train_loss: float
    validation_loss: float | None = None


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted model, and how it came about.

    Attributes
    ----------
    crf : DenseCRF or ConvCRF
        The model of the best step, ready to use.
    loss : {"cross_entropy", "soft_iou", "soft_accuracy"}
    parameters : tuple of str
        What was fitted.
    history : tuple of FitStep
        All steps, from the start on.
    best_step : int
        Whose model `crf` is: the lowest loss of validation, or of training without validation.
    reason : {"converged", "validation", "max_steps", "no descent"}
        Why it ended: the loss no longer fell by more than the tolerance; the loss of validation
        did not fall for `patience` steps; all steps were made; no lower loss was found along the
        gradient, which the jumps of a lattice may cause close to an optimum.
    num_evaluations : int
        How often loss and gradient of all images were computed.
    """

    crf: DenseCRF
    loss: LossName
    parameters: tuple[ParameterName, ...]
    history: tuple[FitStep, ...]
    best_step: int
    reason: Reason
    num_evaluations: int

    @property
    def best(self) -> FitStep:
        """The losses of the model."""
        return self.history[self.best_step]

    def to_dict(self) -> dict[str, Any]:
        """Return the model as `DenseCRF.to_dict` does, with a field ``fit`` for the rest."""
        history = [
            {
                "step": step.step,
                "train_loss": step.train_loss,
                "validation_loss": step.validation_loss,
            }
            for step in self.history
        ]
        fit = {
            "loss": self.loss,
            "parameters": list(self.parameters),
            "reason": self.reason,
            "num_evaluations": self.num_evaluations,
            "best_step": self.best_step,
            "history": history,
        }
        return {**self.crf.to_dict(), "fit": fit}

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def save(self, path: str | PathLike[str]) -> None:
        """Write `to_json` to a file, whole or not at all; one that is there is replaced.

        `DenseCRF.load` and ``densefield refine --params`` take the model from it.
        """
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FitResult:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        FitResult

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not what `save` wrote; the text names file and field.
        """
        return read_json(path, cls._of)

    @classmethod
    def _of(cls, content: Any) -> FitResult:
        crf = DenseCRF.from_dict(content)
        if "fit" not in content:
            raise ValueError(
                "the model has no field 'fit': it was not saved by a FitResult; "
                "read it with DenseCRF.load"
            )
        fields = Fields("fit", content["fit"])
        loss = fields.take_choice("loss", LOSS_NAMES)
        reason = fields.take_choice("reason", REASONS)
        names = fields.take("parameters")
        if not isinstance(names, list) or any(name not in PARAMETER_NAMES for name in names):
            raise ValueError(
                f"fit: parameters must be a list of names among {PARAMETER_NAMES}, "
                f"got {shown(names)}"
            )
        entries = fields.take("history")
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"fit: history must be a list of steps, got {shown(entries)}")
        history = tuple(_step_of(f"fit: history[{i}]", entry) for i, entry in enumerate(entries))
        result = cls(
            crf=crf,
            loss=cast("LossName", loss),
            parameters=tuple(names),
            history=history,
            best_step=_count(fields, "best_step", len(history) - 1),
            reason=cast("Reason", reason),
            num_evaluations=_count(fields, "num_evaluations", None),
        )
        fields.finish()
        return result


def _step_of(place: str, content: Any) -> FitStep:
    fields = Fields(place, content)
    losses = {name: fields.take(name) for name in ("train_loss", "validation_loss")}
    step = _count(fields, "step", None)
    fields.finish()
    made: dict[str, Any] = {
        name: None if value is None and name == "validation_loss" else _number(place, name, value)
        for name, value in losses.items()
    }
    return FitStep(step, **made)


def _number(place: str, name: str, value: Any) -> float:
    try:
        return as_number(name, value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _count(fields: Fields, name: str, maximum: int | None) -> int:
    options = {"name": name, "value": fields.take(name), "maximum": maximum}
    return fields.make(as_count, options)
