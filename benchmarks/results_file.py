"""The JSON file of a run: written, read, and held to ``results/schema.json``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.comparison import MemoryUse, Row, Settings, Skipped
from benchmarks.peaks import Peak

FOLDER = Path(__file__).parent / "results"
SCHEMA = FOLDER / "schema.json"
VERSION = 1


@dataclass
class Run:
    """Everything that one run of the suite found."""

    settings: Settings
    peaks: list[Peak]
    machine: dict[str, Any] = field(default_factory=machine.describe)
    rows: list[Row] = field(default_factory=list)
    memory: list[MemoryUse] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            "version": VERSION,
            "date": today(),
            "quick": self.settings.quick,
            "rounds": self.settings.rounds,
            "threads": list(self.settings.threads),
            "machine": self.machine,
            "peaks": [
                {key: v for key, v in asdict(peak).items() if v is not None} for peak in self.peaks
            ],
            "rows": [row.as_json() for row in self.rows],
            "memory": [asdict(use) for use in self.memory],
            "skipped": [asdict(skip) for skip in self.skipped],
        }


def today() -> str:
    """Return the date, as it stands in the files."""
    return datetime.now(UTC).date().isoformat()


def default_path(description: dict[str, Any], quick: bool) -> Path:
    """Name the file after processor and instruction set: one per machine."""
    words = re.sub(r"[^a-z0-9]+", "_", description["processor"].lower()).strip("_")
    end = "_quick" if quick else ""
    return FOLDER / f"{words}_{description['simd']}{end}.json"


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the file whole: a run that is stopped leaves an older one as it was."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(_rounded(content), indent=1, ensure_ascii=False) + "\n")
    partial.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Read a file that `write` made."""
    content: dict[str, Any] = json.loads(path.read_text())
    if content.get("version") != VERSION:
        raise ValueError(
            f"{path.name} has version {content.get('version')}, version {VERSION} is wanted; "
            f"measure again with python -m benchmarks"
        )
    return content


def run_files() -> list[Path]:
    """Return the files of whole runs in the folder of results."""
    return sorted(FOLDER.glob("*_*.json"))


def _rounded(value: Any) -> Any:
    """Keep five digits: no timing has more."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return value
