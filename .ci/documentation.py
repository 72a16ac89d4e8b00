"""Runs the Python blocks of README.md and docs/, and follows their links to files.

The blocks of a page run in order, in one namespace that starts with small inputs: `image`
(H, W, 3), `probabilities` and `logits` (C, H, W). A block after `<!-- not run -->` is left out,
one after `<!-- needs MODULE -->` where that module is not installed.
"""

import importlib.util
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

SKIP = "<!-- not run -->"
NEEDS = re.compile(r"<!-- needs (?P<module>\w+) -->")
BLOCK = re.compile(r"(?P<before>[^\n]*)\n+```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)(?P<path>[^)#\s]+)[^)]*\)")


def inputs() -> dict[str, Any]:
    """Return what the examples may use."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(3, 24, 32)).astype(np.float32)
    exponentials = np.exp(logits)
    return {
        "np": np,
        "image": rng.integers(0, 256, (24, 32, 3), dtype=np.uint8),
        "logits": logits,
        "probabilities": exponentials / exponentials.sum(axis=0),
    }


def is_left_out(before: str) -> bool:
    """Whether the line before a block says that it is not to run here."""
    needed = NEEDS.fullmatch(before)
    is_missing = needed is not None and importlib.util.find_spec(needed["module"]) is None
    return before == SKIP or is_missing


def run_blocks(page: Path) -> tuple[int, int]:
    """Return the numbers of blocks that ran and that failed."""
    text = page.read_text(encoding="utf-8")
    namespace, num_run, num_failed = inputs(), 0, 0
    for block in BLOCK.finditer("\n" + text):
        if is_left_out(block["before"].strip()):
            continue
        line = text.count("\n", 0, max(block.start("code") - 1, 0))
        num_run += 1
        try:
            exec(compile("\n" * line + block["code"], str(page), "exec"), namespace)
        except Exception:
            num_failed += 1
            traceback.print_exc()
    return num_run, num_failed


def missing_targets(page: Path) -> list[str]:
    """Return the links to files that are not there."""
    text = page.read_text(encoding="utf-8")
    paths = [m["path"] for m in LINK.finditer(text)]
    return [f"{page}: no such file: {p}" for p in paths if not (page.parent / p).exists()]


def main() -> int:
    """Check all pages; return 1 if something is wrong."""
    pages = [*sorted(Path().glob("*.md")), *sorted(Path("docs").rglob("*.md"))]
    results = [run_blocks(page) for page in pages]
    missing = [text for page in pages for text in missing_targets(page)]
    print("\n".join(missing))
    num_run, num_failed = (sum(column) for column in zip(*results, strict=True))
    print(f"summary: {len(pages)} pages, {num_run} blocks, {num_failed} failed")
    return 1 if num_failed or missing or not num_run else 0


if __name__ == "__main__":
    sys.exit(main())
