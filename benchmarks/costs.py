"""The bytes and operations that a task needs at least: the floors of docs/performance.md.

Bytes are what any method that works in passes has to read from and write to memory once: inputs,
results, and tables that do not fit the caches. Operations are additions and multiplications; a
fused one counts as two. Both belong to the task, not to who does it: a peer is held to the same.
N nodes, C labels, d dimensions, M vertices, k taps along an axis, T updates; float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOAT = 4  # bytes of a number
CORNER = 4 + 2  # bytes of a stored corner: weight and vertex number within a block
NEIGHBOURS = 8  # bytes of a vertex's two neighbours in one direction
EXPONENTIAL = 20  # operations of one exponential with its part of a softmax


@dataclass(frozen=True)
class Cost:
    """Bytes to move and operations to do."""

    bytes: float
    operations: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.operations + other.operations)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.bytes * times, self.operations * times)

    def floor_seconds(self, copy_bytes_per_second: float, operations_per_second: float) -> float:
        """Return the time below which this cannot be done: the larger of the two floors."""
        return max(
            self.bytes / copy_bytes_per_second,
            self.operations / operations_per_second,
        )


@dataclass(frozen=True)
class LatticeSize:
    """N points of d dimensions with M vertices; a spatial kernel on its grid has 2^n corners."""

    points: int
    dim: int
    vertices: int
    corners: int
    is_on_grid: bool = False  # then neither corners nor neighbours need to be stored

    @property
    def corner_bytes(self) -> int:
        """Read once in every splat and slice."""
        return 0 if self.is_on_grid else CORNER * self.points * self.corners

    @property
    def neighbour_bytes(self) -> int:
        """Read once in every blur."""
        return 0 if self.is_on_grid else NEIGHBOURS * self.vertices * self.corners

    @classmethod
    def of(cls, points: int, dim: int, vertices: int) -> LatticeSize:
        """Describe a permutohedral lattice: d + 1 corners."""
        return cls(points, dim, vertices, dim + 1)


def build(size: LatticeSize) -> Cost:
    """Build a lattice: features read, corners and neighbours written; N d^2 to embed."""
    return Cost(
        FLOAT * size.points * size.dim + size.corner_bytes + size.neighbour_bytes,
        2 * size.points * size.dim * (size.dim + 1),
    )


def splat(size: LatticeSize, channels: int) -> Cost:
    """Splat: values and corners read, vertices written; a multiply-add per corner and channel."""
    return Cost(
        FLOAT * channels * (size.points + size.vertices) + size.corner_bytes,
        2 * size.points * size.corners * channels,
    )


def blur(size: LatticeSize, channels: int) -> Cost:
    """Blur: every vertex read and written once; two additions and a product per direction."""
    return Cost(
        2 * FLOAT * channels * size.vertices + size.neighbour_bytes,
        3 * size.vertices * size.corners * channels,
    )


def slicing(size: LatticeSize, channels: int) -> Cost:
    """Slice: vertices and corners read, values written; the transpose of the splat."""
    return splat(size, channels)


def lattice_filter(size: LatticeSize, channels: int) -> Cost:
    """Filter: splat, blur and slice, one after the other."""
    return splat(size, channels) + blur(size, channels) + slicing(size, channels)


def prepare(sizes: Sequence[LatticeSize]) -> Cost:
    """Build all lattices and filter one field of ones on each, for the normalisation."""
    total = Cost(0, 0)
    for size in sizes:
        total = total + build(size) + lattice_filter(size, 1)
    return total


def updates(sizes: Sequence[LatticeSize], labels: int, iterations: int) -> Cost:
    """Mean field without its tables: T updates, each one pass over the unary.

    A pass slices, adds the unary, takes the softmax and splats while its nodes are in registers:
    it reads the unary and each corner once. The first pass only splats, the last one writes the
    result. Vertices are written by the splat, read and written by the blur, read by the slice.
    """
    nodes = sizes[0].points if sizes else 0
    one_pass = Cost(FLOAT * nodes * labels, nodes * labels * EXPONENTIAL)
    result = Cost(FLOAT * nodes * labels, 0)
    messages = Cost(0, 0)
    for size in sizes:
        rows = 2 * FLOAT * size.vertices * labels
        multiply_adds = 2 * 2 * size.points * size.corners * labels
        corners = Cost(size.corner_bytes, 0)
        messages = messages + blur(size, labels) + Cost(rows, multiply_adds) + corners
    first_splats = Cost(sum(s.corner_bytes for s in sizes), 0)
    return one_pass * (iterations + 1) + result + messages * iterations + first_splats


def dense_crf(sizes: Sequence[LatticeSize], labels: int, iterations: int) -> Cost:
    """Run a dense CRF from image and unary to marginals."""
    return prepare(sizes) + updates(sizes, labels, iterations)


def backward(
    sizes: Sequence[LatticeSize], labels: int, iterations: int, *, to_features: bool
) -> Cost:
    """Go back through T updates, maths §6, with all marginals kept.

    Each reads its marginals and the gradient by them and writes the next one, sums the gradient
    by the unary (read and written), and filters once with each transposed kernel. The gradient to
    features splats and blurs the marginals again and takes two dot products at every corner.
    """
    nodes = sizes[0].points if sizes else 0
    update = Cost(5 * FLOAT * nodes * labels, 8 * nodes * labels)
    for size in sizes:
        rows = blur(size, labels) + Cost(2 * FLOAT * size.vertices * labels, 0)
        corners = Cost(size.corner_bytes, 2 * 2 * size.points * size.corners * labels)
        update = update + (rows + corners) * (2 if to_features else 1)
    return update * iterations


def window_table(nodes: int, taps: int, dim: int) -> Cost:
    """Make the table of a window of `taps` neighbours: one exponential of d differences each."""
    return Cost(
        FLOAT * nodes * (dim + taps),
        nodes * taps * (3 * dim + EXPONENTIAL),
    )


def window_message(nodes: int, taps: int, labels: int) -> Cost:
    """Filter once: table and values read, result written, a multiply-add per tap and label."""
    return Cost(
        FLOAT * nodes * (taps + 2 * labels),
        2 * nodes * taps * labels,
    )


def conv_crf(nodes: int, taps: int, dims: Sequence[int], labels: int, iterations: int) -> Cost:
    """Run a ConvCRF: one merged table, T messages, each with unary and softmax."""
    tables = Cost(FLOAT * nodes * taps, 0)
    for dim in dims:
        made = window_table(nodes, taps, dim)
        tables = tables + Cost(FLOAT * nodes * dim, made.operations)
    update = window_message(nodes, taps, labels) + Cost(
        FLOAT * nodes * labels, nodes * labels * EXPONENTIAL
    )
    first = Cost(2 * FLOAT * nodes * labels, nodes * labels * EXPONENTIAL)
    return tables + first + update * iterations
