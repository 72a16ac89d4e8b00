"""The permutohedral lattice in plain NumPy: maths §4 [ABD10].

Vertices are numbered in lexicographic order of their keys. A backend is free to number them
otherwise: compare through ``keys`` or through the results at the points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Float64Array, IntArray, as_features, as_rows

_ENTRIES_PER_BLOCK = 1 << 22  # 32 MiB of float64 for the unit vectors of one block of points


def elevation_matrix(dim: int) -> Float64Array:
    """E of maths §4 step 1, shape (d + 1, d): features to the hyperplane of sum 0.

    ``E.T @ E`` is ``2/3 * (d + 1)**2`` times the identity: the blur then has variance 1.
    """
    matrix = np.zeros((dim + 1, dim))
    for column, scale in enumerate(_scales(dim)):
        matrix[: column + 1, column] = scale
        matrix[column + 1, column] = -(column + 1) * scale
    return matrix


class Lattice:
    """Permutohedral lattice of a set of points, approximating the Gaussian sum over them.

    ``filter(v) = alpha * S B S^T v``: splat, blur along the d + 1 directions, slice.

    Parameters
    ----------
    features : (N, d) array of float
        Where each point lies, in units of the kernel's standard deviation; d >= 1.

    Attributes
    ----------
    num_points, num_vertices, dim : int
        N, M and d.
    elevated : (N, d + 1) ndarray of float64
        y = E f.
    ranks : (N, d + 1) ndarray of int64
        Rank of each component of y in the enclosing simplex, 0 for the largest difference.
    weights : (N, d + 1) ndarray of float64
        Barycentric weights: not negative (up to rounding), rows sum to 1.
    vertices : (N, d + 1) ndarray of int64
        Number of the vertex that each weight belongs to.
    keys : (M, d) ndarray of int64
        The first d components of each vertex, rows in lexicographic order.
    neighbours : (d + 1, M, 2) ndarray of int64
        Vertices one step along +delta_j and -delta_j, -1 where there is none.
    alpha : float
        1 / (1 + 2**-d).

    Notes
    -----
    The results depend on the order of the columns. Ties: the higher index counts as smaller;
    rounding is half to even.
    """

    def __init__(self, features: ArrayLike) -> None:
        points = as_features(features)
        self.num_points, self.dim = points.shape
        self.alpha = 1.0 / (1.0 + 2.0**-self.dim)
        self.elevated = _elevate(points)
        simplex = _enclosing_simplex(self.elevated)
        self.ranks = simplex.ranks
        self.weights = _barycentric_weights(self.elevated, simplex)
        corner = _corner_keys(simplex)[:, :, : self.dim]
        self.keys, inverse = np.unique(corner.reshape(-1, self.dim), axis=0, return_inverse=True)
        self.vertices: IntArray = inverse.reshape(self.num_points, self.dim + 1)
        self.num_vertices = len(self.keys)
        self.neighbours = _find_neighbours(self.keys)

    def splat(self, values: ArrayLike) -> Float64Array:
        """Sum the weighted (N, C) values at the vertices: S^T v, (M, C)."""
        signal = as_rows("values", values, num_rows=self.num_points)
        out = np.zeros((self.num_vertices, signal.shape[1]))
        for corner in range(self.dim + 1):
            np.add.at(out, self.vertices[:, corner], self.weights[:, corner, None] * signal)
        return out

    def blur(self, vertex_values: ArrayLike, *, reverse: bool = False) -> Float64Array:
        """Blur along every direction: B u, or B^T u in reverse order; (M, C) to (M, C)."""
        current = as_rows("vertex_values", vertex_values, num_rows=self.num_vertices)
        nothing = np.zeros((1, current.shape[1]))
        for step in self.neighbours[::-1] if reverse else self.neighbours:
            padded = np.concatenate([current, nothing])  # index -1 reads the row of zeros
            current = current + 0.5 * (padded[step[:, 0]] + padded[step[:, 1]])
        return current

    def slice(self, vertex_values: ArrayLike) -> Float64Array:
        """Interpolate (M, C) values of the vertices at the points: alpha S u, (N, C)."""
        held = as_rows("vertex_values", vertex_values, num_rows=self.num_vertices)
        return np.asarray(self.alpha * np.einsum("nk,nkc->nc", self.weights, held[self.vertices]))

    def filter(self, values: ArrayLike, *, transpose: bool = False) -> Float64Array:
        """Apply K, or K^T, to (N, C) values: maths §4, unnormalised."""
        return self.slice(self.blur(self.splat(values), reverse=transpose))

    def filter_vjp(
        self, values: ArrayLike, grad_out: ArrayLike
    ) -> tuple[Float64Array, Float64Array]:
        """Differentiate ``sum(grad_out * filter(values))``: maths §4, "Gradients".

        Parameters
        ----------
        values, grad_out : (N, C) arrays of float
            Input of the filter, and the gradient arriving at its output.

        Returns
        -------
        grad_values : (N, C) ndarray of float64
        grad_features : (N, d) ndarray of float64
            The exact derivative inside a simplex; at its borders one of the two sides.
        """
        signal = as_rows("values", values, num_rows=self.num_points)
        upstream = as_rows("grad_out", grad_out, num_rows=self.num_points)
        forward = self.blur(self.splat(signal))
        backward = self.blur(self.splat(upstream), reverse=True)
        grad_weights = self.alpha * (
            np.einsum("nc,nkc->nk", upstream, forward[self.vertices])
            + np.einsum("nc,nkc->nk", signal, backward[self.vertices])
        )
        return self.slice(backward), self._weights_vjp(grad_weights)

    def _weights_vjp(self, grad_weights: Float64Array) -> Float64Array:
        size = self.dim + 1
        rising = np.take_along_axis(grad_weights, self.dim - self.ranks, axis=1)
        falling = np.take_along_axis(grad_weights, (size - self.ranks) % size, axis=1)
        return np.asarray((rising - falling) / size @ elevation_matrix(self.dim))

    def diagonal(self) -> Float64Array:
        """Compute every K_ii by definition, missing vertices and all; O(N M d) time."""
        out = np.empty(self.num_points)
        block_size = max(1, _ENTRIES_PER_BLOCK // max(1, self.num_vertices))
        for start in range(0, self.num_points, block_size):
            corners = self.vertices[start : start + block_size]
            weights = self.weights[start : start + block_size]
            column = np.arange(len(corners))[:, None]
            splatted = np.zeros((self.num_vertices, len(corners)))
            splatted[corners, column] = weights  # the corners of one simplex are distinct
            blurred = self.blur(splatted)[corners, column]
            out[start : start + block_size] = self.alpha * (weights * blurred).sum(axis=1)
        return out

    def diagonal_formula(self) -> Float64Array:
        """Compute K_ii as if no vertex were missing: alpha sum_kl b_k b_l beta_kl, maths §4."""
        beta = _blur_between_corners(self.dim)
        return np.asarray(self.alpha * np.einsum("nk,kl,nl->n", self.weights, beta, self.weights))

    def diagonal_vjp(self, grad_diagonal: ArrayLike) -> Float64Array:
        """Differentiate ``sum(grad_diagonal * diagonal_formula())`` for the features, (N, d)."""
        upstream = np.asarray(grad_diagonal, dtype=np.float64)[:, None]
        beta = _blur_between_corners(self.dim)  # symmetric, hence twice one side
        return self._weights_vjp(2.0 * self.alpha * upstream * (self.weights @ beta))


class _Simplex(NamedTuple):
    base: IntArray  # (N, d+1) the corner of remainder 0; its components sum to 0
    ranks: IntArray  # (N, d+1) rank of y - base in descending order, 0..d


def _scales(dim: int) -> Float64Array:
    index = np.arange(dim, dtype=np.float64)
    return np.asarray(np.sqrt(2.0 / 3.0) * (dim + 1) / np.sqrt((index + 1.0) * (index + 2.0)))


def _blur_between_corners(dim: int) -> Float64Array:
    """Factors beta of maths §4: what the blur carries from one corner of a simplex to another."""
    corner = np.arange(dim + 1)
    steps = np.abs(corner[:, None] - corner[None, :])
    beta = 0.5**steps + 0.5 ** (dim + 1 - steps)
    np.fill_diagonal(beta, 1.0 + 0.5**dim)  # no step, all forwards, all backwards
    return np.asarray(beta)


def _elevate(points: Float64Array) -> Float64Array:
    # Running sum from the last dimension: the order in which the backends add.
    num_points, dim = points.shape
    scaled = points * _scales(dim)
    elevated = np.empty((num_points, dim + 1))
    tail = np.zeros(num_points)
    for j in range(dim, 0, -1):
        elevated[:, j] = tail - j * scaled[:, j - 1]
        tail = tail + scaled[:, j - 1]
    elevated[:, 0] = tail
    return elevated


def _enclosing_simplex(elevated: Float64Array) -> _Simplex:
    size = elevated.shape[1]
    multiple = np.rint(elevated / size)  # half to even
    difference = elevated - multiple * size
    # A stable sort keeps the lower index first among equals: the higher counts as smaller.
    order = np.argsort(-difference, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    multiple = multiple.astype(np.int64)
    ranks = ranks + multiple.sum(axis=1, keepdims=True)
    wrap = (ranks < 0).astype(np.int64) - (ranks >= size).astype(np.int64)
    return _Simplex(base=(multiple + wrap) * size, ranks=ranks + wrap * size)


def _barycentric_weights(elevated: Float64Array, simplex: _Simplex) -> Float64Array:
    size = elevated.shape[1]
    difference = (elevated - simplex.base) / size
    descending = np.empty_like(difference)
    np.put_along_axis(descending, simplex.ranks, difference, axis=1)
    weights: Float64Array = np.empty_like(difference)
    weights[:, 0] = 1.0 + descending[:, -1] - descending[:, 0]
    # Weight k belongs to the drop from rank d - k to the next rank.
    weights[:, 1:] = (descending[:, :-1] - descending[:, 1:])[:, ::-1]
    return weights


def _corner_keys(simplex: _Simplex) -> IntArray:
    size = simplex.base.shape[1]
    corner = np.arange(size)[None, :, None]
    wraps = simplex.ranks[:, None, :] > size - 1 - corner
    return np.asarray(simplex.base[:, None, :] + corner - size * wraps, dtype=np.int64)


def _find_neighbours(keys: IntArray) -> IntArray:
    num_vertices, dim = keys.shape
    number = {tuple(key): vertex for vertex, key in enumerate(keys.tolist())}
    neighbours = np.empty((dim + 1, num_vertices, 2), dtype=np.int64)
    for direction in range(dim + 1):
        delta = np.ones(dim + 1, dtype=np.int64)
        delta[direction] = -dim
        for side, step in enumerate((delta[:dim], -delta[:dim])):
            moved = (keys + step).tolist()
            neighbours[direction, :, side] = [number.get(tuple(key), -1) for key in moved]
    return neighbours
