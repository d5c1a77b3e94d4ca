"""Work on one unit, and the record of how it went."""

from __future__ import annotations

import logging
import time
from typing import Any, Literal

import torch

from pcdistill.callbacks import ProgressCallback
from pcdistill.checksums import file_blake2b
from pcdistill.errors import ConfigError, PcdistillError, file_trouble
from pcdistill.pipeline.stage import Stage, Task, list_files
from pcdistill.pipeline.stop_signal import heed_signals
from pcdistill.pipeline.workspace import UnitRecord, Workspace
from pcdistill.version import __version__

log = logging.getLogger(__name__)


def run_unit(
    workspace: Workspace, stage: Stage, task: Task, report: ProgressCallback
) -> UnitRecord:
    """Make one unit and say how it went; a user's mistake becomes a failed record."""
    begin = time.perf_counter()
    outputs: dict[str, int] = {}
    checksums: dict[str, str] = {}
    try:
        summary = stage.work(task, report)
        state: Literal["done", "failed"] = "done"
        files = {
            str(f.relative_to(workspace.root)): f for f in list_files(stage.outputs(task.unit))
        }
        outputs = {name: file.stat().st_size for name, file in files.items()}
        checksums = {name: file_blake2b(file) for name, file in files.items()}
    except ConfigError:
        raise
    except PcdistillError as error:
        state, summary = "failed", str(error)
    except OSError as error:
        state, outputs = "failed", {}
        summary = file_trouble(error, error.filename or workspace.root)
    except Exception as error:
        heed_signals()
        state, outputs = "failed", {}
        summary = _memory_trouble(error, stage.memory_advice)
        if not summary:
            log.exception("%s %s failed unexpectedly", stage.name, task.unit)
            summary = f"unexpected {type(error).__name__}: {error}"
    heed_signals()
    seconds = time.perf_counter() - begin
    details = _details(stage, task)
    return UnitRecord(task.fingerprint, state, summary, seconds, outputs, details, checksums)


def _memory_trouble(error: Exception, memory_advice: str) -> str:
    """Say that memory was too small, and what to do; empty for other exceptions.

    Args:
        error: of a library.
        memory_advice: of the stage.
    """
    text = str(error).split("\n")[0]
    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()  # the next unit may be smaller
        advice = memory_advice or "take a GPU with more memory"
        return f"the memory of the GPU is too small ({text}); {advice}, or end what else uses it"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        more = f" ({text})" if text else ""
        advice = f"{memory_advice}, or " if memory_advice else ""
        return f"the memory of the machine is too small{more}; {advice}try --jobs 1"
    return ""


def lost_record(task: Task, reason: str) -> UnitRecord:
    """Record of a unit that ended with its worker."""
    return UnitRecord(task.fingerprint, "failed", reason, 0.0, {}, _made_by())


def _details(stage: Stage, task: Task) -> dict[str, Any]:
    return {**_made_by(), "settings": dict(stage.settings(task.unit))}


def _made_by() -> dict[str, Any]:
    return {
        "pcdistill": __version__,
        "torch": torch.__version__,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
