"""Batches of images as one field of a ConvCRF: a grid whose first axis counts the images.

No window reaches from one image to another and no cell holds nodes of two, so that every image
has the marginals that it has alone, in every bit. Gradients by what the images share, the
model's numbers, are sums over all of them.
"""

from __future__ import annotations

import math

from densefield import _densefield
from densefield._arrays import FloatArray
from densefield.conv_crf import ConvCRF
from densefield.conv_inference import PreparedConvCRF, cell_phase
from densefield.device_arrays import device_of

# Of joined images. On a device about the threads that a large GPU runs at once: beyond, the work
# of a launch takes longer than the launch. On the CPU what is saved is the way from Python to the
# core: half the time of 16 x 16 nodes, nothing beyond 64 x 64 (measured, docs/performance.md).
_MOST_NODES_ON_DEVICE = 1 << 18
_MOST_NODES_ON_CPU = 1 << 13
_MOST_AXES = 2  # of an image: windows are cut from grids of up to three


class PreparedConvBatch(PreparedConvCRF):
    """A `ConvBatch` bound to its images."""

    _is_batch = True

    @property
    def _num_axes(self) -> int:
        return len(self.shape) - 1

    def _cell_phase(self) -> list[int]:
        return [0, *cell_phase(self.shape[1:], self.crf.downsampling)]


class ConvBatch(ConvCRF):
    """A `ConvCRF` of grids whose first axis counts images, each a field of its own.

    Batches of the form (B, C, *grid) have ``label_axis=1`` and ``channel_axis=1``. Without
    `tile`, `callback` and `tolerance`, which are for one image.
    """

    _prepared_class = PreparedConvBatch


def images_at_once(unary: FloatArray, *, is_finite: bool) -> int:
    """Return how many images, of each of which unary is (C, *grid), are best one field."""
    grid = unary.shape[1:]
    on_cpu = (device_of(unary) or _densefield.device()) == "cpu"
    # The CPU multiplies what is beyond an image by 0, which leaves NaN: it must meet no other's.
    if len(grid) > _MOST_AXES or (on_cpu and not is_finite):
        return 1
    most = _MOST_NODES_ON_CPU if on_cpu else _MOST_NODES_ON_DEVICE
    return max(1, most // max(1, math.prod(grid)))
