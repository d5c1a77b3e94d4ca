"""Loader of SEEM's official checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from pcdistill.errors import ArtifactError
from pcdistill.teachers.seem.network import SeemNetwork, SeemSizes
from pcdistill.teachers.weight_files import load_state_dict

log = logging.getLogger(__name__)

OF_TRAINING = "criterion."
"""Prefix of tensors that only a training has a use for."""


def load_seem(path: Path, sizes: SeemSizes | None = None) -> SeemNetwork:
    """Read a checkpoint with the names of the official files, as they are.

    Args:
        path: `seem_focall_v0.pt`, `seem_focall_v1.pt`, or the same tensors in another format.
        sizes: of the network, by default Focal-L.

    Returns:
        The frozen network, float32, on the CPU.

    Raises:
        ArtifactError: the file is missing, damaged or of another network.
        UnreadableError: it cannot be read.
    """
    with torch.device("meta"):
        network = SeemNetwork(sizes)
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = load_state_dict(path)
    trouble = [f"it lacks {name}" for name in wanted if name not in found]
    trouble += [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    if trouble:
        raise ArtifactError(
            f"{path}: {len(trouble)} differences to the {len(wanted)} tensors of SEEM Focal-L, the "
            f"first: {trouble[0]}; use seem_focall_v0.pt or seem_focall_v1.pt"
        )
    others = [n for n in found if n not in wanted and not n.startswith(OF_TRAINING)]
    if others:
        log.warning(
            "%s: %d tensors beside SEEM's left out, the first: %s", path, len(others), others[0]
        )
    network.load_state_dict({name: found[name].float() for name in wanted}, assign=True)
    return network.eval().requires_grad_(False)
