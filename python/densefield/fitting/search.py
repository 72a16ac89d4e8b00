"""Finding the numbers of a model from labelled images, by a quasi-Newton search."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from densefield._arrays import as_choice, as_count, as_flag, as_number
from densefield.crf import DenseCRF
from densefield.fitting.losses import LOSS_NAMES, LOSSES, LossName
from densefield.fitting.parameters import Bounds, ParameterName, Parameters, Vector
from densefield.fitting.progress import Progress, as_progress
from densefield.fitting.result import FitResult, FitStep, Reason
from densefield.fitting.samples import Arrays, Axes, Sample, Triple, check_samples, split

# Length of the first step, in logarithms: all numbers together change by about this ratio.
_FIRST_STEP = 0.5

# Trials of a line search: more of them look for a minimum within the jumps of the lattice.
_MAX_TRIALS = 6

# One short step may be a jump of the lattice's; two are an end.
_SHORT_STEPS = 2

MeanOver: TypeAlias = Literal["images", "nodes"]
MEANS_OVER: tuple[MeanOver, ...] = get_args(MeanOver)

_INSTALL = "pip install 'densefield[fit]'"


def fit(
    crf: DenseCRF,
    images: Arrays | None,
    unaries: Arrays,
    labels: Arrays,
    *,
    loss: LossName = "cross_entropy",
    sharpness: float = 1.0,
    mean_over: MeanOver = "images",
    penalty: float = 0.0,
    parameters: Sequence[ParameterName] | None = None,
    bounds: Bounds | None = None,
    validation: float | Triple = 0.0,
    patience: int = 5,
    max_steps: int = 50,
    tolerance: float = 1e-4,
    sigma_step: float = 0.2,
    ignore_label: int | None = 255,
    label_axis: int = 0,
    channel_axis: int | None = -1,
    rng: int | np.random.Generator = 0,
    progress: bool = False,
) -> FitResult:
    """Find kernel weights, standard deviations and compatibility from labelled images.

    Minimises the mean over images, or over their nodes, of a loss of the marginals, by L-BFGS-B
    with the gradients of `infer_vjp` (but for `sigma_step`). Weights and standard deviations are
    searched by their logarithms, so that they stay above 0 and a step changes them by a ratio.

    Parameters
    ----------
    crf : DenseCRF or ConvCRF
        The model at the start, of `Gaussian` and `Bilateral` kernels. Never changed. Give a
        kernel one standard deviation per axis or channel to have them fitted one by one, and
        the model a (C,) or (C, C) compatibility to have one fitted.
    images : sequence of (*grid, channels) or (*grid) arrays, or None
        What bilateral kernels look at; sizes may differ. None for a model without any.
    unaries : sequence of (C, *grid) arrays of float
        Energies, see `unary_from_probabilities`. float64 is computed in float64.
    labels : sequence of (*grid) arrays of int
        What the marginals should say: 0 .. C-1, or `ignore_label`.
    loss : {"cross_entropy", "soft_iou", "soft_accuracy"}, default "cross_entropy"
        Of one image: the mean of ``-log q[label]`` over its labelled nodes; 1 minus the mean,
        over the labels that occur, of ``sum q y / sum (q + y - q y)``; or 1 minus the mean of
        ``q[label]``.
    sharpness : float, default 1
        The loss is that of marginals ``q**sharpness``, made to sum to 1 again. At 1 it counts how
        sure marginals are; the larger, the more only which label is the most probable one.
    mean_over : {"images", "nodes"}, default "images"
        Whether all images count the same, or each by the number of its labelled nodes.
    penalty : float, default 0
        Added to the training loss: this times the sum of the squared distances of all numbers
        from the start, those of weights and standard deviations taken in logarithms. Keeps few
        images from moving numbers far for little.
    parameters : sequence of {"weights", "sigmas", "compatibility"}, optional
        What is fitted. By default weights and standard deviations, and the compatibility if it
        is an array: the weight of `Potts` does what the kernels' weights do.
    bounds : mapping of str to (low, high), optional
        By "weights", "sigma_space", "sigma_color" or "compatibility". By default weights stay
        within a factor of 1000 of the start, standard deviations within a factor of 10.
    validation : float or (images, unaries, labels), default 0
        A fraction of the images, drawn at random, or other images, on which steps are judged.
    patience : int, default 5
        With validation: stop when its loss has not fallen for so many steps.
    max_steps : int, default 50
        Steps of the search; each computes loss and gradient of all images once or more.
    tolerance : float, default 1e-4
        Stop when two steps in a row lower the training loss by less than this part of it.
    sigma_step : float, default 0.2
        How the loss is differentiated by the standard deviations of lattice kernels: from its
        values at ratios of ``exp(sigma_step)`` and ``exp(-sigma_step)``. The lattice's own
        derivative leaves out the vertices that come and go, which on narrow kernels, where most
        have few neighbours, is what counts. 0 takes the derivative all the same: it costs less.
    ignore_label : int or None, default 255
        The label of nodes that do not count; None if all count.
    label_axis, channel_axis
        Where labels and channels are, as for `DenseCRF.infer`, in all arrays alike.
    rng : int or numpy Generator, default 0
        Draws the images of validation.
    progress : bool, default False
        Show a progress bar on a terminal, by tqdm.

    Returns
    -------
    FitResult
        The model of the best step in ``result.crf``, the losses of all steps, and more.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or value; before any work.
    ModuleNotFoundError
        If SciPy is not installed, or a progress bar is wanted and tqdm is not.
    KeyboardInterrupt
        On Ctrl-C, between two updates of an inference.

    Notes
    -----
    An evaluation costs two inferences per image, another one with "sigmas", and two more for
    each standard deviation of a lattice kernel. Same input, same result, on any number of
    threads. Nodes that do not count still take part in inference. All updates of the model are
    made, whatever its `tolerance`.

    References
    ----------
    Krähenbühl and Koltun 2013, "Parameter learning and convergent inference for dense random
    fields". Byrd, Lu, Nocedal and Zhu 1995, "A limited memory algorithm for bound constrained
    optimization".

    Examples
    --------
    >>> import densefield as df
    >>> import numpy as np
    >>> truth = np.repeat([0, 1], 8)[None]
    >>> noise = np.random.default_rng(0).normal(size=(2, 1, 16))
    >>> unary = df.unary_from_logits(np.eye(2)[truth].transpose(2, 0, 1) + noise)
    >>> crf = df.DenseCRF([df.Gaussian(sigma_space=1, weight=0.5)], iterations=5)
    >>> result = df.fit(crf, None, [unary], [truth], parameters=["weights"])
    >>> result.best.train_loss < result.history[0].train_loss
    True
    """
    if not isinstance(crf, DenseCRF):
        raise TypeError(f"crf must be a DenseCRF or ConvCRF, got {type(crf).__name__}")
    checked_loss = as_choice("loss", loss, LOSS_NAMES)
    sharpness = as_number("sharpness", sharpness, positive=True)
    penalty = as_number("penalty", penalty, minimum=0)
    over_nodes = as_choice("mean_over", mean_over, MEANS_OVER) == "nodes"
    sigma_step = as_number("sigma_step", sigma_step, minimum=0)
    fitted = Parameters(crf, parameters, bounds, by_differences=sigma_step > 0)
    if ignore_label is not None:
        ignore_label = as_count("ignore_label", ignore_label, minimum=-(2**63))
    axes = Axes(label_axis, channel_axis, ignore_label)
    settings = _Settings(
        as_count("patience", patience, minimum=1),
        as_count("max_steps", max_steps, minimum=1),
        as_number("tolerance", tolerance, minimum=0),
        sigma_step,
        sharpness,
        over_nodes,
        penalty,
    )
    train = check_samples(crf, images, unaries, labels, axes)
    if isinstance(validation, tuple | list):
        if len(validation) != 3:
            raise ValueError(
                f"validation must be a fraction or (images, unaries, labels), got "
                f"{len(validation)} entries"
            )
        held_out = check_samples(crf, *validation, axes, within="validation ")
    else:
        train, held_out = split(train, validation, rng)
    wants_bar = as_flag("progress", progress)
    minimize = import_minimize()
    with as_progress(wants_bar, settings.max_steps) as bar:
        search = _Search(fitted, checked_loss, train, held_out, settings, bar)
        return search.run(minimize, crf)


def import_minimize() -> Any:
    """Return SciPy's function, or say how to get it."""
    try:
        from scipy.optimize import minimize
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"fit needs SciPy, which is not installed; get it with: {_INSTALL}", name="scipy"
        ) from error
    return minimize


class _Settings(NamedTuple):
    """When a search ends, how far it looks for slopes, and what it minimises beside the name."""

    patience: int
    max_steps: int
    tolerance: float
    sigma_step: float = 0.0
    sharpness: float = 1.0
    over_nodes: bool = False
    penalty: float = 0.0

    def shares(self, samples: list[Sample]) -> list[float]:
        """Return what each image has in the mean loss; their sum is 1."""
        sizes = [sample.truth.size if self.over_nodes else 1 for sample in samples]
        return [size / sum(sizes) for size in sizes]


class _EndedError(Exception):
    """A search ends after a step, for a reason that the optimiser does not know."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class _Search:
    """One fit: losses and gradients at vectors, and what was seen so far."""

    def __init__(
        self,
        parameters: Parameters,
        loss: str,
        train: list[Sample],
        held_out: list[Sample],
        settings: _Settings,
        bar: Progress,
    ) -> None:
        self._parameters = parameters
        self._loss_name: Any = loss
        self._loss = LOSSES[loss]
        self._train = train
        self._held_out = held_out
        self._settings = settings
        self._bar = bar
        self._num_evaluations = 0
        self._scale: float | None = None
        self._last: tuple[Vector, float, Vector] | None = None
        self._history: list[FitStep] = []
        self._best = (0, parameters.start)

    def run(self, minimize: Any, crf: DenseCRF) -> FitResult:
        """Search from the start, and return the best model."""
        start = self._parameters.start
        reason: Reason
        try:
            self._note_step(start)
            found = minimize(
                self._scaled,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=self._parameters.limits,
                callback=self._note_step,
                # Steps are judged below, in units of the loss.
                options={
                    "maxiter": self._settings.max_steps,
                    "maxls": _MAX_TRIALS,
                    "ftol": 0.0,
                    "gtol": 0.0,
                },
            )
            reasons: dict[int, Reason] = {0: "converged", 1: "max_steps"}
            reason = reasons.get(found.status, "no descent")
        except _EndedError as end:
            reason = end.reason
        step, vector = self._best
        changes = {"output": crf.output, "tolerance": crf.tolerance}
        return FitResult(
            crf=crf if step == 0 else self._parameters.model(vector, **changes),
            loss=self._loss_name,
            parameters=self._parameters.names,
            history=tuple(self._history),
            best_step=step,
            reason=reason,
            num_evaluations=self._num_evaluations,
        )

    def _scaled(self, vector: Vector) -> tuple[float, Vector]:
        """Return loss and gradient in units in which the first step has a good length.

        The first step is as long as the gradient, later ones do not depend on units.
        """
        loss, slope = self._evaluate(vector)
        if self._scale is None:
            self._scale = _FIRST_STEP / max(float(np.linalg.norm(slope)), 1e-30)
        return loss * self._scale, slope * self._scale

    def _evaluate(self, vector: Vector) -> tuple[float, Vector]:
        """Return the mean loss of the training samples, with the penalty, and its gradient."""
        if self._last is not None and np.array_equal(vector, self._last[0]):
            return self._last[1], self._last[2].copy()
        crf = self._model(vector)
        around = self._models_around(vector)
        moved = vector - self._parameters.start
        total = self._settings.penalty * float(moved @ moved)
        slope = 2 * self._settings.penalty * moved
        shares = self._settings.shares(self._train)
        for i, (sample, share) in enumerate(zip(self._train, shares, strict=True)):
            self._bar.note_image(i, len(self._train))
            scores, vjp = crf.infer_vjp(
                sample.unary, sample.image, channel_axis=sample.channel_axis, check_finite=False
            )
            loss, by_scores = self._loss_of(scores, sample)
            grad = np.zeros((len(scores), scores[0].size), scores.dtype)
            grad[:, sample.nodes] = by_scores
            gradients = vjp(grad.reshape(scores.shape), wants=self._parameters.wanted)
            total += share * loss
            slope += share * self._parameters.gradient(vector, gradients)
            for entry, (below, above) in around.items():
                rise = self._loss_at(above, sample) - self._loss_at(below, sample)
                slope[entry] += share * rise / (2 * self._settings.sigma_step)
        self._num_evaluations += 1
        self._last = (vector.copy(), total, slope)
        return self._last[1], self._last[2].copy()

    def _note_step(self, vector: Vector) -> None:
        """Write down the losses of a step; end the search when validation says so."""
        train_loss = self._evaluate(vector)[0]
        held_out_loss = self._validate(vector) if self._held_out else None
        step = FitStep(len(self._history), train_loss, held_out_loss)
        self._history.append(step)
        if step.step == 0 or _judged(step) < _judged(self._history[self._best[0]]):
            self._best = (step.step, vector.copy())
        self._bar.note_step(step)
        self._end_if_done()

    def _end_if_done(self) -> None:
        last = self._history[-1]
        if last.validation_loss is not None:
            if last.step - self._best[0] >= self._settings.patience:
                raise _EndedError("validation")
        losses = [step.train_loss for step in self._history[-1 - _SHORT_STEPS :]]
        falls = [(a - b) / max(abs(a), 1e-30) for a, b in itertools.pairwise(losses)]
        if len(falls) == _SHORT_STEPS and max(falls) <= self._settings.tolerance:
            raise _EndedError("converged")

    def _validate(self, vector: Vector) -> float:
        crf = self._model(vector)
        shares = self._settings.shares(self._held_out)
        losses = [self._loss_at(crf, sample) for sample in self._held_out]
        return sum(share * loss for share, loss in zip(shares, losses, strict=True))

    def _loss_at(self, crf: DenseCRF, sample: Sample) -> float:
        scores = crf.infer(
            sample.unary, sample.image, channel_axis=sample.channel_axis, check_finite=False
        )
        return self._loss_of(scores, sample)[0]

    def _models_around(self, vector: Vector) -> dict[int, tuple[DenseCRF, DenseCRF]]:
        """Return the models a step below and above, by the entry that moves."""
        models = {}
        for entry in self._parameters.entries_by_differences:
            step = np.zeros_like(vector)
            step[entry] = self._settings.sigma_step
            models[entry] = self._model(vector - step), self._model(vector + step)
        return models

    def _model(self, vector: Vector) -> DenseCRF:
        # Scores, because a loss of them does not meet marginals that were rounded to 0.
        return self._parameters.model(vector, output="scores", tolerance=0.0)

    def _loss_of(self, scores: Any, sample: Sample) -> tuple[float, Any]:
        flat = scores.reshape(len(scores), -1)
        scores = flat[:, sample.nodes].astype(np.float64)
        scores *= self._settings.sharpness
        loss, by_scores = self._loss(scores, sample.truth)
        by_scores *= self._settings.sharpness
        return loss, by_scores


def _judged(step: FitStep) -> float:
    return step.train_loss if step.validation_loss is None else step.validation_loss
