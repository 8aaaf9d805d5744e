"""What a run ran on: versions, hardware, commit -> ``environment.json``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    "opengte",
    "numpy",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "onnxruntime",
    "pyarrow",
    "bm25s",
    "rensa",
)
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


def describe_environment() -> dict[str, Any]:
    """Versions, processor and commit, as plain values; nothing that names a user."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(PACKAGES),
        "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cpu_features": cpu_features(),
        "commit": source_commit(),
        "command": Path(sys.argv[0]).name,
    }


def package_versions(names: tuple[str, ...]) -> dict[str, str | None]:
    """Distribution name -> installed version, None where it is absent."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def cpu_features() -> list[str]:
    """The vector units that decide which arithmetic is fast here; empty where unknown."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [feature for feature in CPU_FEATURES if feature in flags]


def source_commit() -> str | None:
    """The commit of the source tree this package runs from; None for an installed wheel."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def peak_rss_mb() -> float:
    """The most memory this process or one of its children has held, in MiB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1024.0 if sys.platform != "darwin" else 1024.0 * 1024.0
    return round(max(own, child) / unit, 1)
