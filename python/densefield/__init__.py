"""Dense random fields: the permutohedral lattice, dense CRF inference, on all cores."""

import logging

from densefield._densefield import __version__
from densefield._threads import get_num_threads, num_threads, set_num_threads
from densefield.compatibility import Potts
from densefield.crf import DenseCRF
from densefield.inference import Inference, PreparedCRF
from densefield.kernels import Bilateral, Features, Gaussian
from densefield.lattice import PermutohedralLattice
from densefield.refinement import default_crf, refine
from densefield.system import system_info
from densefield.unary import unary_from_labels, unary_from_logits, unary_from_probabilities

logging.getLogger("densefield").addHandler(logging.NullHandler())

__all__ = [
    "Bilateral",
    "DenseCRF",
    "Features",
    "Gaussian",
    "Inference",
    "PermutohedralLattice",
    "Potts",
    "PreparedCRF",
    "__version__",
    "default_crf",
    "get_num_threads",
    "num_threads",
    "refine",
    "set_num_threads",
    "system_info",
    "unary_from_labels",
    "unary_from_logits",
    "unary_from_probabilities",
]
