"""LSeg in small sizes with random weights, through the code of the official checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.teachers import Teacher, TeacherSetup, WeightStore
from pcdistill.teachers.lseg import LSegTeacher
from pcdistill.teachers.lseg.network import LSegNetwork, LSegSizes

SIZES = LSegSizes(
    width=16,
    depth=4,
    heads=2,
    grid=3,
    taps=(0, 1, 2, 3),
    reassemble=(8, 8, 8, 8),
    fusion=8,
    dimensions=16,
)


class NoWords:
    """Stands for a text encoder of a space; LSeg asks it for nothing else."""

    dimensions = 512

    def __init__(self, text_space: str = "clip-vit-b-32") -> None:
        self.text_space = text_space

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Nothing is embedded by it."""
        raise NotImplementedError


def build_tiny_lseg(name: str, folder: Path, device: torch.device) -> Teacher:
    """Write weights into a folder, and build the teacher that looks at images in this way."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        torch.save(LSegNetwork(SIZES).state_dict(), folder / "demo_e200.ckpt")
    return LSegTeacher(name, TeacherSetup(NoWords(), WeightStore(folder), device), SIZES)
