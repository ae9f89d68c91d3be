"""What stands beside every figure: the machine, what else ran on it, and what its disk takes for a sync."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import psutil

from raftlog_cli.filesystem import fdatasync_p50_ms, file_system_type


def machine(directory: Path) -> dict[str, object]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": file_system_type(directory),
        "fdatasync_p50_ms": round(fdatasync_p50_ms(directory), 3),
        "busy_before": busy_cores(),
    }


def busy_cores(seconds: float = 2.0) -> float:
    """Cores that others use: measured while nothing of ours runs."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    after = psutil.cpu_times()
    idle_s = after.idle - before.idle + after.iowait - before.iowait
    return round(max(0.0, (os.cpu_count() or 1) - float(idle_s) / seconds), 2)


def described(found: dict[str, object]) -> str:
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory_gb']} GB, Linux {found['kernel']}, "
        f"Python {found['python']}; data on {found['file_system']}, where 4 KiB appended take "
        f"{found['fdatasync_p50_ms']} ms to sync (p50). Others kept {found['busy_before']} cores busy before the run"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
