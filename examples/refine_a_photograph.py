"""Refine a network's labels of the photograph that ships with densefield.

    python examples/refine_a_photograph.py [OUT.png]

Shows the three ways in: the one-liner, the model spelled out, and updates made one by one.
Needs the extra ``cli`` for reading and writing pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import densefield as df
from densefield.scores import image_probabilities, load_scores


def main(out: Path) -> None:
    """Refine, compare the three ways, and write the labels."""
    data = Path(df.__file__).parent / "data"
    image = np.array(Image.open(data / "astronaut.jpg").convert("RGB"))
    probabilities = image_probabilities(load_scores(data / "astronaut_scores.npz"), image.shape[:2])

    labels = df.refine(image, probabilities)
    before = probabilities.argmax(axis=0)
    print(f"{np.mean(labels != before):.1%} of the pixels got another label")

    crf = df.DenseCRF(
        [
            df.Gaussian(sigma_space=1, weight=2),
            df.Bilateral(sigma_space=70, sigma_color=2.5, weight=3),
        ],
        iterations=10,
    )
    unary = df.unary_from_probabilities(probabilities)
    prepared = crf.prepare(image)  # lattices: kept for further unaries of this image
    marginals = prepared.infer(unary)
    print(f"the spelled-out model agrees: {np.array_equal(marginals.argmax(axis=0), labels)}")

    inference = prepared.start(unary)
    for _ in range(10):
        change = inference.step()
        divergence = inference.kl_divergence()
        print(f"update {inference.iteration:2}  largest change {change:.3f}  KL {divergence:.0f}")

    Image.fromarray(labels.astype(np.uint8)).save(out)
    print(f"labels written to {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("labels.png"))
