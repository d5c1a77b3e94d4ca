"""Seeds for the global generators of random numbers, so that a test draws the same every time."""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np
import torch


def seed_generators(name: str) -> None:
    """Seed those of torch, numpy and Python from a name, whatever was drawn before.

    PCDISTILL_TEST_SEED asks for other numbers: thresholds have to hold for those, too.
    """
    name += os.environ.get("PCDISTILL_TEST_SEED", "")
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - somebody's library may draw from it
    random.seed(seed)


class TorchGenerator:
    """torch's global generator as hypothesis wants it, which seeds it before every example."""

    def seed(self, number: int) -> None:
        """Begin anew from a number."""
        torch.manual_seed(number)

    def getstate(self) -> torch.Tensor:
        """All that what is drawn next depends on."""
        return torch.get_rng_state()

    def setstate(self, state: torch.Tensor) -> None:
        """Go on from a state."""
        torch.set_rng_state(state)
