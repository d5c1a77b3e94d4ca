"""OpenSeg as a dense teacher: features averaged over regions, from a process of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import weakref
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pcdistill.errors import ArtifactError, MissingExtraError, PcdistillError
from pcdistill.teachers.base import FeatureMap, TeacherSetup
from pcdistill.teachers.openseg import worker
from pcdistill.teachers.openseg.worker import CHANNELS

TEXT_SPACE = "clip-vit-l-14-336"
WEIGHTS = "openseg"
REVISION = "pooled/1"
"""Of what is made of the model's output."""
LONG_SIDE = 320
"""Cells of the longer side of a feature map at most, as OpenScene keeps them for ScanNet; the model
gives 640, which are 0.5 GB an image."""
MEMORY_SHARE = 0.8
"""Of this machine's memory that the process may take on a CPU."""


class OpenSegTeacher:
    """Dense features of OpenSeg in the space of CLIP ViT-L/14@336.

    The SavedModel runs in a process with TensorFlow, started at the first image and ended with this
    one. Its features, averaged over the regions that it proposes, are resized to the nearest
    neighbours as OpenScene does. Unlike there they get unit length, so that teachers weigh the same
    in a fusion. A cell that no region covers is zero.
    """

    name = WEIGHTS
    text_space = TEXT_SPACE
    dimensions = CHANNELS

    def __init__(self, setup: TeacherSetup) -> None:
        """Find the folder of the SavedModel.

        Raises:
            ConfigError: the run has another text space, or the folder is not on this machine or
                not complete.
            MissingExtraError: TensorFlow is not installed.
        """
        setup.require_text_space(self.name, TEXT_SPACE)
        self._folder = setup.weights.find(WEIGHTS)
        if find_spec("tensorflow") is None:
            raise MissingExtraError(
                "teacher 'openseg' needs TensorFlow, which is not installed; install it with "
                "pip install 'pcdistill[openseg]'"
            )
        known = setup.weights.provenance(WEIGHTS)
        self.provenance = {**known, "revision": f"{known['revision']} {REVISION}"}
        self._process = WorkerProcess(self._folder, on_gpu=setup.device.type == "cuda")

    def __call__(self, image: Tensor) -> FeatureMap:
        """See a (3, H, W) uint8 image."""
        size = (image.shape[1], image.shape[2])
        cells = map_size(size)
        encoded = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(encoded, "PNG", compress_level=1)
        raw = self._process.ask(
            {"height": cells[0], "width": cells[1]}, encoded.getvalue(), (*cells, CHANNELS)
        )
        features = functional.normalize(raw.permute(2, 0, 1).float(), dim=0).half()
        return FeatureMap(features, size, align_corners=True)


def map_size(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the feature map of an image of `size` (H, W): not more than it has."""
    scale = min(1.0, LONG_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class WorkerProcess:
    """A process of `worker`, started when it is first asked."""

    def __init__(self, folder: Path, on_gpu: bool) -> None:
        """Remember the folder of the model and where it may run."""
        self._folder = folder
        self._on_gpu = on_gpu
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def ask(self, request: dict[str, int], encoded: bytes, shape: tuple[int, ...]) -> Tensor:
        """Features (shape) float16 of an encoded image.

        Args:
            request: rows and columns that are wanted.
            encoded: a PNG or JPEG file.
            shape: expected of the answer.

        Raises:
            ArtifactError: the folder holds no model that gives this.
            PcdistillError: the process ended.
        """
        with self._lock:
            if self._process is None:
                self._start()
            assert self._process is not None
            header = self._exchange({**request, "bytes": len(encoded)}, encoded)
            if tuple(header["shape"]) != shape:
                raise self._refuse(f"it gives features of shape {tuple(header['shape'])}")
            assert self._process.stdout is not None
            content = self._process.stdout.read(header["bytes"])
        values = np.frombuffer(bytearray(content), dtype=np.float16)
        return torch.from_numpy(values.reshape(shape))

    def _start(self) -> None:
        limit = 0 if self._on_gpu else _memory_limit()
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        seen = {} if self._on_gpu else {"CUDA_VISIBLE_DEVICES": "-1"}
        process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__, str(self._folder), str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet, **seen},
        )
        self._process = process
        weakref.finalize(self, _stop, process)
        try:
            self._answer()
        except ArtifactError:
            _stop(process)
            self._process = None
            raise

    def _exchange(self, header: dict[str, int], content: bytes) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(header).encode() + b"\n" + content)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, which the missing answer tells
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        header: dict[str, Any] = json.loads(line)
        if "error" in header:
            raise self._refuse(header["error"])
        return header

    def _refuse(self, reason: str) -> ArtifactError:
        return ArtifactError(
            f"{self._folder}: TensorFlow cannot run it as OpenSeg ({reason}); expected the "
            f"SavedModel with the signature {worker.SIGNATURE}({', '.join(worker.INPUTS)})"
        )

    def _ended(self) -> PcdistillError:
        assert self._process is not None
        status = self._process.wait()
        self._process = None
        allowed = "" if self._on_gpu else f" of the {_memory_limit() / 2**30:.1f} GiB it may take"
        return PcdistillError(
            f"{self._folder}: the process of OpenSeg ended with status {status}, most likely for "
            f"lack of memory{allowed}; free some, or take smaller images"
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process by the end of its input."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    process.wait()


def _memory_limit() -> int:
    """Bytes that the process may allocate on a CPU."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(MEMORY_SHARE * total)
