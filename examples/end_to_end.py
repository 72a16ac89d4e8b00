"""Train a small network and a CRF together, and see what that is worth.

    python examples/end_to_end.py [--out end_to_end.png]

Pictures of discs, squares and triangles of any colour are made here. A fully convolutional
network with skip connections and transposed convolutions learns to label them, in three ways:

- no CRF: the network alone;
- decoupled: the same network, kept as it is, and a CRF trained behind it;
- joint: network and CRF trained together for the last third of the same number of steps.

Needs the extra ``torch``, and matplotlib for the plot. About a minute on two cores.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import densefield as df
from densefield.torch import DenseCRF

NAMES = ("background", "disc", "square", "triangle")
SIZE = 48
BATCH = 8


# Data


def make_shape(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Return the pixels of one shape at a random place."""
    y, x = np.mgrid[:SIZE, :SIZE]
    radius = rng.uniform(6, 11)
    cy, cx = rng.uniform(radius, SIZE - radius, 2)
    angle = rng.uniform(0, 2 * np.pi)
    u = np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)
    v = np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)
    if kind == 1:
        return np.hypot(u, v) < radius
    if kind == 2:
        return np.maximum(abs(u), abs(v)) < 0.85 * radius
    return (v > -0.6 * radius) & (v + 1.8 * abs(u) < 1.1 * radius)


def make_picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (3, SIZE, SIZE) of 0 to 255, and its labels."""
    labels = np.zeros((SIZE, SIZE), np.int64)
    image = np.empty((3, SIZE, SIZE))
    image[:] = rng.uniform(0, 255, (3, 1, 1))
    for _ in range(3):
        kind = int(rng.integers(1, len(NAMES)))
        inside = make_shape(kind, rng)
        labels[inside] = kind
        image[:, inside] = rng.uniform(0, 255, (3, 1))
    shade = np.linspace(-20, 20, SIZE)[:, None] * rng.uniform(-1, 1)
    image += shade + rng.normal(0, 8, image.shape)
    return np.clip(image, 0, 255), labels


def make_pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images (count, 3, SIZE, SIZE) and labels (count, SIZE, SIZE)."""
    rng = np.random.default_rng(seed)
    images, labels = zip(*(make_picture(rng) for _ in range(count)), strict=True)
    return torch.tensor(np.stack(images), dtype=torch.float32), torch.tensor(np.stack(labels))


# Models


class FCN(nn.Module):
    """Three times halved, then back up by transposed convolutions, with skip connections."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.down2 = self._stage(3, 16)
        self.down4 = self._stage(16, 32)
        self.down8 = self._stage(32, 64)
        self.score4 = nn.Conv2d(32, num_labels, 1)
        self.score8 = nn.Conv2d(64, num_labels, 1)
        self.up2 = nn.ConvTranspose2d(num_labels, num_labels, 4, stride=2, padding=1)
        self.up4 = nn.ConvTranspose2d(num_labels, num_labels, 8, stride=4, padding=2)

    @staticmethod
    def _stage(num_in: int, num_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(num_in, num_out, 3, padding=1),
            nn.BatchNorm2d(num_out),
            nn.ReLU(),
            nn.Conv2d(num_out, num_out, 3, padding=1),
            nn.BatchNorm2d(num_out),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B, labels, H, W) of an image (B, 3, H, W) of 0 to 255."""
        at4 = self.down4(self.down2(image / 128 - 1))
        scores: Tensor = self.score4(at4) + self.up2(self.score8(self.down8(at4)))
        return self.up4(scores)


class Segmenter(nn.Module):
    """A network, and a CRF behind it or none."""

    def __init__(self, network: nn.Module, crf: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.crf = crf

    def forward(self, image: Tensor) -> Tensor:
        """Return scores for the labels."""
        scores: Tensor = self.network(image)
        return scores if self.crf is None else self.crf(scores, image)


def make_crf() -> DenseCRF:
    """Return a CRF with untrained weights, standard deviations and compatibility."""
    kernels = [
        df.Gaussian(sigma_space=1, weight=1),
        df.Bilateral(sigma_space=6, sigma_color=20, weight=2),
    ]
    start = 1 - np.eye(len(NAMES))
    return DenseCRF(kernels, compatibility=start, training_iterations=5, output="scores")


# Training and what comes of it


def batches(images: Tensor, labels: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random batches without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        yield images[chosen], labels[chosen]


def train(model: Segmenter, data: tuple[Tensor, Tensor], *, steps: int, rate: float) -> list[float]:
    """Train what requires gradients; return the loss of every step."""
    groups = [{"params": [p for p in model.network.parameters() if p.requires_grad], "lr": rate}]
    if model.crf is not None:
        groups.append({"params": list(model.crf.parameters()), "lr": 0.02})
    optimizer = torch.optim.Adam([group for group in groups if group["params"]])
    losses = []
    model.train()
    if not groups[0]["params"]:
        model.network.eval()  # it stays as it is, normalisations included
    for _, (image, labels) in zip(range(steps), batches(*data, seed=1), strict=False):
        loss = functional.cross_entropy(model(image), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def predict(model: Segmenter, images: Tensor) -> Tensor:
    """Return labels (N, H, W)."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part).argmax(dim=1) for part in images.split(BATCH)])


def mean_iou(predicted: Tensor, labels: Tensor) -> float:
    """Intersection over union, averaged over the labels."""
    ious = []
    for label in range(len(NAMES)):
        ours, truth = predicted == label, labels == label
        ious.append(float((ours & truth).sum() / (ours | truth).sum()))
    return float(np.mean(ious))


def run(steps: int) -> tuple[dict[str, Segmenter], dict[str, list[float]]]:
    """Train the three; all networks see the same number of batches."""
    data = make_pictures(400, seed=1)
    torch.manual_seed(0)
    network = FCN(len(NAMES))
    last = steps // 3
    losses = train(Segmenter(network, None), data, steps=steps - last, rate=3e-3)

    joint = Segmenter(copy.deepcopy(network), make_crf())
    joint_losses = train(joint, data, steps=last, rate=1e-3)

    alone = Segmenter(network, None)
    losses_alone = train(alone, data, steps=last, rate=1e-3)

    frozen = copy.deepcopy(network).requires_grad_(False)
    decoupled = Segmenter(frozen, make_crf())
    train(decoupled, data, steps=last, rate=0.0)
    return (
        {"no CRF": alone, "decoupled": decoupled, "joint": joint},
        {"no CRF": losses + losses_alone, "joint": losses + joint_losses},
    )


def plot(
    models: dict[str, Segmenter],
    losses: dict[str, list[float]],
    data: tuple[Tensor, Tensor],
    out: Path,
) -> None:
    """Draw pictures with the labels of all models, and the losses."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    images, labels = data[0][:4], data[1][:4]
    columns = {"image": None, "truth": labels}
    columns |= {name: predict(model, images) for name, model in models.items()}
    figure, axes = pyplot.subplots(5, len(columns), figsize=(2 * len(columns), 10))
    for column, (name, shown) in enumerate(columns.items()):
        axes[0, column].set_title(name)
        for row in range(4):
            axis = axes[row, column]
            axis.axis("off")
            if shown is None:
                axis.imshow(images[row].permute(1, 2, 0) / 255)
            else:
                axis.imshow(shown[row], vmin=0, vmax=len(NAMES) - 1, cmap="viridis")
        axes[4, column].remove()
    axis = figure.add_subplot(5, 1, 5)
    for name, values in losses.items():
        smooth = np.convolve(values, np.ones(15) / 15, mode="valid")
        axis.plot(smooth, label=name)
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    axis.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=100)


def main() -> None:
    """Train, print the numbers, draw the plot."""
    parser = argparse.ArgumentParser(description="Train a network and a CRF together.")
    parser.add_argument("--out", type=Path, default=Path("end_to_end.png"))
    parser.add_argument("--steps", type=int, default=450)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    models, losses = run(arguments.steps)
    test = make_pictures(100, seed=2)
    print(f"mean IoU of {len(NAMES)} labels on 100 new pictures:")
    for name, model in models.items():
        print(f"  {name:10s} {mean_iou(predict(model, test[0]), test[1]):.3f}")
    crf = models["joint"].crf
    print(f"the CRF learned: weights {crf.weights.tolist()}, sigmas {crf.sigmas.tolist()}")
    plot(models, losses, test, arguments.out)
    print(f"{time.perf_counter() - begin:.0f} s; the plot is in {arguments.out}")


if __name__ == "__main__":
    main()
