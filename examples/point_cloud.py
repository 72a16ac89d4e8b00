"""Smooth the labels of a point cloud: no image, features of your own.

    python examples/point_cloud.py

Points on two noisy surfaces, each labelled by a classifier that is wrong for one point in
four; neighbours in position and direction of the surface then agree on a label.
"""

from __future__ import annotations

import numpy as np

import densefield as df


def main() -> None:
    """Make the points, smooth their labels, print the accuracy before and after."""
    rng = np.random.default_rng(7)
    count = 4000
    truth = rng.integers(0, 2, count)  # 0: floor, 1: wall
    position = rng.uniform(0, 4, (count, 3)) + rng.normal(0, 0.02, (count, 3))
    position[truth == 0, 2] = rng.normal(0, 0.02, np.sum(truth == 0))
    position[truth == 1, 0] = rng.normal(0, 0.02, np.sum(truth == 1))
    normal = np.where(truth[:, None] == 0, [0.0, 0, 1], [1.0, 0, 0])
    normal = normal + rng.normal(0, 0.3, (count, 3))

    guess = np.where(rng.random(count) < 0.25, 1 - truth, truth)
    features = np.hstack([position / 0.3, normal / 0.5])
    crf = df.DenseCRF([df.Features(features, weight=3)], iterations=10)
    marginals = crf.infer(df.unary_from_labels(guess, 2, confidence=0.7))

    print(f"before {np.mean(guess == truth):.1%}")
    print(f"after  {np.mean(marginals.argmax(axis=0) == truth):.1%}")


if __name__ == "__main__":
    main()
