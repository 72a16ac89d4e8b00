"""The command line ``densefield``.

:mod:`~densefield.cli.commands` holds the commands; they need the packages of the extra ``cli``
(click, tqdm, Pillow), which the rest of densefield does without.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA_MODULES = frozenset({"click", "tqdm", "PIL"})
_STOPPED = 130  # what shells report for a program ended by Ctrl-C


def main() -> None:
    """Run the command line on ``sys.argv``, and exit with its status."""
    try:
        from densefield.cli.commands import app

        app(prog_name="densefield")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA_MODULES:
            raise
        sys.exit(
            f"densefield: the command line needs the package {missing!r}, which is not installed; "
            "get it with: pip install 'densefield[cli]'"
        )
    except KeyboardInterrupt:  # while the modules were still being loaded
        sys.exit(_STOPPED)
