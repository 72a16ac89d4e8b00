# ruff: noqa: N802 - the names of the package that this one replaces
"""Dense CRF on any set of nodes: unary, kernels, mean field and its divergence."""

from __future__ import annotations

import copy
import math
import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from densefield import crf as native
from densefield._arrays import FloatArray, Shape
from densefield.inference import PreparedCRF
from densefield.kernels import Features
from densefield.pydensecrf._arguments import (
    MOST_DIMENSIONS,
    Float32Array,
    as_compatibility,
    as_float32,
    as_kind,
    as_size,
    check_reach,
)
from densefield.pydensecrf._kinds import (
    DIAG_KERNEL,
    NATIVE_MODES,
    NORMALIZE_SYMMETRIC,
    KernelType,
    NormalizationType,
)
from densefield.pydensecrf._unary import LogisticUnary, Unary
from densefield.pydensecrf.eigen import MatrixXf
from densefield.stepping import Inference


class _Run(NamedTuple):
    """An inference between two steps, and what it was started from."""

    prepared: PreparedCRF
    unary: Float32Array
    inference: Inference


class DenseCRF:
    """Dense CRF on any set of nodes, with features of your own.

    Parameters
    ----------
    nvar : int
        Number of nodes (pixels, voxels, points), 1 or more.
    nlabels : int
        Number of labels, 1 or more.

    Raises
    ------
    TypeError, ValueError
        If a size is no whole number above 0.

    Notes
    -----
    Unary and kernels may be set in any order and after an inference too. Lattices are built by
    the first inference and kept until another kernel is added. Threads may use one CRF at once,
    except to change it; the interpreter is free while the core computes.
    The original takes any size and crashes later; it cannot be subclassed.

    Examples
    --------
    >>> crf = DenseCRF(3, 2)
    >>> crf.setUnaryEnergy([[0.0, 0.0, 0.0], [1.0, -0.1, 1.0]])
    >>> crf.addPairwiseEnergy([[0.0, 0.5, 1.0]], compat=2)
    >>> np.argmax(crf.inference(5), axis=0)
    array([0, 0, 0])
    """

    def __init__(self, nvar: int, nlabels: int) -> None:
        nodes = as_size("nvar", nvar, minimum=1)
        self._set_sizes((nodes,), as_size("nlabels", nlabels, minimum=1))

    def _set_sizes(self, grid: Shape, num_labels: int) -> None:
        self._grid = grid
        self._nvar = math.prod(grid)
        self._nlabel = num_labels
        self._unary: Float32Array | None = None
        self._kernels: list[Features] = []
        self._prepared: PreparedCRF | None = None
        self._lock = threading.Lock()  # held while lattices are built

    def setUnary(self, u: Unary) -> None:
        """Set the unary from an object.

        Parameters
        ----------
        u : ConstUnary or LogisticUnary
            Can be given once; this CRF takes its energies.

        Raises
        ------
        TypeError, ValueError
            If it is something else, has another size, or was given to a CRF before: the original
            crashes in these cases.
        """
        if not isinstance(u, Unary):
            raise TypeError(f"u must be a ConstUnary or LogisticUnary, got {type(u).__name__}")
        self._unary = u.take((self._nlabel, self._nvar))

    def setUnaryEnergy(self, u: npt.ArrayLike, f: npt.ArrayLike | None = None) -> None:
        """Set the unary from an array of energies, which is copied.

        Parameters
        ----------
        u : (nlabels, npixels) array of float
            Energies, -log p; with `f` the weights L of `LogisticUnary`, (nlabels, k).
        f : (k, npixels) array of float, optional
            Features of every pixel: the energies are ``u @ f``.

        Raises
        ------
        TypeError, ValueError
            If the shape is another one, or a value is NaN or infinite.

        Notes
        -----
        The original takes C-contiguous, writable float32 only, wants `u` of shape
        (nlabels, npixels) with `f` too, and lets NaN pass.
        """
        if f is not None:
            self.setUnary(LogisticUnary(u, f))
            return
        values = as_float32("u", u, ndim=2)
        if values.shape != (self._nlabel, self._nvar):
            raise ValueError(
                f"u must have shape {(self._nlabel, self._nvar)} (nlabels, npixels), "
                f"got {values.shape}"
            )
        self._unary = np.array(values, order="C")

    def addPairwiseEnergy(
        self,
        features: npt.ArrayLike,
        compat: npt.ArrayLike,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a Gaussian kernel on features, which are copied.

        Parameters
        ----------
        features : (d, npixels) array of float
            Feature vectors divided by their standard deviations, 1 to 32 dimensions;
            `utils.create_pairwise_gaussian` and `utils.create_pairwise_bilateral` make them.
        compat : float or (nlabels,) or (nlabels, nlabels) array of float
            A number w rewards equal labels: it adds ``-w`` times the message to the energy. A
            vector is a diagonal matrix, and a matrix is made symmetric; both keep their sign, so
            that ``-w * numpy.eye(nlabels)`` is the number w.
        kernel : KernelType, default DIAG_KERNEL
            Makes no difference to inference.
        normalization : NormalizationType, default NORMALIZE_SYMMETRIC
            How the kernel is normalised.

        Raises
        ------
        TypeError, ValueError
            If the arguments do not fit the sizes of the CRF or are not finite.

        Notes
        -----
        The original takes features with NaN and beyond its 16-bit coordinates, a `compat` of any
        length, and any number as kernel and normalization, and then crashes or computes nonsense.
        """
        table = as_float32("features", features, ndim=2)
        if table.shape[1] != self._nvar or not 1 <= table.shape[0] <= MOST_DIMENSIONS:
            raise ValueError(
                f"features must have shape (d, {self._nvar}) with d from 1 to {MOST_DIMENSIONS}, "
                f"got {table.shape}"
            )
        check_reach("features must stay", table, "divide by larger standard deviations")
        self._add_kernel(np.array(table), compat, kernel, normalization)

    def _add_kernel(
        self, features: Float32Array, compat: Any, kernel: int, normalization: int
    ) -> None:
        """Add a kernel on a (d, N) array that nobody else will change."""
        as_kind("kernel", kernel, KernelType)
        mode = as_kind("normalization", normalization, NormalizationType)
        term = Features(
            features.T,
            compatibility=as_compatibility(compat, self._nlabel),
            normalization=NATIVE_MODES[mode],
            check_finite=False,
        )
        with self._lock:
            self._kernels.append(term)
            self._prepared = None

    def inference(self, niter: int) -> MatrixXf:
        """Approximate marginals after `niter` mean-field updates.

        Parameters
        ----------
        niter : int
            Number of updates, 0 or more; 0 gives the softmax of the unary.

        Returns
        -------
        MatrixXf, shape (nlabels, npixels)
            An array of float32: ``numpy.argmax(Q, axis=0).reshape((h, w))`` is the labelling.

        Raises
        ------
        TypeError, ValueError
            If `niter` is no whole number, or negative: the original cuts 2.5 down to 2 and takes
            -1 for 0.
        MemoryError
            If the tables would not fit.

        Notes
        -----
        The same input gives the same bits on any number of threads. Without a unary all
        energies are 0.
        """
        count = as_size("niter", niter, minimum=0)
        # A copy shares the lattices; it differs in the number of updates.
        prepared = copy.copy(self._lattices())
        prepared.crf = native.DenseCRF(prepared.crf.kernels, iterations=count)
        result = MatrixXf.of_size(self._nlabel, self._nvar)
        prepared.infer(
            self._on_grid(self._energies()), out=self._on_grid(result), check_finite=False
        )
        return result

    def startInference(self) -> tuple[MatrixXf, MatrixXf, MatrixXf]:
        """Return the marginals before the first update, and two matrices for `stepInference`.

        Returns
        -------
        Q : MatrixXf, shape (nlabels, npixels)
            Softmax of the unary. You may write to it.
        tmp1, tmp2 : MatrixXf
            Scratch for `stepInference`.

        Notes
        -----
        Without a unary Q is uniform, as in `inference`; in the original it is 0.
        """
        return self.inference(0), MatrixXf(), MatrixXf()

    def stepInference(
        self, Q: npt.ArrayLike, tmp1: MatrixXf | None = None, tmp2: MatrixXf | None = None
    ) -> None:
        """Make one mean-field update of `Q` in place.

        Parameters
        ----------
        Q : MatrixXf or ndarray, shape (nlabels, npixels)
            Marginals, from `startInference` or your own: any writable float array.
        tmp1, tmp2 : MatrixXf, optional
            From `startInference`. `tmp1` keeps what the next step needs again; without it a
            step costs more.

        Raises
        ------
        TypeError
            If `Q` is no NumPy array of floats.
        ValueError
            If it has another size, is read-only, or holds NaN or infinity: the original reads
            beyond the end of a `Q` that is too small.

        Notes
        -----
        The original leaves energies and a message in `tmp1` and `tmp2`; here nothing is to be
        read there.
        """
        if not isinstance(Q, np.ndarray) or Q.dtype.kind != "f":
            raise TypeError(
                f"Q must be an array of float that is changed in place, as startInference "
                f"returns it, got {type(Q).__name__}"
            )
        marginals = self._marginals(Q)
        if not Q.flags.writeable:
            raise ValueError("Q must be writable, since it is changed in place; pass Q.copy()")
        for name, scratch in (("tmp1", tmp1), ("tmp2", tmp2)):
            if scratch is not None and not isinstance(scratch, MatrixXf):
                raise TypeError(
                    f"{name} must be a MatrixXf from startInference or None, "
                    f"got {type(scratch).__name__}"
                )
        inference = self._inference_kept_in(tmp1)
        inference.q = self._on_grid(marginals)
        inference.step()
        Q[...] = inference.q.reshape(Q.shape)

    def klDivergence(self, Q: npt.ArrayLike) -> float:
        """KL divergence of marginals to the model, with the original's pairwise term.

        ``sum q log q + sum q U + sum_ij q_i A K_ij q_j``: the pairwise term is not halved and
        includes j = i, unlike in the paper and in `densefield.DenseCRF.kl_divergence`; so it need
        not fall in every step.

        Parameters
        ----------
        Q : (nlabels, npixels) array of float
            Marginals.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If `Q` has another size or is not finite.
        """
        marginals = self._on_grid(self._marginals(Q))
        energies = self._on_grid(self._energies())
        entropy, unary, pairs, _ = self._lattices()._energy_terms(energies, marginals, 0)
        return entropy + unary + pairs

    def _marginals(self, Q: npt.ArrayLike) -> Float32Array:
        marginals = as_float32("Q", Q, ndim=2)
        if marginals.shape != (self._nlabel, self._nvar):
            raise ValueError(
                f"Q must have shape {(self._nlabel, self._nvar)} (nlabels, npixels), "
                f"got {marginals.shape}"
            )
        return marginals

    def _energies(self) -> Float32Array:
        if self._unary is None:
            self._unary = np.zeros((self._nlabel, self._nvar), np.float32)
        return self._unary

    def _lattices(self) -> PreparedCRF:
        with self._lock:
            if self._prepared is None:
                self._prepared = native.DenseCRF(self._kernels).prepare(
                    shape=self._grid, check_finite=False
                )
            return self._prepared

    def _on_grid(self, table: FloatArray) -> FloatArray:
        """Return a view of (nlabels, npixels) as the core wants it: it goes by neighbourhoods."""
        return np.asarray(table).reshape(self._nlabel, *self._grid)

    def _inference_kept_in(self, scratch: MatrixXf | None) -> Inference:
        """Return the inference kept there, or a new one if the CRF is not what it was."""
        prepared, energies = self._lattices(), self._energies()
        run = None if scratch is None else scratch.run
        if isinstance(run, _Run) and run.prepared is prepared and run.unary is energies:
            return run.inference
        inference = prepared.start(self._on_grid(energies), check_finite=False)
        if scratch is not None:
            scratch.run = _Run(prepared, energies, inference)
        return inference
