"""``densefield fit``: a model's numbers from images, scores and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from tqdm import tqdm

import densefield
from densefield.cli.model import choose_crf, model_options
from densefield.cli.training_set import Arrays, Example, find_examples, read_example, read_names
from densefield.fitting.losses import LOSS_NAMES
from densefield.fitting.parameters import PARAMETER_NAMES, kernel_text
from densefield.fitting.search import MEANS_OVER, import_minimize
from densefield.scores import Kind
from densefield.stored_model import remade

__all__ = ["fit"]

_EXISTING = click.Path(exists=True, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_REASONS = {
    "converged": "the loss falls no more",
    "validation": "the loss of validation falls no more",
    "max_steps": "all steps are made (--max-steps)",
    "no descent": "no lower loss was found along the gradient",
}


class _Sets(NamedTuple):
    """What is learned from, and what steps are judged on."""

    train: list[Example]
    validation: float | list[Example]


def _parse_validation(ctx: click.Context, param: click.Parameter, value: str) -> float | Path:
    """Read a fraction, or the file of a list."""
    try:
        return float(value)
    except ValueError:
        if Path(value).is_file():
            return Path(value)
    raise click.BadParameter(f"must be a fraction or a file with names, got {value!r}")


@click.command()
@click.argument("images", type=_EXISTING)
@click.argument("scores", type=_EXISTING)
@click.argument("labels", type=_EXISTING)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of parameters to write (.json), for `densefield refine --params`.",
)
@click.option(
    "--loss",
    type=click.Choice(LOSS_NAMES),
    default="cross_entropy",
    show_default=True,
    help="What is minimised.",
)
@click.option(
    "--sharpness",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Power of the marginals that the loss sees: large, it counts labels and not how sure.",
)
@click.option(
    "--mean-over",
    type=click.Choice(MEANS_OVER),
    default="images",
    show_default=True,
    help="Whether all images count the same, or each by its labelled pixels.",
)
@click.option(
    "--penalty",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Times the squared distance from the start, in logarithms: what is added to the loss.",
)
@click.option(
    "--parameters",
    type=click.Choice(PARAMETER_NAMES),
    multiple=True,
    callback=lambda _ctx, _param, given: given or None,
    help="What is fitted; may be given more than once.  [default: weights and sigmas, and a "
    "compatibility that is not Potts]",
)
@click.option(
    "--compatibility",
    type=click.Choice(["potts", "vector", "matrix"]),
    default=None,
    help="Start from a compatibility of this form with the numbers of Potts.  [default: the "
    "model's]",
)
@click.option("--names", type=_FILE, help="A list of names, one in a line: which images to use.")
@click.option(
    "--validation",
    callback=_parse_validation,
    metavar="FRACTION|FILE",
    default="0.2",
    show_default=True,
    help="Images that steps are judged on: a fraction of all, drawn at random, or a list of names; "
    "0 for none.",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Steps without a lower loss of validation before the search ends.",
)
@click.option(
    "--max-steps",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Steps of the search.",
)
@click.option(
    "--ignore-label",
    type=int,
    default=255,
    show_default=True,
    help="The label of pixels that do not count.",
)
@click.option(
    "--seed",
    "rng",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Draws the images of validation.",
)
@click.option(
    "--kind",
    type=click.Choice(["auto", "probabilities", "logits"]),
    default="auto",
    show_default=True,
    help="What the scores are, as for refine.",
)
@click.option(
    "--overwrite/--no-overwrite",
    default=False,
    show_default=True,
    help="Replace a file of parameters.",
)
@model_options
def fit(
    images: Path,
    scores: Path,
    labels: Path,
    output: Path,
    names: Path | None,
    validation: float | Path,
    kind: Kind,
    overwrite: bool,
    params: Path | None,
    compatibility: str | None,
    **options: Any,
) -> None:
    """Find weights, standard deviations and compatibility of the model from labelled images.

    IMAGES and SCORES are those of `densefield refine`; LABELS are index PNGs (or .npy) of the
    images' sizes. Three files, or three folders: cat.jpg goes with cat.npz and cat.png. The
    model's options say where the search starts.
    """
    search = {name: options.pop(name) for name in _SEARCH_OPTIONS}
    crf = choose_crf(params, options)
    _check_output(output, overwrite)
    try:
        import_minimize()
    except ModuleNotFoundError as error:
        raise click.ClickException(str(error)) from error
    sets = _choose_sets(images, scores, labels, names, validation)
    train = _read(sets.train, kind)
    held_out: Any = sets.validation
    if isinstance(held_out, list):
        held_out = tuple(zip(*_read(held_out, kind), strict=True))
    if compatibility is not None:
        crf = _with_compatibility(crf, compatibility, len(train[0].unary))
    result = densefield.fit(
        crf, *zip(*train, strict=True), validation=held_out, progress=True, **search
    )
    result.save(output)
    _report(result, output)


# What goes to `densefield.fit` as it is; the other options make the model.
_SEARCH_OPTIONS = (
    "loss",
    "sharpness",
    "mean_over",
    "penalty",
    "parameters",
    "patience",
    "max_steps",
    "ignore_label",
    "rng",
)


def _check_output(output: Path, overwrite: bool) -> None:
    if output.suffix.lower() != ".json":
        raise click.BadParameter(f"must end in .json, got {output}", param_hint="'-o'")
    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder {output.parent}", param_hint="'-o'")
    if output.exists() and not overwrite:
        raise click.ClickException(f"{output} is there already; pass --overwrite to replace it")


def _choose_sets(
    images: Path, scores: Path, labels: Path, names: Path | None, validation: float | Path
) -> _Sets:
    """Return the files to learn from and those of validation; no image is in both."""
    listed = None if names is None else set(read_names(names))
    if not isinstance(validation, Path):
        found = find_examples(images, scores, labels, listed)
        return _Sets(list(found.values()), validation if len(found) > 1 else 0.0)
    held_out = set(read_names(validation))
    if listed is not None and listed & held_out:
        raise click.UsageError(
            f"{len(listed & held_out)} names are in both lists, for example "
            f"{min(listed & held_out)}; what steps are judged on must not be learned from"
        )
    found = find_examples(images, scores, labels, None if listed is None else listed | held_out)
    missing = held_out - found.keys()
    if missing:
        raise click.UsageError(f"{validation.name} names {min(missing)}, which is not there")
    train = [example for stem, example in found.items() if stem not in held_out]
    if not train or not held_out:
        raise click.UsageError(f"{validation.name} must name some of the images, but not all")
    return _Sets(train, [found[stem] for stem in sorted(held_out)])


def _read(examples: list[Example], kind: Kind) -> list[Arrays]:
    # disable=None: no bar where the output is not a terminal
    bar = tqdm(examples, desc="reading", unit="image", leave=False, disable=None)
    return [read_example(example, kind) for example in bar]


def _with_compatibility(
    crf: densefield.DenseCRF, form: str, num_labels: int
) -> densefield.DenseCRF:
    """Return the model with Potts in another form, which has the same marginals."""
    if not isinstance(crf.compatibility, densefield.Potts):
        raise click.UsageError(
            "--compatibility starts from Potts, but the model of --params has another one; "
            "leave the option out"
        )
    weight = crf.compatibility.weight
    if form == "potts":
        return crf
    forms = {
        "vector": np.full(num_labels, -weight),
        "matrix": crf.compatibility.matrix(num_labels),
    }
    return remade(crf, compatibility=forms[form])


def _report(result: densefield.FitResult, output: Path) -> None:
    for kernel in result.crf.kernels:
        click.echo(kernel_text(kernel))
    first, best = result.history[0], result.best
    click.echo(f"loss        {first.train_loss:.4f} -> {best.train_loss:.4f}")
    if first.validation_loss is not None:
        click.echo(f"validation  {first.validation_loss:.4f} -> {best.validation_loss:.4f}")
    click.echo(
        f"steps       {len(result.history) - 1}, best {best.step}: {_REASONS[result.reason]}"
    )
    click.echo(f"written     {output}")
