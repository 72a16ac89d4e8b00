"""ConvCRF: the dense CRF's model with its kernels cut to a window of the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from densefield._arrays import FloatArray, as_choice, as_count, as_float_array, as_number
from densefield._devices import Device
from densefield._model import Output
from densefield.compatibility import CompatibilityLike
from densefield.conv_gradients import ConvInferenceVjp
from densefield.conv_inference import PreparedConvCRF
from densefield.conv_reference_config import options_from_config
from densefield.conv_tiles import infer_in_tiles
from densefield.crf import DenseCRF
from densefield.gradients import Checkpoint
from densefield.kernels import Kernel, Normalization
from densefield.stepping import Callback
from densefield.window import WindowShape, check_window

Start: TypeAlias = Literal["marginals", "log_marginals"]

_MAX_CELL = 2**31 - 1


class ConvCRF(DenseCRF):
    """CRF whose nodes talk to the neighbours in a window only, solved by mean field.

    The model of `DenseCRF` with ``k_m(f_i, f_j) = 0`` unless j lies in the window of i. The
    kernels are computed exactly and without a lattice; use it where evidence is local.

    Parameters
    ----------
    kernels : sequence of Gaussian, Bilateral or Features
        The pairwise kernels with their weights, on grids of 1 to 3 dimensions.
    filter_size : int, default 7
        Side of the square window (odd), or the largest sum of steps of the diamond.
    shape : {"square", "diamond"}, default "square"
        ``|dx|, |dy| <= filter_size // 2``, what the published code does, or
        ``|dx| + |dy| <= filter_size``, the distance of the paper's text.
    compatibility, normalization, iterations, exclude_self, tolerance, device
        As for `DenseCRF`. A (C,) compatibility of ``-weights`` gives every label a weight of its
        own; a (C, C) one is the 1 x 1 convolution over labels.
    downsampling : int, default 1
        Pass messages between cells of this many nodes along every axis: averaged over the
        cells before, interpolated between their centres after (`blur` of the published code).
    unary_weight : float or (C,) array of float, default 1
        Factor of the unary, normalised to ``-log p``.
    start_from : {"marginals", "log_marginals"}, default "marginals"
        What the first message is computed of; the published code takes the logarithm.
    output : {"marginals", "scores"}, default "marginals"
        ``"scores"``: what the last softmax would be taken of, as the published code returns.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or value.

    Notes
    -----
    An update costs O(N k**2 C), independent of the image; the table of weights holds a window
    per node. The same input gives the same bits on any number of threads, and in tiles
    (see `infer`). Divergence and energy are those of the model with the weighted unary.

    References
    ----------
    Teichmann and Cipolla 2018, "Convolutional CRFs for semantic segmentation".

    Examples
    --------
    >>> import densefield as df
    >>> import numpy as np
    >>> crf = df.ConvCRF([df.Gaussian(sigma_space=1, weight=2)], filter_size=3, iterations=5)
    >>> unary = np.zeros((2, 1, 5), np.float32)
    >>> unary[1, 0] = [1, 1, -0.2, 1, 1]
    >>> crf.infer(unary).argmax(axis=0)
    array([[0, 0, 0, 0, 0]])
    """

    _prepared_class = PreparedConvCRF

    def __init__(
        self,
        kernels: Sequence[Kernel],
        filter_size: int = 7,
        *,
        shape: WindowShape = "square",
        compatibility: CompatibilityLike | None = None,
        normalization: Normalization = "symmetric",
        iterations: int = 10,
        exclude_self: bool = False,
        tolerance: float = 0.0,
        downsampling: int = 1,
        unary_weight: float | npt.ArrayLike = 1.0,
        start_from: Start = "marginals",
        output: Output = "marginals",
        device: Device | None = None,
    ) -> None:
        super().__init__(
            kernels,
            compatibility=compatibility,
            normalization=normalization,
            iterations=iterations,
            exclude_self=exclude_self,
            tolerance=tolerance,
            output=output,
            device=device,
        )
        self._filter_size, self._shape = check_window(filter_size, shape)
        self._downsampling = as_count("downsampling", downsampling, minimum=1, maximum=_MAX_CELL)
        self._unary_weight = _check_unary_weight(unary_weight)
        self._start_from: Start = (
            "log_marginals"
            if as_choice("start_from", start_from, ("marginals", "log_marginals")) != "marginals"
            else "marginals"
        )

    @classmethod
    def from_reference_config(
        cls,
        config: Mapping[str, Any],
        *,
        iterations: int = 5,
        label_weight: npt.ArrayLike | None = None,
        label_transform: npt.ArrayLike | None = None,
    ) -> ConvCRF:
        """Make the model of a configuration dictionary of the published ConvCRF code.

        Parameters
        ----------
        config : mapping
            Keys as published: ``filter_size, blur, norm, weight, weight_init, unary_weight,
            convcomp, logsoftmax, final_softmax, pos_feats, col_feats`` and more; what is left
            out has the published default. Keys that choose an implementation are read over.
        iterations : int, default 5
            The published code takes them per call.
        label_weight : (C,) array of float, optional
            Trained weights, in place of ``weight_init``.
        label_transform : (C, C) array of float, optional
            Trained 1 x 1 convolution over labels; needed with ``convcomp``.

        Returns
        -------
        ConvCRF
            For unaries ``-log p``, where the published code takes ``log p``, and images of the
            scale that ``schan`` was chosen for.

        Raises
        ------
        TypeError, ValueError
            If a key or a value is unknown.

        Examples
        --------
        >>> crf = ConvCRF.from_reference_config({"filter_size": 7, "blur": 1})
        >>> crf.filter_size, crf.output, crf.normalization
        (7, 'scores', 'none')
        """
        options = options_from_config(
            config, label_weight=label_weight, label_transform=label_transform
        )
        return cls(**options, iterations=iterations)

    @property
    def filter_size(self) -> int:
        """Size of the window."""
        return self._filter_size

    @property
    def shape(self) -> WindowShape:
        """Which neighbours the window holds."""
        return self._shape

    @property
    def downsampling(self) -> int:
        """Nodes of a cell along every axis."""
        return self._downsampling

    @property
    def unary_weight(self) -> float | npt.NDArray[np.float64]:
        """Factor of the unary, one number or one for each label."""
        return self._unary_weight

    @property
    def start_from(self) -> Start:
        """What the first message is computed of."""
        return self._start_from

    @property
    def has_published_options(self) -> bool:
        """Whether the unary is normalised and weighted, or scores or logarithms are used."""
        return (
            self.start_from != "marginals"
            or self.output != "marginals"
            or not np.array_equal(self.unary_weight, 1.0)
        )

    def with_kernels(self, kernels: Sequence[Kernel]) -> ConvCRF:
        """Return the same model with other kernels."""
        return ConvCRF(
            kernels,
            self.filter_size,
            shape=self.shape,
            compatibility=self.compatibility,
            normalization=self.normalization,
            iterations=self.iterations,
            exclude_self=self.exclude_self,
            tolerance=self.tolerance,
            downsampling=self.downsampling,
            unary_weight=self.unary_weight,
            start_from=self.start_from,
            output=self.output,
            device=self.device,
        )

    def __repr__(self) -> str:
        dense = super().__repr__().removeprefix("DenseCRF(").removesuffix(")")
        return (
            f"ConvCRF({dense}, filter_size={self.filter_size}, shape={self.shape!r}, "
            f"downsampling={self.downsampling}, unary_weight={self.unary_weight}, "
            f"start_from={self.start_from!r})"
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
        tile: int | Sequence[int] | None = None,
    ) -> FloatArray:
        """Approximate marginals, or scores, after `iterations` updates.

        Parameters
        ----------
        unary, image, label_axis, channel_axis, out, callback, check_finite
            As for `DenseCRF.infer`.
        tile : int or sequence of int, optional
            Work through the grid in tiles of about this many nodes along every axis, each with
            the neighbourhood that its result depends on, one after another. The bits are those
            of the whole image; memory is that of a tile. Unary, image and `out` may be memory
            maps of any real dtype: only a tile of them is read, converted and written at a time.
            Excludes `callback` and `tolerance`.

        Returns
        -------
        ndarray, shape of the unary, float32 or float64
            Marginals or scores. `out` itself if given.

        Raises
        ------
        TypeError, ValueError, MemoryError, KeyboardInterrupt
            As for `DenseCRF.infer`.
        """
        if tile is not None:
            return infer_in_tiles(
                self,
                unary,
                image,
                tile=tile,
                label_axis=label_axis,
                channel_axis=channel_axis,
                out=out,
                callback=callback,
                check_finite=check_finite,
            )
        return super().infer(
            unary,
            image,
            label_axis=label_axis,
            channel_axis=channel_axis,
            out=out,
            callback=callback,
            check_finite=check_finite,
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
    ) -> tuple[FloatArray, ConvInferenceVjp]:
        """Infer, and return a function that takes gradients back through the result.

        ``q, vjp = crf.infer_vjp(unary, image)``; with ``grad_q = dL/dq`` of any function L of
        the result, marginals or scores, ``vjp(grad_q).unary`` is dL/dunary, and so on.

        Parameters
        ----------
        unary, image, label_axis, channel_axis, check_finite, checkpoint
            As for `DenseCRF.infer_vjp`.

        Returns
        -------
        q : ndarray, shape of the unary, float32 or float64
            The same bits as from `infer`.
        vjp : ConvInferenceVjp
            ``vjp(grad_q, wants=...)`` returns `ConvGradients`.

        Raises
        ------
        TypeError, ValueError, MemoryError, KeyboardInterrupt
            As `infer`.

        Notes
        -----
        Exact gradients of the truncated kernels, through every option. For those by image,
        features, weights and standard deviations the way back keeps one number per node and
        neighbour. Same bits on any number of threads.

        Examples
        --------
        >>> import densefield as df
        >>> crf = df.ConvCRF([df.Gaussian(sigma_space=1, weight=2)], 3, iterations=5)
        >>> q, vjp = crf.infer_vjp([[0.0, 0.0, 0.0], [1.0, -0.1, 1.0]])
        >>> gradients = vjp([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
        >>> gradients.unary.shape, bool(gradients.weights[0] > 0)
        ((2, 3), True)
        """
        result, vjp = super().infer_vjp(
            unary,
            image,
            label_axis=label_axis,
            channel_axis=channel_axis,
            check_finite=check_finite,
            checkpoint=checkpoint,
        )
        return result, cast("ConvInferenceVjp", vjp)


def _check_unary_weight(value: Any) -> float | npt.NDArray[np.float64]:
    if isinstance(value, bool | int | float) or np.ndim(value) == 0:
        return as_number("unary_weight", value)
    array = np.array(as_float_array("unary_weight", value, can_skip=False), dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"unary_weight must be one number or have shape (C,), got shape {array.shape}"
        )
    array.flags.writeable = False
    return array
