"""Drop-in for the package pydensecrf: the same modules, names, arguments and numbers.

Change ``import pydensecrf.densecrf as dcrf`` into
``import densefield.pydensecrf.densecrf as dcrf``, and ``pydensecrf.utils`` likewise; or call
`install` once, before the first import of pydensecrf, and change nothing else.
"""

from __future__ import annotations

import sys

from densefield.pydensecrf import densecrf, eigen, utils

__all__ = ["densecrf", "eigen", "install", "utils"]


def install(*, overwrite: bool = False) -> None:
    """Make ``import pydensecrf`` give this package, for code that cannot be edited.

    Registers ``pydensecrf``, ``pydensecrf.densecrf``, ``pydensecrf.eigen`` and
    ``pydensecrf.utils`` in `sys.modules`: for this process only, nothing is written to disk.
    A pydensecrf that is installed but not imported yet is never looked at. Calling it again does
    nothing.

    Parameters
    ----------
    overwrite : bool, default False
        Replace a pydensecrf that has been imported already. What other modules have taken from
        it (``from pydensecrf.densecrf import DenseCRF2D``) stays what it was.

    Raises
    ------
    RuntimeError
        If another pydensecrf has been imported already and `overwrite` is False.

    Examples
    --------
    >>> install()  # doctest: +SKIP
    >>> import pydensecrf.densecrf as dcrf  # doctest: +SKIP
    >>> dcrf.DenseCRF2D.__module__  # doctest: +SKIP
    'densefield.pydensecrf.densecrf'
    """
    modules = {
        "pydensecrf": sys.modules[__name__],
        "pydensecrf.densecrf": densecrf,
        "pydensecrf.eigen": eigen,
        "pydensecrf.utils": utils,
    }
    others = [name for name in modules if sys.modules.get(name, modules[name]) != modules[name]]
    if others and not overwrite:
        raise RuntimeError(
            f"another pydensecrf has been imported already ({', '.join(others)}); call install() "
            f"before its first import, or install(overwrite=True) to replace it from now on"
        )
    sys.modules.update(modules)
