"""How teachers whose weights do not come with the package are built tiny, through the same code.

A teacher in here is built in the sizes of small random weights, written in the layout of the
official ones into the folder that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from pcdistill.teachers import Teacher, TeacherSetup, WeightStore, build_teacher, build_text_encoder
from pcdistill.teachers.lseg import LSEG_VIEWS
from tests.teachers.lseg.tiny import build_tiny_lseg
from tests.teachers.openseg.stand_in import LargeClip, install_stand_in
from tests.teachers.patches.tiny import build_tiny_maskclip
from tests.teachers.patches.tiny_hub import build_tiny_hub
from tests.teachers.seem.tiny import build_tiny_seem
from tests.teachers.tiny_sam3 import build_tiny_sam3

CPU = torch.device("cpu")


def build_tiny_openseg(folder: Path, device: torch.device) -> Teacher:
    """With a stand-in for TensorFlow, whose process starts at the first image."""
    with pytest.MonkeyPatch.context() as patch:
        install_stand_in(folder, patch)
        teacher = build_teacher("openseg", TeacherSetup(LargeClip(), WeightStore(folder), device))
        teacher(torch.zeros(3, 4, 4, dtype=torch.uint8))
    return teacher


TINY: dict[str, Callable[[Path, torch.device], Teacher]] = {
    **{name: partial(build_tiny_lseg, name) for name in LSEG_VIEWS},
    "maskclip": build_tiny_maskclip,
    "openseg": build_tiny_openseg,
    "siglip2": partial(build_tiny_hub, "siglip2-base-patch16-naflex"),
    "tipsv2": partial(build_tiny_hub, "tipsv2-b14"),
    "seem": build_tiny_seem,
    "seem-v1": partial(build_tiny_seem, weights="seem-v1"),
    "seem-released": partial(build_tiny_seem, style="released"),
    "sam3": build_tiny_sam3,
}
"""Name in `TEACHERS` -> how it is built."""


def build_tiny(name: str, folder: Path, device: torch.device = CPU) -> Teacher:
    """Build a teacher as `TINY` says, else as a run without any files of weights would."""
    if name in TINY:
        return TINY[name](folder, device)
    return build_teacher(name, TeacherSetup(build_text_encoder(), WeightStore(folder), device))
