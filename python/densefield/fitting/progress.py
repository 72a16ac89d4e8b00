"""The progress bar of a fit, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from densefield.fitting.result import FitStep


class Progress:
    """Tells where a search is; without a bar it tells nothing."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar
        self._losses = ""

    def note_image(self, index: int, count: int) -> None:
        """Say which image is worked on."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._losses}image {index + 1}/{count}")

    def note_step(self, step: FitStep) -> None:
        """Say that a step was made; step 0 is the start."""
        if self._bar is None:
            return
        held_out = step.validation_loss
        also = "" if held_out is None else f"validation {held_out:.4f}, "
        self._losses = f"loss {step.train_loss:.4f}, {also}"
        self._bar.update(step.step - self._bar.n)


@contextlib.contextmanager
def as_progress(is_wanted: bool, max_steps: int) -> Iterator[Progress]:
    """Open a bar on a terminal, if it is wanted."""
    if not is_wanted:
        yield Progress()
        return
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "progress=True needs tqdm, which is not installed; get it with: "
            "pip install 'densefield[fit]', or leave progress out",
            name="tqdm",
        ) from error
    # disable=None: no bar where the output is not a terminal
    with tqdm(total=max_steps, desc="fitting", unit="step", disable=None) as bar:
        yield Progress(bar)
