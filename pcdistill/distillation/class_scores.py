"""Scores of classes, of which several prompts may ask for one."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.geometry import require_shape


def class_scores(prompt_scores: Tensor, class_of_prompt: Tensor | None) -> Tensor:
    """Give each class the score of its best prompt.

    The best class is then that of the best prompt, as at inference (`LabelSet.to_categories`).

    Args:
        prompt_scores: (R, P) float.
        class_of_prompt: (P,) int64 in [0, K), of which each number occurs; None where every prompt
            is a class of its own.

    Returns:
        (R, K) float, P of them without `class_of_prompt`.

    Raises:
        ValueError: shapes differ.
    """
    if class_of_prompt is None:
        return prompt_scores
    require_shape("class_of_prompt", class_of_prompt, prompt_scores.shape[1])
    index = class_of_prompt.to(prompt_scores.device)  # (P,)
    classes = int(class_of_prompt.max()) + 1
    lowest = torch.full_like(prompt_scores[:, :1], -torch.inf).expand(-1, classes)  # (R, K)
    return lowest.scatter_reduce(1, index.expand_as(prompt_scores), prompt_scores, "amax")
