"""Other packages on the same model; each function imports its package when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import reason_missing

Array = npt.NDArray[Any]
# Features (N, d) in units of sigma, and the Potts weight.
FeatureKernel = tuple[Array, float]


def pydensecrf_missing() -> str | None:
    """Say why pydensecrf cannot run, or return None. It has no threads."""
    return reason_missing("pydensecrf", "pydensecrf2")


def torch_missing() -> str | None:
    """Say why the torch baseline cannot run, or return None."""
    return reason_missing("torch", "torch")


def opencv_missing() -> str | None:
    """Say why OpenCV's edge-preserving filters cannot run, or return None."""
    reason = reason_missing("cv2", "opencv-contrib-python-headless")
    if reason is None and not hasattr(importlib.import_module("cv2"), "ximgproc"):
        return "this OpenCV has no ximgproc (pip install opencv-contrib-python-headless)"
    return reason


class FeatureCRF:
    """pydensecrf's dense CRF on kernels of features; the steps can be timed one by one."""

    def __init__(self, unary: Array, *, after: bool = False) -> None:
        self._package = importlib.import_module("pydensecrf.densecrf")
        self._mode = self._package.NORMALIZE_AFTER if after else self._package.NORMALIZE_SYMMETRIC
        self._labels = len(unary)
        self._energies = np.ascontiguousarray(unary.reshape(self._labels, -1), np.float32)
        self._crf = self._package.DenseCRF(self._energies.shape[1], self._labels)
        self._crf.setUnaryEnergy(self._energies)

    def add(self, features: Array, weight: float) -> FeatureCRF:
        """Build a lattice and its normalisation."""
        table = np.ascontiguousarray(np.asarray(features, np.float32).T)
        self._crf.addPairwiseEnergy(table, weight, self._package.DIAG_KERNEL, self._mode)
        return self

    def infer(self, iterations: int) -> Array:
        """Return marginals, (C, N)."""
        return np.array(self._crf.inference(iterations))

    def stepper(self) -> Any:
        """Return a function that does one update: message, compatibility, softmax."""
        q, first, second = self._crf.startInference()
        return lambda: self._crf.stepInference(q, first, second)


def pydensecrf_features(
    unary: Array, kernels: Sequence[FeatureKernel], iterations: int, *, after: bool = False
) -> Array:
    """Run pydensecrf on kernels of features; marginals (C, N)."""
    crf = FeatureCRF(unary, after=after)
    for features, weight in kernels:
        crf.add(features, weight)
    return crf.infer(iterations)


def pydensecrf_prepared(
    image: Array,
    num_labels: int,
    *,
    spatial: tuple[float, float],
    bilateral: tuple[float, float, float],
    after: bool = False,
) -> Callable[[Array, int], Array]:
    """Build pydensecrf's lattices for a photograph; return inference for any unary on them."""
    package = importlib.import_module("pydensecrf.densecrf")
    mode = package.NORMALIZE_AFTER if after else package.NORMALIZE_SYMMETRIC
    crf = package.DenseCRF2D(image.shape[1], image.shape[0], num_labels)
    crf.addPairwiseGaussian(sxy=spatial[0], compat=spatial[1], normalization=mode)
    crf.addPairwiseBilateral(
        sxy=bilateral[0], srgb=bilateral[1], rgbim=image, compat=bilateral[2], normalization=mode
    )

    def infer(unary: Array, iterations: int) -> Array:
        crf.setUnaryEnergy(unary.reshape(num_labels, -1))
        return np.array(crf.inference(iterations)).reshape(unary.shape)

    return infer


def pydensecrf_image(
    unary: Array,
    image: Array,
    iterations: int,
    *,
    spatial: tuple[float, float],
    bilateral: tuple[float, float, float],
    after: bool = False,
) -> Array:
    """Run pydensecrf as its examples do, on a photograph; marginals (C, H, W)."""
    infer = pydensecrf_prepared(
        image, len(unary), spatial=spatial, bilateral=bilateral, after=after
    )
    return infer(unary, iterations)


class UnfoldedWindows:
    """ConvCRF in torch as its paper describes it: windows are tiled in memory, then summed.

    Written for this comparison; Potts, no normalisation. Everything has the unary's precision.
    """

    def __init__(
        self,
        image: Array,
        unary: Array,
        filter_size: int,
        *,
        spatial: tuple[float, float],
        bilateral: tuple[float, float, float],
        device: str = "cpu",
    ) -> None:
        # Threads that spin while they wait would disturb whoever runs next.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        self.torch = importlib.import_module("torch")
        self.size, self.spatial, self.bilateral = filter_size, spatial, bilateral
        self.device = device
        self.unary = self.torch.from_numpy(unary).to(device)[None]
        colors = self.torch.from_numpy(image.astype(unary.dtype)).to(device)
        self.image = colors.permute(2, 0, 1)[None]

    def windows(self, values: Any) -> Any:
        """(1, C, H, W) to (1, C, k * k, H, W)."""
        tiles = self.torch.nn.functional.unfold(values, self.size, padding=self.size // 2)
        return tiles.view(*values.shape[:2], self.size**2, *values.shape[2:])

    def kernel(self) -> Any:
        """Return merged weights, (1, 1, k * k, H, W); nothing comes from outside the image."""
        torch = self.torch
        height, width = self.unary.shape[2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        position = torch.stack([y, x]).to(self.device, self.unary.dtype)[None]
        inside = self.windows(torch.ones_like(self.unary[:, :1]))
        sigma_space, sigma_color, weight = self.bilateral
        total: Any = 0.0
        for features, factor in (
            (position / self.spatial[0], self.spatial[1]),
            (torch.cat([position / sigma_space, self.image / sigma_color], 1), weight),
        ):
            steps = self.windows(features) - features[:, :, None]
            total = total + factor * torch.exp(-0.5 * (steps**2).sum(1, keepdim=True)) * inside
        return total

    def message(self, kernel: Any, marginals: Any) -> Any:
        """Compute one message, (1, C, H, W)."""
        return (kernel * self.windows(marginals)).sum(2)

    def infer(self, iterations: int) -> Array:
        """Return marginals after all iterations, (C, H, W)."""
        with self.torch.no_grad():
            marginals = self.updates(self.kernel(), iterations)
        result: Array = marginals[0].cpu().numpy()
        return result

    def updates(self, kernel: Any, iterations: int) -> Any:
        """Return marginals after all iterations, (1, C, H, W) where the unary is."""
        marginals = self.torch.softmax(-self.unary, 1)
        for _ in range(iterations):
            energy = self.unary - self.message(kernel, marginals)
            marginals = self.torch.softmax(-energy, 1)
        return marginals
