"""Embeddings of class names in a prompt: of one template, or the mean of a named set."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from pcdistill.prompts import PROMPT_SETS, fill_prompt
from pcdistill.teachers.base import TextEncoder


def embed_names(encoder: TextEncoder, prompt: str, names: Sequence[str]) -> Tensor:
    """Embed class names as an encoder reads them in a prompt.

    Of a set of templates the unit embeddings of all are averaged, and the mean made unit again.

    Args:
        encoder: any text encoder.
        prompt: a template with {} or the name of a set.
        names: K class names.

    Returns:
        (K, D) float32, rows of unit length.

    Raises:
        ConfigError: the encoder has no meaning for a name.
    """
    if prompt not in PROMPT_SETS:
        return encoder.encode([fill_prompt(prompt, name) for name in names])
    templates = PROMPT_SETS[prompt]
    texts = [template.replace("{}", name) for name in names for template in templates]
    read = encoder.encode(texts).reshape(len(names), len(templates), encoder.dimensions)
    return functional.normalize(read.mean(dim=1), dim=1)
