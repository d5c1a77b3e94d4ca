"""Text decoder of TAP: a causal transformer that goes on from one visual token.

Modules bear the names of the keys in the official checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.teachers.captions.tap.image_encoder import FeedForward

BASE = 10000.0
"""Of the rotary angles."""


class CausalAttention(nn.Module):
    """Self-attention with rotary positions over what came before."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(
        self, tokens: Tensor, rotation: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend to the past and to `tokens` themselves.

        Args:
            tokens: (P, n, C), new ones.
            rotation: (n, C / heads / 2) complex64, angles of their positions.
            past: keys and values (P, heads, m, C / heads) of those before; None at the start.

        Returns:
            (P, n, C), and keys and values of all.
        """
        rows, new, channels = tokens.shape
        parts = self.qkv(tokens).view(rows, new, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (P, heads, n, C / heads)
        query, key = _rotate(query, rotation), _rotate(key, rotation)
        if past is not None:
            key = torch.cat([past[0], key], dim=2)
            value = torch.cat([past[1], value], dim=2)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        return self.proj(mixed.transpose(1, 2).flatten(2)), (key, value)


def _rotate(values: Tensor, rotation: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels by the angles of each position."""
    pairs = torch.view_as_complex(values.float().reshape(*values.shape[:3], -1, 2))
    return torch.view_as_real(pairs * rotation).flatten(3).to(values.dtype)


class TextBlock(nn.Module):
    """Causal attention and a feed-forward layer, normalised before each."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn = CausalAttention(channels, heads)
        self.mlp = FeedForward(channels, 4 * channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(
        self, tokens: Tensor, rotation: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `CausalAttention.forward`."""
        mixed, known = self.attn(self.norm1(tokens), rotation, past)
        tokens = tokens + mixed
        return tokens + self.mlp(self.norm2(tokens)), known


class TextTransformer(nn.Module):
    """Token embeddings, blocks, and the scores of the next token."""

    def __init__(self, depth: int, channels: int, heads: int, vocabulary: int) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocabulary, channels)
        self.blocks = nn.ModuleList(TextBlock(channels, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        self.text_proj = nn.Linear(channels, vocabulary, bias=False)


class TextDecoder(nn.Module):
    """Captions, greedily, from visual tokens."""

    def __init__(
        self, *, depth: int, channels: int, heads: int, prompt: int, vocabulary: int, length: int
    ) -> None:
        """Build without weights.

        Args:
            depth: blocks.
            channels: of a token.
            heads: of attention.
            prompt: channels of a visual token.
            vocabulary: number of tokens.
            length: positions, the visual token included.
        """
        super().__init__()
        self.length = length
        self.encoder = nn.Linear(prompt, channels, bias=False)
        self.transformer = TextTransformer(depth, channels, heads, vocabulary)
        self._head = channels // heads

    def forward(self, visual: Tensor, start: int, end: int, pad: int) -> Tensor:
        """Go on with the likeliest token until every row has ended.

        A row that has ended goes on as well; what follows its end says nothing.

        Args:
            visual: (P, C) visual tokens.
            start: token that a text begins with.
            end: token that it ends with.
            pad: token of the places that are never reached.

        Returns:
            (P, length - 1) int64.
        """
        tokens = torch.full((len(visual), self.length - 1), pad, device=visual.device)
        tokens[:, 0] = start
        ended = torch.zeros(len(visual), dtype=torch.bool, device=visual.device)
        past: list[tuple[Tensor, Tensor] | None] = [None] * len(self.transformer.blocks)
        rotation = self.angles(visual.device)
        place = 0
        for column in range(1, self.length - 1):
            words = self.transformer.tok_embeddings(tokens[:, column - 1 : column])
            if column == 1:
                words = torch.cat([self.encoder(visual)[:, None], words], dim=1)
            scores, past = self.step(words, rotation[place : place + words.shape[1]], past)
            place += words.shape[1]
            tokens[:, column] = scores.argmax(dim=1)
            ended |= tokens[:, column] == end
            if bool(ended.all()):
                break
        return tokens

    def step(
        self, words: Tensor, rotation: Tensor, past: list[tuple[Tensor, Tensor] | None]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor] | None]]:
        """Scores (P, vocabulary) float32 of the token after `words` (P, n, C), and a new past."""
        known: list[tuple[Tensor, Tensor] | None] = []
        for block, before in zip(self.transformer.blocks, past, strict=True):
            words, now = block(words, rotation, before)
            known.append(now)
        return self.transformer.text_proj(self.transformer.norm(words[:, -1])).float(), known

    def angles(self, device: torch.device) -> Tensor:
        """(length, head / 2) complex64: unit numbers whose angle grows with the position."""
        steps = torch.arange(0, self._head, 2, device=device, dtype=torch.float32) / self._head
        places = torch.arange(self.length, device=device, dtype=torch.float32)
        angles = places[:, None] / BASE**steps
        return torch.polar(torch.ones_like(angles), angles)
