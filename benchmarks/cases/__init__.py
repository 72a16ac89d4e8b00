"""The groups of cases, by name; each yields comparisons one after the other."""

from __future__ import annotations

from benchmarks.cases.backward import backward
from benchmarks.cases.dense_crf import dense_crf
from benchmarks.cases.filters import filters
from benchmarks.cases.lattice import lattice
from benchmarks.cases.memory import memory
from benchmarks.cases.scaling import scaling
from benchmarks.cases.startup import startup
from benchmarks.cases.window import window
from benchmarks.comparison import Case

GROUPS: dict[str, Case] = {
    "lattice": lattice,
    "dense_crf": dense_crf,
    "window": window,
    "filters": filters,
    "backward": backward,
    "scaling": scaling,
    "memory": memory,
    "startup": startup,
}
