"""Dense conditional random fields: the model, and its inference by mean field."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from densefield._arrays import (
    FloatArray,
    as_floats_in_place,
    own_copy,
)
from densefield._model import Model
from densefield._place import Place, place_of
from densefield.gradients import Checkpoint, InferenceVjp
from densefield.inference import PreparedCRF
from densefield.kernels import Features
from densefield.stepping import Callback, Inference
from densefield.stored_model import StoredModel


class DenseCRF(Model, StoredModel):
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
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: where tables are built and inferences run; NumPy's
        arrays are copied there and back. Unless given, where the arrays are: arrays on a GPU
        stay there. A device that cannot be used is a RuntimeError at the first inference, with
        the reason that `system_info` gives too.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or value.

    Notes
    -----
    Time grows with nodes times labels times iterations; see `prepare` for what can be kept
    between unaries of one image. The same input gives the same bits on any number of threads.
    On the CPU, in float32, labels that no node is likely to have get no messages, which changes
    marginals by about as much as rounding does (maths §2); float64 takes all labels.

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
        with self._place_of(image=image) as place:
            # A copy: gradients look at the values again, whatever becomes of the caller's array.
            own = None if image is None else own_copy("image", place.take("image", image))
            return self._prepared_class(
                self,
                own,
                shape=shape,
                channel_axis=channel_axis,
                dtype=dtype,
                check_finite=check_finite,
                place=place,
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
            float64 is computed in float64, all else in float32. If it is on a GPU, everything
            must be, and is computed and returned there: see the page on devices.
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
            Marginals, which sum to 1 over the labels, or scores. `out` itself if given. For
            arrays on a GPU, an array of the unary's library, or a `DeviceArray`.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, shape or value.
        RuntimeError
            If arrays are on different devices, or a device cannot be used.
        MemoryError
            If the tables would not fit; the text says how many bytes.
        KeyboardInterrupt
            On Ctrl-C, between two updates.
        """
        inputs = (unary, image, label_axis, channel_axis, check_finite)
        with self._prepared_for(*inputs, out=out) as (prepared, place, values):
            return prepared._infer(place, values, label_axis, out, callback, False)

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
        inputs = (unary, image, label_axis, channel_axis, check_finite)
        with self._prepared_for(*inputs, keeps_image=True) as (prepared, place, values):
            return prepared._infer_vjp(place, values, label_axis, False, checkpoint)

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
        inputs = (unary, image, label_axis, channel_axis, check_finite)
        with self._prepared_for(*inputs) as (prepared, place, values):
            return prepared._start_at(place, values, label_axis, False)

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
        inputs = (unary, image, label_axis, channel_axis, check_finite)
        with self._prepared_for(*inputs, q=q) as (prepared, place, values):
            return prepared._kl_divergence(place, q, values, label_axis, check_finite)

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
        inputs = (unary, image, label_axis, channel_axis, check_finite)
        with self._prepared_for(*inputs, labels=labels) as (prepared, place, values):
            return prepared._energy(place, labels, values, label_axis, False)

    def _place_of(self, **arrays: Any) -> contextlib.AbstractContextManager[Place]:
        """Find where a call's arrays and those of the kernels are."""
        own = {
            f"kernels[{m}].array": kernel.array
            for m, kernel in enumerate(self.kernels)
            if isinstance(kernel, Features)
        }
        return place_of(self.device, {**arrays, **own})

    @contextlib.contextmanager
    def _prepared_for(
        self,
        unary: npt.ArrayLike,
        image: npt.ArrayLike | None,
        label_axis: int,
        channel_axis: int | None,
        check_finite: bool,
        *,
        keeps_image: bool = False,
        **others: Any,
    ) -> Iterator[tuple[PreparedCRF, Place, FloatArray]]:
        """Prepare for one unary where the call's arrays are; `others` are all but these two."""
        with self._place_of(**others, unary=unary, image=image) as place:
            energies, pixels = place.take("unary", unary), place.take("image", image)
            check_finite = place.check_finite(check_finite, unary=energies, image=pixels)
            values = as_floats_in_place("unary", energies, check_finite=check_finite)
            prepared = self._prepared_class(
                self,
                own_copy("image", pixels) if keeps_image and pixels is not None else pixels,
                shape=PreparedCRF.grid_of(values, label_axis),
                channel_axis=channel_axis,
                dtype=values.dtype,
                check_finite=check_finite,
                place=place,
            )
            yield prepared, place, values
