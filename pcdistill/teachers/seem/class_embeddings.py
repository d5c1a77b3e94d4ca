"""Embeddings of SEEM's classes: means over prompts, in the model's own text space."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.teachers.seem.language_encoder import LanguageEncoder, unit_length

CHUNK = 256
"""Prompts that go through the text tower at once."""


def embed_classes(encoder: LanguageEncoder, token_ids: Tensor) -> Tensor:
    """Embed every class by the mean over its prompts.

    Prompts of like length go together and are cut behind their end, which leaves the result as it
    is and takes a tenth of the time.

    Args:
        encoder: of the network.
        token_ids: (C, T, L) int64, T prompts of each class, padded behind the end-of-text token,
            the largest id.

    Returns:
        (C, P) float32, unit length.
    """
    prompts = token_ids.flatten(0, 1)
    ends = prompts.argmax(dim=1)
    embedded = torch.empty(len(prompts), encoder.dimensions, device=prompts.device)
    for rows in torch.split(ends.argsort(), CHUNK):
        length = int(ends[rows].max()) + 1
        embedded[rows] = unit_length(encoder(prompts[rows, :length])).float()
    means = embedded.reshape(*token_ids.shape[:2], -1).mean(dim=1)
    return functional.normalize(means, dim=1)
