"""Plain NumPy float64 versions of what the compiled backends compute.

Slow, short and independent of the compiled module: the judge in the tests, and
the place to read the method. The files, in reading order:

``features``    where the points lie: grid positions, bilateral features
``exact``       the Gaussian sum that everything else approximates
``window``      the sum cut to a window of the grid (ConvCRF)
``lattice``     the permutohedral lattice
``operators``   normalisation of any of the three
``mean_field``  inference, energy and divergence of the dense CRF

and backwards, derivatives of all of it:

``kernels``               the three kernels with one interface
``gradients``             normalised kernel, softmax, compatibility, features
``mean_field_gradients``  the whole inference
"""

from .exact import exact_filter, exact_filter_vjp, exact_kernel_matrix
from .features import bilateral_features, grid_positions
from .gradients import (
    FeatureGradients,
    NormalizedKernel,
    bilateral_features_vjp,
    compatibility_matrix,
    compatibility_vjp,
    softmax_vjp,
)
from .kernels import ExactKernel, Kernel, WindowKernel
from .lattice import Lattice, elevation_matrix
from .mean_field import (
    energy,
    kl_divergence,
    log_softmax,
    mean_field,
    potts,
    softmax,
    unary_from_probabilities,
)
from .mean_field_gradients import MeanFieldGradients, mean_field_vjp
from .operators import (
    NORMALIZATION_MODES,
    Operator,
    exact_operator,
    lattice_operator,
    normalize,
    window_operator,
)
from .window import window_filter, window_filter_vjp, window_kernel_matrix

__all__ = [
    "NORMALIZATION_MODES",
    "ExactKernel",
    "FeatureGradients",
    "Kernel",
    "Lattice",
    "MeanFieldGradients",
    "NormalizedKernel",
    "Operator",
    "WindowKernel",
    "bilateral_features",
    "bilateral_features_vjp",
    "compatibility_matrix",
    "compatibility_vjp",
    "elevation_matrix",
    "energy",
    "exact_filter",
    "exact_filter_vjp",
    "exact_kernel_matrix",
    "exact_operator",
    "grid_positions",
    "kl_divergence",
    "lattice_operator",
    "log_softmax",
    "mean_field",
    "mean_field_vjp",
    "normalize",
    "potts",
    "softmax",
    "softmax_vjp",
    "unary_from_probabilities",
    "window_filter",
    "window_filter_vjp",
    "window_kernel_matrix",
    "window_operator",
]
