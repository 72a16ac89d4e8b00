"""What the figures of a run were measured on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import densefield as df

# Packages whose version belongs beside a figure, by the name that installs them.
PACKAGES = (
    *("numpy", "pydensecrf2", "pydensecrf", "torch"),
    *("opencv-contrib-python-headless", "opencv-contrib-python", "matplotlib"),
)


def describe() -> dict[str, Any]:
    """Return processor, system, commit, build and versions, ready for JSON."""
    info = df.system_info()
    return {
        "processor": processor_name(),
        "cores": available_cores(),
        "memory_gb": memory_gigabytes(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "gpu": gpu_name() or "none",
        "commit": commit(),
        "densefield": info["version"],
        "compiler": info["compiler"],
        "simd": info["simd"],
        "cuda": info["cuda"],
        "python": platform.python_version(),
        "packages": versions(),
    }


def processor_name() -> str:
    """Return the processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gigabytes() -> float | None:
    """Return the machine's memory, or None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def gpu_name() -> str | None:
    """Return the first GPU that the driver names, or None."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def commit() -> str:
    """Return the commit of this tree, with a plus where files differ from it."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", *arguments], capture_output=True, text=True, check=False, cwd=here
            )
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{name}{'+' if changed else ''}" or "unknown"


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def reason_missing(module: str, package: str) -> str | None:
    """Say that a module is not installed and how to get it, or return None."""
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed (pip install {package})"
    return None
