"""Learning without a framework: the numbers of a model from labelled images."""

from densefield.fitting.result import FitResult, FitStep
from densefield.fitting.search import fit

__all__ = ["FitResult", "FitStep", "fit"]
