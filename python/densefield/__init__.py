"""Dense random fields: the permutohedral lattice, dense CRF inference, on all cores."""

import logging

from densefield._densefield import DeviceArray, __version__
from densefield._threads import get_num_threads, num_threads, set_num_threads
from densefield.compatibility import Potts
from densefield.conv_crf import ConvCRF
from densefield.conv_gradients import ConvGradients, ConvInferenceVjp
from densefield.conv_inference import PreparedConvCRF
from densefield.crf import DenseCRF
from densefield.device_arrays import to_device
from densefield.fitting import FitResult, FitStep, fit
from densefield.gradients import Gradients, InferenceVjp, SigmaGradient
from densefield.inference import PreparedCRF
from densefield.kernels import Bilateral, Features, Gaussian
from densefield.lattice import PermutohedralLattice
from densefield.refinement import default_crf, refine
from densefield.stepping import Inference
from densefield.system import system_info
from densefield.unary import unary_from_labels, unary_from_logits, unary_from_probabilities
from densefield.window import WindowKernel

logging.getLogger("densefield").addHandler(logging.NullHandler())

__all__ = [
    "Bilateral",
    "ConvCRF",
    "ConvGradients",
    "ConvInferenceVjp",
    "DenseCRF",
    "DeviceArray",
    "Features",
    "FitResult",
    "FitStep",
    "Gaussian",
    "Gradients",
    "Inference",
    "InferenceVjp",
    "PermutohedralLattice",
    "Potts",
    "PreparedCRF",
    "PreparedConvCRF",
    "SigmaGradient",
    "WindowKernel",
    "__version__",
    "default_crf",
    "fit",
    "get_num_threads",
    "num_threads",
    "refine",
    "set_num_threads",
    "system_info",
    "to_device",
    "unary_from_labels",
    "unary_from_logits",
    "unary_from_probabilities",
]
