"""What computes, in words, as far as the machine tells."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest


def test_the_processor_is_named_with_the_cores_that_may_be_used() -> None:
    from core.models import inference

    n_cores = len(os.sched_getaffinity(0))
    assert re.fullmatch(rf"\S.*, {n_cores} cores?", inference.processor_text())


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo NVIDIA A2, 15356; echo NVIDIA H200, 143771", "NVIDIA H200, 140 GiB"),
        ("echo NVIDIA A2, 15356", "NVIDIA H200"),
        ("echo NVIDIA H200, [N/A]", "NVIDIA H200"),
        ("exit 9", "NVIDIA H200"),
    ],
)
def test_the_gpu_is_named_with_its_memory_where_the_driver_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    from core.models import inference

    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert inference.gpu_text("NVIDIA H200") == words


def test_without_the_driver_s_tool_the_name_stands_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from core.models import inference

    monkeypatch.setenv("PATH", str(tmp_path))
    assert inference.gpu_text("NVIDIA H200") == "NVIDIA H200"
