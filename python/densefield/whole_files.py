"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

__all__ = ["write_whole"]


def write_whole(writers: Mapping[Path, Callable[[BinaryIO], object]]) -> None:
    """Write some files; none of them appears under its name before all of them are complete.

    Each is written to a hidden file in its own folder first, and renamed when the last one is
    complete. If anything goes wrong before, Ctrl-C included, the hidden files are removed and
    files that were there before stay as they were.

    Parameters
    ----------
    writers : mapping of Path to function
        For each file a function that writes its bytes to the open file that it gets.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    hidden: dict[Path, Path] = {}
    try:
        for path, write in writers.items():
            hidden[path] = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
            with open(hidden[path], "xb") as file:  # "x": never over a file of somebody else
                write(file)
        for path, part in hidden.items():
            os.replace(part, path)
    except BaseException:
        for part in hidden.values():
            part.unlink(missing_ok=True)
        raise
