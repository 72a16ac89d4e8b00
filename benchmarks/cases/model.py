"""The model that most cases run: the setting that other packages' examples use."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import densefield as df
from benchmarks import costs, exact
from benchmarks.inputs import Scene

Array = npt.NDArray[Any]
Method = Literal["grid", "lattice"]

SPATIAL = (3.0, 3.0)  # sigma in grid steps, weight
BILATERAL = (80.0, 13.0, 10.0)  # sigma in grid steps, sigma in grey levels, weight
# On a volume of one channel, as in the shipped tests of other packages: nearer neighbours.
VOLUME_SPATIAL = (2.0, 2.0)
VOLUME_BILATERAL = (5.0, 8.0, 4.0)


class Model:
    """Two kernels on a scene, as a CRF, as features, and as an exact sum."""

    def __init__(
        self,
        scene: Scene,
        spatial: tuple[float, float] | None = None,
        bilateral: tuple[float, float, float] | None = None,
    ) -> None:
        self.scene = scene
        is_volume = len(scene.grid) == 3
        self.spatial = spatial or (VOLUME_SPATIAL if is_volume else SPATIAL)
        self.bilateral = bilateral or (VOLUME_BILATERAL if is_volume else BILATERAL)

    def crf(
        self,
        iterations: int,
        method: Method = "grid",
        normalization: Literal["symmetric", "after"] = "symmetric",
    ) -> df.DenseCRF:
        """Return the dense CRF; ``lattice`` computes the spatial kernel as other packages do."""
        space, color, weight = self.bilateral
        return df.DenseCRF(
            [
                df.Gaussian(sigma_space=self.spatial[0], weight=self.spatial[1], method=method),
                df.Bilateral(sigma_space=space, sigma_color=color, weight=weight),
            ],
            iterations=iterations,
            normalization=normalization,
        )

    def features(self) -> list[tuple[Array, float]]:
        """Return features (N, d) and weight of the two kernels, in float64."""
        space, color, weight = self.bilateral
        grid = self.scene.grid
        return [
            (exact.grid_features(grid, self.spatial[0]), self.spatial[1]),
            (exact.grid_features(grid, space, self.scene.image, color), weight),
        ]

    def exact_update(self, unary: Array, nodes: npt.NDArray[np.int64]) -> Array:
        """Return the exact marginals after one update at some nodes, (R, C)."""
        return exact.one_update(unary.reshape(len(unary), -1), self.features(), nodes)

    def lattice_sizes(self) -> list[costs.LatticeSize]:
        """Return the size of the two kernels' lattices; the spatial one's is that of its grid."""
        crf = self.crf(0)
        sizes = []
        for kernel, found in zip(crf.kernels, crf.prepare(self.scene.image).lattices, strict=True):
            on_grid = isinstance(kernel, df.Gaussian) and kernel.method == "grid"
            corners = 2**found.dim if on_grid else found.dim + 1
            sizes.append(
                costs.LatticeSize(found.num_points, found.dim, found.num_vertices, corners, on_grid)
            )
        return sizes


def refine_model(scene: Scene) -> Model:
    """Return what `densefield.refine` does unless told otherwise: more vertices than pixels."""
    near, alike = df.default_crf().kernels
    assert isinstance(near, df.Gaussian) and isinstance(alike, df.Bilateral)
    return Model(
        scene,
        (near.sigma_space[0], near.weight),
        (alike.sigma_space[0], alike.sigma_color[0], alike.weight),
    )


def at_nodes(marginals: Array, nodes: npt.NDArray[np.int64]) -> Array:
    """Return marginals (C, *grid) at some nodes as (R, C)."""
    return marginals.reshape(len(marginals), -1)[:, nodes].T
