"""Dense random fields as layers of PyTorch networks, trained end to end.

Modules `DenseCRF`, `ConvCRF`, `CRFasRNN`, and the functions `dense_crf` and `conv_crf` behind
them. All take a batch of network scores and of images, and work under `torch.compile`.
"""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "densefield.torch needs PyTorch, which is not installed; "
        "install it with: pip install 'densefield[torch]'"
    ) from error

from densefield.torch.crf_as_rnn import CRFasRNN
from densefield.torch.functional import conv_crf, dense_crf
from densefield.torch.modules import ConvCRF, DenseCRF

__all__ = ["CRFasRNN", "ConvCRF", "DenseCRF", "conv_crf", "dense_crf"]
