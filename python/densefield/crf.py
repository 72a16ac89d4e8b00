"""Dense conditional random fields: the model, and its inference by mean field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from densefield._arrays import (
    FloatArray,
    as_choice,
    as_count,
    as_flag,
    as_float_array,
    as_number,
    as_plain_array,
)
from densefield._devices import Device, check_device
from densefield.compatibility import Checked, CompatibilityLike, Potts, check_compatibility
from densefield.gradients import Checkpoint, InferenceVjp
from densefield.inference import PreparedCRF
from densefield.kernels import Kernel, Normalization, check_kernels, check_normalization
from densefield.stepping import Callback, Inference
from densefield.stored_model import StoredModel

Output: TypeAlias = Literal["marginals", "scores"]

_OUTPUTS = ("marginals", "scores")

_MAX_ITERATIONS = 2**31 - 1  # the core counts in 32 bits


class DenseCRF(StoredModel):
    """Fully connected CRF with Gaussian pairwise kernels, solved by mean field.

    ``E(x) = sum_i U[x_i, i] + sum_{i<j} mu(x_i, x_j) * sum_m w_m k_m(f_i, f_j)``; inference
    iterates ``q = softmax(-U - sum_m w_m mu K_m q)``.

    Parameters
    ----------
    kernels : sequence of Gaussian, Bilateral or Features
        The pairwise kernels with their weights. An empty sequence gives the softmax of the
        unary.
    compatibility : Potts or (C,) or (C, C) array of float, default Potts()
        Label compatibility mu: what neighbours with labels l and l' pay. (C,) is a diagonal
        matrix: negative entries reward equal labels.
    normalization : {"symmetric", "none", "before", "after"}, default "symmetric"
        How kernels are normalised, maths §3.
    iterations : int, default 10
        Mean-field updates. 5 are usual in training, 10 in use.
    exclude_self : bool, default False
        Leave a node's own marginal out of its message, as the paper's sum over j != i does;
        widely used code keeps it. On the lattice the own part is exact where all vertices
        between the corners of a node's simplex exist (maths §4).
    tolerance : float, default 0
        Stop when no marginal changes by more than this in an update; 0 never stops early.
    output : {"marginals", "scores"}, default "marginals"
        ``"scores"``: what the last softmax would be taken of, for losses that take logits. Potts
        counts as ``-w [l = l']`` there, which moves all labels of a node alike.
        Excludes `tolerance` and a callback, which look at marginals.
    device : {"cpu", "cuda"}, optional
        Where tables are built and inferences run; arrays are copied there and back. The CPU
        unless given. A device that cannot be used is a RuntimeError at the first inference,
        with the reason that `system_info` gives too.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or value.

    Notes
    -----
    Time grows with nodes times labels times iterations; see `prepare` for what can be kept
    between unaries of one image. The same input gives the same bits on any number of threads.

    References
    ----------
    Krähenbühl and Koltun 2011, "Efficient inference in fully connected CRFs with Gaussian
    edge potentials", algorithm 1.

    Examples
    --------
    >>> import densefield as df
    >>> import numpy as np
    >>> crf = df.DenseCRF([df.Gaussian(sigma_space=1, weight=2)], iterations=5)
    >>> unary = np.zeros((2, 1, 5), np.float32)
    >>> unary[1, 0] = [1, 1, -0.2, 1, 1]
    >>> crf.infer(unary).argmax(axis=0)
    array([[0, 0, 0, 0, 0]])
    """

    _prepared_class: type[PreparedCRF] = PreparedCRF

    def __init__(
        self,
        kernels: Sequence[Kernel],
        *,
        compatibility: CompatibilityLike | None = None,
        normalization: Normalization = "symmetric",
        iterations: int = 10,
        exclude_self: bool = False,
        tolerance: float = 0.0,
        output: Output = "marginals",
        device: Device | None = None,
    ) -> None:
        self._kernels = check_kernels(kernels)
        self._compatibility: Checked = check_compatibility(
            Potts() if compatibility is None else compatibility
        )
        self._normalization = check_normalization(normalization)
        self._iterations = as_count("iterations", iterations, maximum=_MAX_ITERATIONS)
        self._exclude_self = as_flag("exclude_self", exclude_self)
        self._tolerance = as_number("tolerance", tolerance, minimum=0)
        self._output: Output = (
            "scores" if as_choice("output", output, _OUTPUTS) == "scores" else "marginals"
        )
        self._device = check_device(device)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The pairwise kernels."""
        return self._kernels

    @property
    def compatibility(self) -> Checked:
        """Potts, or the (C,) or (C, C) array."""
        return self._compatibility

    @property
    def normalization(self) -> Normalization:
        """How kernels are normalised."""
        return self._normalization

    @property
    def iterations(self) -> int:
        """Mean-field updates of `infer`."""
        return self._iterations

    @property
    def exclude_self(self) -> bool:
        """Whether a node's own marginal is left out of its message."""
        return self._exclude_self

    @property
    def tolerance(self) -> float:
        """The change of marginals below which `infer` stops; 0 never."""
        return self._tolerance

    @property
    def output(self) -> Output:
        """What `infer` returns."""
        return self._output

    @property
    def device(self) -> Device | None:
        """Where inferences run; None is the CPU."""
        return self._device

    def __repr__(self) -> str:
        device = "" if self.device is None else f", device={self.device!r}"
        return (
            f"DenseCRF(kernels={list(self.kernels)}, compatibility={self.compatibility}, "
            f"normalization={self.normalization!r}, iterations={self.iterations}, "
            f"exclude_self={self.exclude_self}, tolerance={self.tolerance}, "
            f"output={self.output!r}{device})"
        )

    def prepare(
        self,
        image: npt.ArrayLike | None = None,
        *,
        shape: Sequence[int] | None = None,
        channel_axis: int | None = -1,
        dtype: npt.DTypeLike = np.float32,
        check_finite: bool = True,
    ) -> PreparedCRF:
        """Build all that depends on the image: lattices and normalisations.

        Keep the result for further unaries of the same image: building is a fifth to a third
        of the time of an inference.

        Parameters
        ----------
        image : (*grid, channels) or (*grid) array, optional
            What the bilateral kernels look at. uint8 values are 0..255 and never rescaled.
            Not needed without bilateral kernels.
        shape : sequence of int, optional
            The grid, where there is no image.
        channel_axis : int or None, default -1
            Where the image's channels are; None if it has none.
        dtype : float32 or float64, default float32
            Precision of the tables and of inference.
        check_finite : bool, default True
            Refuse NaN and infinity in the image here rather than during the build.

        Returns
        -------
        PreparedCRF

        Raises
        ------
        TypeError, ValueError
            If the image or shape is missing, does not fit the kernels, or is not finite.
        """
        # A copy: gradients look at the values again, whatever becomes of the caller's array.
        own = None if image is None else np.array(as_plain_array("image", image))
        return self._prepared_class(
            self,
            own,
            shape=shape,
            channel_axis=channel_axis,
            dtype=dtype,
            check_finite=check_finite,
        )

    def infer(
        self,
        unary: npt.ArrayLike,
        image: npt.ArrayLike | None = None,
        *,
        label_axis: int = 0,
        channel_axis: int | None = -1,
        out: FloatArray | None = None,
        callback: Callback | None = None,
        check_finite: bool = True,
    ) -> FloatArray:
        """Approximate marginals, or scores, after `iterations` updates, or fewer if they converge.

        Parameters
        ----------
        unary : (C, *grid) or, for point sets, (C, N) array of float
            Energies, see `unary_from_probabilities`; grids of 1 to 3 dimensions and more.
            float64 is computed in float64, all else in float32.
        image : (*grid, channels) or (*grid) array, optional
            What the bilateral kernels look at; values as they are, uint8 is 0..255.
        label_axis : int, default 0
            Where the unary's (and the result's) labels are.
        channel_axis : int or None, default -1
            Where the image's channels are; None if it has none. An image with as many
            dimensions as the grid has none.
        out : ndarray, optional
            Where the result goes: the unary's shape and the result's dtype exactly.
        callback : callable, optional
            Called as ``callback(iteration, q)`` after every update with its number from 1 and
            the marginals so far (a copy); a true return value stops.
        check_finite : bool, default True
            Refuse NaN and infinity in unary and image.

        Returns
        -------
        ndarray, shape of the unary, float32 or float64
            Marginals, which sum to 1 over the labels, or scores. `out` itself if given.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, shape or value.
        MemoryError
            If the tables would not fit; the text says how many bytes.
        KeyboardInterrupt
            On Ctrl-C, between two updates.
        """
        prepared, values = self._prepare_for(unary, image, label_axis, channel_axis, check_finite)
        return prepared.infer(
            values, label_axis=label_axis, out=out, callback=callback, check_finite=False
        )

    def infer_vjp(
        self,
        unary: npt.ArrayLike,
        image: npt.ArrayLike | None = None,
        *,
        label_axis: int = 0,
        channel_axis: int | None = -1,
        check_finite: bool = True,
        checkpoint: Checkpoint = "store",
    ) -> tuple[FloatArray, InferenceVjp]:
        """Approximate marginals, and a function that takes gradients back through them.

        Gradients of what is computed, the lattice's approximation included: exact almost
        everywhere. Same bits on any number of threads.

        Parameters
        ----------
        unary, image, label_axis, channel_axis, check_finite
            As for `infer`, which raises the same errors.
        checkpoint : {"store", "recompute"}, default "store"
            Keep the marginals of all T updates, or of every sqrt(T)-th to compute the others
            again. Both give the same bits.

        Returns
        -------
        q : ndarray
            The same bits as from `infer`; with two labels, equal up to rounding.
        vjp : InferenceVjp
            ``vjp(grad_q, wants=...)`` with ``grad_q = dL/dq`` returns `Gradients` of L.

        Examples
        --------
        >>> import densefield as df
        >>> crf = df.DenseCRF([df.Gaussian(sigma_space=1, weight=2)], iterations=5)
        >>> q, vjp = crf.infer_vjp([[0.0, 0.0, 0.0], [1.0, -0.1, 1.0]])
        >>> bool(vjp([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).weights[0] > 0)
        True
        """
        own = None if image is None else np.array(as_plain_array("image", image))
        prepared, values = self._prepare_for(unary, own, label_axis, channel_axis, check_finite)
        return prepared.infer_vjp(
            values, label_axis=label_axis, check_finite=False, checkpoint=checkpoint
        )

    def start(
        self,
        unary: npt.ArrayLike,
        image: npt.ArrayLike | None = None,
        *,
        label_axis: int = 0,
        channel_axis: int | None = -1,
        check_finite: bool = True,
    ) -> Inference:
        """Start an inference whose updates you make yourself; arguments as for `infer`."""
        prepared, values = self._prepare_for(unary, image, label_axis, channel_axis, check_finite)
        return prepared.start(values, label_axis=label_axis, check_finite=False)

    def kl_divergence(
        self,
        q: npt.ArrayLike,
        unary: npt.ArrayLike,
        image: npt.ArrayLike | None = None,
        *,
        label_axis: int = 0,
        channel_axis: int | None = -1,
        check_finite: bool = True,
    ) -> float:
        """KL divergence of marginals to the model, but for the constant log Z.

        ``sum q log q + sum q U + 0.5 * sum_{i != j} K_ij q_i . mu q_j``, maths §2. Parallel
        updates usually lower it; they may oscillate where weights are strong.

        Parameters
        ----------
        q : array of float
            Marginals in the unary's shape.
        unary, image, label_axis, channel_axis, check_finite
            As for `infer`.

        Returns
        -------
        float
        """
        prepared, values = self._prepare_for(unary, image, label_axis, channel_axis, check_finite)
        return prepared.kl_divergence(q, values, label_axis=label_axis, check_finite=check_finite)

    def energy(
        self,
        labels: npt.ArrayLike,
        unary: npt.ArrayLike,
        image: npt.ArrayLike | None = None,
        *,
        label_axis: int = 0,
        channel_axis: int | None = -1,
        check_finite: bool = True,
    ) -> float:
        """Energy E(x) of a labelling, maths §1, with the kernels as the lattice computes them.

        Parameters
        ----------
        labels : (*grid) array of int
            Labels 0 .. C-1.
        unary, image, label_axis, channel_axis, check_finite
            As for `infer`.

        Returns
        -------
        float
        """
        prepared, values = self._prepare_for(unary, image, label_axis, channel_axis, check_finite)
        return prepared.energy(labels, values, label_axis=label_axis, check_finite=False)

    def _prepare_for(
        self,
        unary: npt.ArrayLike,
        image: npt.ArrayLike | None,
        label_axis: int,
        channel_axis: int | None,
        check_finite: bool,
    ) -> tuple[PreparedCRF, FloatArray]:
        values = as_float_array("unary", unary, check_finite=check_finite)
        grid = PreparedCRF.grid_of(values, label_axis)
        prepared = self._prepared_class(
            self,
            image,
            shape=grid,
            channel_axis=channel_axis,
            dtype=values.dtype,
            check_finite=check_finite,
        )
        return prepared, values
