"""What an import costs, in a new process each time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks import peers
from benchmarks.comparison import Comparison, Contender, Settings, Skipped

# NumPy is what every one of them needs; an interpreter alone is the floor.
PROGRAMS = {
    "nothing": "",
    "numpy": "import numpy",
    "densefield": "import densefield",
}


def startup(settings: Settings) -> Iterator[Comparison | Skipped]:
    """Start a Python that imports one package."""
    programs = dict(PROGRAMS)
    reasons = {"pydensecrf": peers.pydensecrf_missing(), "torch": peers.torch_missing()}
    imports = {"pydensecrf": "import pydensecrf.densecrf", "torch": "import torch"}
    for name, reason in reasons.items():
        if reason is None:
            programs[name] = imports[name]
        else:
            yield Skipped("startup", name, reason)
    contenders = [Contender(name, 1, partial(_run, program)) for name, program in programs.items()]
    yield Comparison(
        case="startup/import",
        input="a new process",
        size={},
        contenders=contenders,
        baseline="numpy",
        note="a ratio is that of whole processes",
    )


def _run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
