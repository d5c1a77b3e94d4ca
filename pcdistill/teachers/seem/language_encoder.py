"""Text tower of SEEM: class names as vectors that its queries are compared with.

It has the shape of CLIP's text transformer, with weights and a space of its own. Names of the
weights as in SEEM's checkpoints (`sem_seg_head.predictor.lang_encoder.*`).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

NORM_EPS = 1e-12
LENGTH_EPS = 1e-7


class _QuickGelu(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(1.702 * values)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=_QuickGelu(),
                c_proj=nn.Linear(4 * width, width),
            )
        )
        self.ln_2 = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, tokens: Tensor, later: Tensor) -> Tensor:
        normed = self.ln_1(tokens)
        attended, _ = self.attn(normed, normed, normed, attn_mask=later, need_weights=False)
        tokens = tokens + attended
        result: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return result


class _TextTransformer(nn.Module):
    def __init__(self, width: int, heads: int, layers: int, context: int, words: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, token_ids: Tensor) -> Tensor:
        length = token_ids.shape[1]
        tokens = self.token_embedding(token_ids) + self.positional_embedding[:length]
        later = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        for block in self.resblocks:
            tokens = block(tokens, later)
        normed: Tensor = self.ln_final(tokens)
        return normed


class LanguageEncoder(nn.Module):
    """Token ids -> text embeddings; and the comparison of queries with classes."""

    def __init__(
        self, width: int, heads: int, layers: int, context: int, words: int, dimensions: int
    ) -> None:
        """Create the layers.

        Args:
            width: of the tokens.
            heads: of the attention.
            layers: of the transformer.
            context: tokens of the longest text.
            words: entries of the tokenizer's vocabulary.
            dimensions: P of the text space.
        """
        super().__init__()
        self.dimensions = dimensions
        self.context = context
        self.lang_encoder = _TextTransformer(width, heads, layers, context, words)
        self.lang_proj = nn.Parameter(torch.zeros(width, dimensions))
        self.logit_scale = nn.Parameter(torch.ones([]))

    def hidden_states(self, token_ids: Tensor) -> Tensor:
        """(T, L) int64 token ids -> (T, L, width). L may be cut behind the longest text."""
        hidden: Tensor = self.lang_encoder(token_ids)
        return hidden

    def forward(self, token_ids: Tensor) -> Tensor:
        """(T, L) int64 -> (T, P) float, not normalized.

        A text's vector is that at the first of its largest ids, the end-of-text token; as no token
        looks at later ones, what pads a text plays no role.
        """
        hidden = self.hidden_states(token_ids)
        rows = torch.arange(len(token_ids), device=token_ids.device)
        return hidden[rows, token_ids.argmax(dim=1)] @ self.lang_proj

    def compare(self, queries: Tensor, class_embeddings: Tensor) -> Tensor:
        """(B, Q, P) queries and (C, P) classes -> (B, Q, C) logits."""
        return self.logit_scale.exp() * unit_length(queries) @ class_embeddings.T


def unit_length(vectors: Tensor) -> Tensor:
    """(..., P) scaled to length 1, as SEEM does it."""
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / (length + LENGTH_EPS)
