"""What a machine computes on, in words. Loads no TensorFlow: which of it a graph runs on, `inference` knows."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

ASK_SECONDS = 10


def processor_text() -> str:
    """The processor's model and how many cores this process may use: "AMD EPYC, 2 cores"."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{_processor_model()}, {n_cores} {'core' if n_cores == 1 else 'cores'}"


def gpu_text(name: str) -> str:
    """The GPU's name and memory: "NVIDIA H200, 140 GiB"; the name alone where the driver's tool does not tell."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return name
    asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=ASK_SECONDS, check=True).stdout
        of_name = dict(line.rsplit(",", 1) for line in told.strip().splitlines())
        return f"{name}, {int(of_name[name]) / 1024:.0f} GiB"
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return name


def _processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
    words = found.replace("(R)", "").replace("(TM)", "").split()
    return " ".join(words) or platform.processor() or platform.machine() or "processor"
