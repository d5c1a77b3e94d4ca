"""What is said of a unit that ran out of memory or disk."""

from __future__ import annotations

import errno
import logging
import os

import pytest
import torch

from pcdistill.errors import SceneError
from pcdistill.pipeline import stop_signal
from pcdistill.pipeline.stage import Task
from pcdistill.pipeline.unit_work import run_unit
from pcdistill.pipeline.workspace import Workspace

GPU = "CUDA out of memory. Tried to allocate 2.00 GiB."
CPU = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"


class Failing:
    """A stage, as far as `run_unit` asks."""

    name = "lift"
    memory_advice = "lower lift.batch"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def settings(self, unit):
        return {}

    def work(self, task, report):
        raise self.error


@pytest.mark.parametrize(
    ("error", "advice", "said"),
    [
        (
            torch.OutOfMemoryError(f"{GPU}\nGPU 0 has a total capacity of 8 GiB"),
            "lower lift.batch",
            f"the memory of the GPU is too small ({GPU}); lower lift.batch, or end what else "
            "uses it",
        ),
        (
            torch.OutOfMemoryError(GPU),
            "",
            f"the memory of the GPU is too small ({GPU}); take a GPU with more memory, or end "
            "what else uses it",
        ),
        (
            MemoryError(),
            "lower lift.batch",
            "the memory of the machine is too small; lower lift.batch, or try --jobs 1",
        ),
        (
            RuntimeError(CPU),
            "",
            f"the memory of the machine is too small ({CPU}); try --jobs 1",
        ),
    ],
)
def test_memory_that_is_too_small_is_a_sentence_with_the_setting(
    tmp_path, caplog, error, advice, said
):
    stage = Failing(error)
    stage.memory_advice = advice
    record = run_unit(Workspace(tmp_path), stage, Task("a", (), "mark"), lambda *report: None)
    assert (record.state, record.summary) == ("failed", said)
    assert caplog.records == []


def test_a_full_disk_names_the_workspace_where_the_system_names_nothing(tmp_path):
    stage = Failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    record = run_unit(Workspace(tmp_path), stage, Task("a", (), "mark"), lambda *report: None)
    assert record.summary == (
        f"{tmp_path}: cannot be read or written (No space left on device); check its permissions "
        "and the free space"
    )


def test_a_bug_is_logged_with_its_traceback(tmp_path, caplog):
    stage = Failing(ZeroDivisionError("a bug"))
    with caplog.at_level(logging.ERROR):
        record = run_unit(Workspace(tmp_path), stage, Task("a", (), "m"), lambda *report: None)
    assert record.summary == "unexpected ZeroDivisionError: a bug"
    assert caplog.records[0].exc_info


def test_a_stop_that_compiled_code_made_another_error_of_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(stop_signal, "_asked", [stop_signal.StoppedError("SIGTERM came", 143)])
    for error in (SceneError("scene.json: does not describe a scene"), ValueError("a shape")):
        with pytest.raises(stop_signal.StoppedError):
            run_unit(Workspace(tmp_path), Failing(error), Task("a", (), "m"), lambda *report: None)
