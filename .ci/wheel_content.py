"""What must and what must not be in a wheel; its path is the argument."""

import fnmatch
import sys
import zipfile
from pathlib import Path

REQUIRED = (
    "densefield/__init__.py",
    "densefield/_densefield.*.so",
    "densefield/_densefield.pyi",
    "densefield/py.typed",
    "densefield/cli/__init__.py",
    "densefield/data/*.jpg",
    "densefield/data/*.npz",
    "densefield-*.dist-info/licenses/LICENSE",
)
# The module, and beside it the CUDA library where there was a compiler for it.
LIBRARIES = ("densefield/_densefield.*.so", "densefield/_densefield_cuda.so")
ALLOWED = ("densefield/*", "densefield-*.dist-info/*")
FORBIDDEN = (
    "*.cpp",
    "*.h",
    "*.cu",
    "*.cuh",
    "*.o",
    "*.a",
    "*.txt.in",
    "*/__pycache__/*",
    "*test_*",
)
MAX_BYTES = 10_000_000


def main(path: Path) -> int:
    """Print every fault; return 1 if there is one."""
    names = zipfile.ZipFile(path).namelist()
    faults = [f"missing: {p}" for p in REQUIRED if not fnmatch.filter(names, p)]
    faults += [f"unexpected: {n}" for n in names if not matches(n, ALLOWED)]
    faults += [f"must not be there: {n}" for n in names if matches(n, FORBIDDEN)]
    libraries = fnmatch.filter(names, "*.so")
    faults += [f"unknown library: {n}" for n in libraries if not matches(n, LIBRARIES)]
    if len(libraries) > len(LIBRARIES):
        faults.append(f"too many libraries: {libraries}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        faults.append(f"{size} bytes are more than {MAX_BYTES}")
    print("\n".join(faults) or f"summary: wheel of {size / 1e6:.1f} MB, {len(names)} files")
    return 1 if faults else 0


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the shell patterns fits."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
