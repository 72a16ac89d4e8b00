"""The figures of a run as text for the terminal and as Markdown for the documentation.

    python -m benchmarks.tables RESULTS.json [--into docs/performance.md]

``--into`` replaces what stands between the two marks of a page by the tables of the file, and
names the file there.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import results_file

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
COLUMNS = (
    *("", "threads", "ms", "IQR %", "Mpoint/s", "GFLOP/s", "of copy speed"),
    *("of peak", "× floor", "error", "times faster than", "labels equal"),
)
PEER = "pydensecrf"


def figure(value: float | None, digits: int = 3) -> str:
    """Write a number with a few digits and no exponent where it can be read without one."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def percent(value: float | None) -> str:
    """Write a share."""
    return "" if value is None else f"{100 * value:.0f} %"


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row's cells, in the order of `COLUMNS`."""
    points = row.get("size", {}).get("points")
    rate = None if points is None else points / row["median_ms"] / 1e3
    operations = row.get("operations")
    arithmetic = None if operations is None else operations / row["median_ms"] / 1e6
    floor = row.get("floor_ms")
    ratio, equal = row.get("ratio"), row.get("labels_equal")
    return [
        row["contender"],
        str(row["threads"]),
        figure(row["median_ms"], 4),
        figure(row["iqr_percent"], 2),
        figure(rate),
        figure(arithmetic),
        percent(row.get("copy_share")),
        percent(row.get("peak_share")),
        "" if floor is None else figure(row["median_ms"] / floor),
        figure(row.get("error"), 2),
        "" if ratio is None else f"{row['baseline']}: {figure(ratio)}",
        "" if equal is None else f"{100 * equal:.3f} %",
    ]


def size_text(row: Mapping[str, Any]) -> str:
    """Write the size of a row's task."""
    return ", ".join(f"{value:,} {name}" for name, value in row.get("size", {}).items())


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Align rows of cells in columns; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first = row[0].ljust(widths[0])
        others = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of cells as a Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def case_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the rows of one comparison, with its head."""
    first = rows[0]
    lines = ["", f"{first['case']} ({', '.join(filter(None, (first['input'], size_text(first))))})"]
    errors = sorted({row["error_of"] for row in rows if row.get("error_of")})
    lines += [f"error: {text}" for text in errors]
    if first.get("note"):
        lines.append(f"note: {first['note']}")
    lines.append(text_table([COLUMNS, *map(cells, rows)]))
    return "\n".join(lines)


def ratio_rows(rows: Iterable[Mapping[str, Any]], peer: str = PEER) -> list[list[str]]:
    """Return, by case, contender and threads, the geometric mean of the ratios to a peer."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        if row.get("baseline", "").startswith(peer):
            key = (row["case"], row["contender"], row["threads"])
            found.setdefault(key, []).append(row["ratio"])
    table = [["case", "", "threads", "inputs", f"times faster than {peer}", "worst", "best"]]
    for (case, contender, threads), ratios in found.items():
        mean = statistics.geometric_mean(ratios)
        numbers = [figure(mean), figure(min(ratios)), figure(max(ratios))]
        table.append([case, contender, str(threads), str(len(ratios)), *numbers])
    return table


def peak_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """Return the machine's peaks as cells."""
    table = [["threads", "copy GB/s", "GFLOP/s", "per cycle and thread", "clock GHz", "method"]]
    for peak in content["peaks"]:
        keys = ("copy_gb_per_second", "gflop_per_second", "flops_per_cycle", "clock_ghz")
        numbers = [figure(peak.get(key)) for key in keys]
        table.append([str(peak["threads"]), *numbers, peak["method"]])
    return table


def memory_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """Return what processes needed as cells."""
    table = [["case", "", "inputs MB", "peak above them MB"]]
    for use in content["memory"]:
        numbers = [figure(use["input_mb"]), figure(use["peak_above_input_mb"])]
        table.append([use["case"], use["contender"], *numbers])
    return table


def machine_line(content: Mapping[str, Any]) -> str:
    """Write what the figures were measured on in one line."""
    found = content["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return (
        f"{found['processor']}, {found['cores']} cores, {found['simd']}, {found['system']}; "
        f"GPU {found['gpu']}; densefield {found['densefield']} at {found['commit']}, "
        f"compiler {found['compiler']}; Python {found['python']}, {packages}; "
        f"{content['date']}, load {found['load_at_start']} at the start"
    )


def of_first_input(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of each case's first input, which is the shipped photograph."""
    first: dict[str, str] = {}
    return [row for row in rows if first.setdefault(row["case"], row["input"]) == row["input"]]


def markdown(content: Mapping[str, Any], file_name: str) -> str:
    """Write a run as Markdown: means over all inputs, and every case on its first one."""
    kind = " A quick run: good for a look, never for a figure." if content["quick"] else ""
    parts = [
        f"From `benchmarks/results/{file_name}`, medians of {content['rounds']} rounds.{kind}",
        machine_line(content) + ".",
        markdown_table(peak_rows(content)),
    ]
    ratios = ratio_rows(content["rows"])
    if len(ratios) > 1:
        parts += [f"Beside {PEER} in the same run, geometric mean over the inputs:"]
        parts.append(markdown_table(ratios))
    if content["memory"]:
        parts.append(markdown_table(memory_rows(content)))
    rows_shown = of_first_input(content["rows"])
    if len(rows_shown) < len(content["rows"]):
        parts.append("Every case on its first input; the file has the others.")
    for group, rows in groupby(rows_shown, key=lambda row: str(row["case"]).partition("/")[0]):
        parts.append(f"### {group}")
        parts.append(markdown_table(_group_rows(list(rows))))
    parts += [
        f"Left out: {s['case']}, {s['contender']}: {s['reason']}." for s in content["skipped"]
    ]
    return "\n\n".join(parts)


def _group_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    table = [["case", "input", "size", *COLUMNS]]
    for row in rows:
        case = row["case"].partition("/")[2]
        table.append([case, row["input"], size_text(row), *cells(row)])
    return table


def replace_between_marks(page: str, text: str) -> str:
    """Put a text between the marks of a page, in place of what stands there."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page must hold {BEGIN} and after it {END}, once each")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> None:
    """Print the tables of a file, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path, help="a file of benchmarks/results")
    parser.add_argument("--into", type=Path, help="the page whose tables are replaced")
    arguments = parser.parse_args()
    content = results_file.read(arguments.results)
    text = markdown(content, arguments.results.name)
    if arguments.into is None:
        print(text)
        return
    page = arguments.into.read_text(encoding="utf-8")
    arguments.into.write_text(replace_between_marks(page, text), encoding="utf-8")
    print(f"{arguments.into} holds the tables of {arguments.results.name}")


if __name__ == "__main__":
    main()
