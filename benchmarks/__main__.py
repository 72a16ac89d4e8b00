"""Run the suite, print every figure as it is found, and write them to one file per machine.

    python -m benchmarks [GROUP ..] [--quick] [--photographs DIR] [--output FILE]

Groups: see ``benchmarks.cases``. README.md is the contract that all of them keep.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import machine, results_file, tables
from benchmarks.cases import GROUPS
from benchmarks.comparison import Comparison, MemoryUse, Settings, Skipped, measure
from benchmarks.peaks import measure_peaks

ROUNDS, QUICK_ROUNDS = 7, 3


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("groups", nargs="*", help=f"some of: {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small inputs, under a minute")
    parser.add_argument("--photographs", type=Path, help="a folder with images/ and unaries/")
    parser.add_argument("--rounds", type=int, help=f"of everything (default: {ROUNDS})")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 and all cores")
    parser.add_argument("--output", type=Path, help="default: one file per machine in results/")
    found = parser.parse_args()
    unknown = [name for name in found.groups if name not in GROUPS]
    if unknown:
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    if found.rounds is not None and found.rounds < ROUNDS and not found.quick:
        parser.error(f"--rounds must be {ROUNDS} or more, got {found.rounds}; --quick takes fewer")
    if found.threads is not None and min(found.threads) < 1:
        parser.error(f"--threads must be 1 or more, got {min(found.threads)}")
    return found


def settings_of(found: argparse.Namespace) -> Settings:
    """Return the settings that the command line asks for."""
    threads = found.threads or (1, machine.available_cores())
    return Settings(
        threads=tuple(sorted(set(threads))),
        rounds=found.rounds or (QUICK_ROUNDS if found.quick else ROUNDS),
        quick=found.quick,
        photographs=found.photographs,
    )


def run_groups(names: Iterable[str], settings: Settings) -> results_file.Run:
    """Measure some groups; print each comparison when it is done."""
    counts = tuple(sorted({1, *settings.threads}))
    run = results_file.Run(settings, measure_peaks(counts))
    by_threads = {peak.threads: peak for peak in run.peaks}
    content = run.as_json()
    print(tables.machine_line(content))
    print(tables.text_table(tables.peak_rows(content)))
    for name in names:
        start = time.perf_counter()
        for item in GROUPS[name](settings):
            match item:
                case Skipped():
                    run.skipped.append(item)
                    print(f"\nleft out: {item.case}, {item.contender}: {item.reason}")
                case MemoryUse():
                    run.memory.append(item)
                    print(
                        f"\n{item.case}, {item.contender}: "
                        f"{item.peak_above_input_mb:.0f} MB above its {item.input_mb:.0f} MB input"
                    )
                case Comparison():
                    rows, left_out = measure(item, settings, by_threads)
                    run.rows += rows
                    run.skipped += left_out
                    print(tables.case_text([row.as_json() for row in rows]), flush=True)
        print(f"\n({name}: {time.perf_counter() - start:.0f} s)", flush=True)
    return run


def main() -> int:
    """Run what the command line asks for."""
    found = arguments()
    settings = settings_of(found)
    run = run_groups(found.groups or GROUPS, settings)
    content = run.as_json()
    ratios = tables.ratio_rows(content["rows"])
    if len(ratios) > 1:
        print(f"\n{tables.text_table(ratios)}")
    path = found.output
    if path is None and not found.groups:
        path = results_file.default_path(content["machine"], settings.quick)
    if path is None:
        print("\nnot written: only some groups ran, and no --output was given")
    else:
        results_file.write(path, content)
        print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
