"""Cross-attention maps of generated images, aggregated into a soft map of a class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import require_finite

AttentionMode = Literal["paper", "release"]

RELEASE_RESOLUTIONS = (16, 32, 64)
"""Maps the release looks at, unless told otherwise per class (8 alone for "sofa")."""


class AttentionAccumulator:
    """Sum of cross-attention maps, one small map per resolution and class word.

    Give it every layer at every step as the denoiser runs; nothing of a step is kept. Maps are
    those of one image, or always of the same B images, which do not mix; sums are on the device of
    the maps. `mode` decides what is summed:

    * "paper": each layer's map (the mean over its heads) is divided by its own maximum first, per
      word (Eq. 2); every map of every resolution counts equally.
    * "release": maps are averaged undivided per resolution; each resolution's mean is enlarged,
      divided by its maximum and only then averaged with the others, per word. Only 16, 32 and 64
      pixels are looked at.

    Either way a class of several words is the mean over its words, and maps are enlarged with the
    bicubic kernel of a = -0.75 and half-pixel centres. (The paper leaves the enlargement and the
    words open.)

    Source: SAS, Eq. 1-2.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        *,
        mode: AttentionMode = "paper",
        resolutions: Sequence[int] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        """Start with no map.

        Args:
            tokens: positions of the class words in the prompt, the start token being 0.
            mode: "paper" or "release".
            resolutions: heights of the maps to look at; None means all of them in mode "paper",
                16, 32 and 64 in mode "release".
            image_size: (H, W) of the generated image, which gives maps their shape; None means
                that it is a square.

        Raises:
            ValueError: no or negative tokens, or an unknown mode.
        """
        if len(tokens) == 0 or min(tokens) < 0:
            raise ValueError(f"tokens are {list(tokens)}, expected one or more positions >= 0")
        if mode not in ("paper", "release"):
            raise ValueError(f"mode is '{mode}', expected 'paper' or 'release'")
        if resolutions is None and mode == "release":
            resolutions = RELEASE_RESOLUTIONS
        self.tokens = tuple(tokens)
        self.mode = mode
        self.resolutions = None if resolutions is None else frozenset(resolutions)
        self._image_size = image_size
        self._images = torch.Size()
        """(B,), or nothing where maps are of one image without an axis of images."""
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._maps: dict[tuple[int, int], int] = {}

    def add(self, attention: Tensor, map_size: tuple[int, int] | None = None) -> None:
        """Add one layer at one step.

        Args:
            attention: (heads, P, L) or (B, heads, P, L) floating: the softmax over the L tokens of
                the prompt at each of P = h * w pixels in row-major order (Eq. 1). The unconditional
                half of a guided batch must be left out.
            map_size: (h, w); by default the one of P pixels that has the shape of the image.

        Raises:
            ValueError: another shape or number of images, a token beyond L, or a value that is
                negative or not finite.
        """
        if attention.ndim not in (3, 4) or 0 in attention.shape[:-2]:
            raise ValueError(
                f"attention has shape {tuple(attention.shape)}, expected (heads, pixels, tokens), "
                "with the number of images before that where there are several"
            )
        pixels, length = attention.shape[-2:]
        images = attention.shape[:-3]
        if self._sums and images != self._images:
            raise ValueError(
                f"attention is of {list(images)} images, expected {list(self._images)} as before"
            )
        self._images = images
        height, width = map_size or map_shape(pixels, self._image_size or (1, 1))
        if height * width != pixels:
            raise ValueError(
                f"attention has {pixels} pixels, expected {height} x {width} = {height * width}"
            )
        if max(self.tokens) >= length:
            raise ValueError(
                f"token {max(self.tokens)} does not exist, attention has {length} tokens"
            )
        if self.resolutions is not None and height not in self.resolutions:
            return
        wide = torch.float64 if attention.dtype == torch.float64 else torch.float32
        chosen = attention[..., list(self.tokens)].to(wide)
        require_finite("attention", chosen)
        if chosen.numel() and float(chosen.min()) < 0:
            raise ValueError("attention has negative values, expected a softmax")
        words = chosen.mean(dim=-3).movedim(-1, -2)  # (..., words, P)
        if self.mode == "paper":
            words = normalize_by_max(words)
        words = words.reshape(*images, -1, height, width)
        size = (height, width)
        if size in self._sums:
            self._sums[size] += words
            self._maps[size] += 1
        else:
            self._sums[size], self._maps[size] = words.clone(), 1

    def mean_maps(self) -> dict[tuple[int, int], Tensor]:
        """Mean map ([B,] words, h, w) per resolution, over layers and steps, not enlarged."""
        return {size: self._sums[size] / self._maps[size] for size in self._sums}

    def merged_map(self, image_size: tuple[int, int]) -> Tensor:
        """Mean over resolutions and words at the size of the image, before the min-max.

        Returns:
            ([B,] H, W) float32 (float64 for float64 maps), on the device of the maps.

        Raises:
            ValueError: no map of the wanted resolutions has been added, or maps do not have the
                shape of the image.
        """
        for height, width in self._sums:
            if not _is_alike((height, width), image_size):
                raise ValueError(
                    f"maps of {height} x {width} pixels are not of the shape of the image, which "
                    f"has {image_size[0]} x {image_size[1]}; give the accumulator image_size"
                )
        if not self._sums:
            raise ValueError(
                "no attention map has been added"
                + ("" if self.resolutions is None else f" of {sorted(self.resolutions)} pixels")
            )
        total = torch.zeros((), dtype=torch.float32)
        if self.mode == "paper":
            for words in self._sums.values():
                total = total.to(words.device) + upsample_bicubic(words, image_size)
            return (total / sum(self._maps.values())).mean(dim=-3)
        for size, words in self._sums.items():
            enlarged = upsample_bicubic(words / self._maps[size], image_size)
            flat = normalize_by_max(enlarged.flatten(-2))
            total = total.to(words.device) + flat.reshape(enlarged.shape)
        return (total / len(self._sums)).mean(dim=-3)

    def soft_map(self, image_size: tuple[int, int]) -> Tensor:
        """Where the class is, ([B,] H, W) float in [0, 1]: `merged_map`, stretched to 0 ... 1.

        A map without any contrast says nothing about where the class is, and becomes all zeros.
        """
        return min_max(self.merged_map(image_size))


def aggregate_attention(
    maps: Iterable[Tensor],
    tokens: Sequence[int],
    image_size: tuple[int, int],
    *,
    mode: AttentionMode = "paper",
    resolutions: Sequence[int] | None = None,
) -> Tensor:
    """Aggregate the cross-attention of every layer and step into one soft map of a class.

    `maps` may be a generator: each map is used once and not kept. To accumulate from inside a
    running model, use `AttentionAccumulator`, which also explains the modes.

    Args:
        maps: (heads, P, L) floating each, P = h * w pixels in row-major order, L prompt tokens;
            h and w follow from the shape of the image.
        tokens: positions of the class words in the prompt, the start token being 0.
        image_size: (H, W) of the generated image.
        mode: "paper" (Eq. 2) or "release".
        resolutions: heights of the maps to look at; None as in `AttentionAccumulator`.

    Returns:
        (H, W) floating in [0, 1].

    Raises:
        ValueError: what `AttentionAccumulator` refuses, or no map at all.

    Source: SAS, Eq. 1-2.
    """
    accumulator = AttentionAccumulator(
        tokens, mode=mode, resolutions=resolutions, image_size=image_size
    )
    for attention in maps:
        accumulator.add(attention)
    return accumulator.soft_map(image_size)


@lru_cache(maxsize=256)
def map_shape(pixels: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """The (h, w) of an attention map of h * w pixels over an image.

    A network halves the sides of the image again and again and rounds them, so that a map has the
    image's shape to within a pixel. A number of pixels that is a square says nothing: 16:9 gives
    such maps as well.

    Raises:
        ValueError: no map of that many pixels has the shape of the image.
    """
    pairs = [(h, pixels // h) for h in range(1, pixels + 1) if pixels % h == 0]
    fitting = [pair for pair in pairs if _is_alike(pair, image_size)]
    if not fitting:
        raise ValueError(
            f"attention has {pixels} pixels, expected a map of the shape of an image of "
            f"{image_size[0]} x {image_size[1]} pixels; give map_size to AttentionAccumulator.add"
        )
    return min(fitting, key=lambda pair: _difference(pair, image_size))


def _difference(map_size: tuple[int, int], image_size: tuple[int, int]) -> float:
    """Absolute logarithm of the quotient of two aspect ratios."""
    (h, w), (height, width) = map_size, image_size
    return abs(math.log(h * width / (w * height)))


def _is_alike(map_size: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Whether a map has the shape of an image, but for the rounding of its shorter side."""
    return _difference(map_size, image_size) <= 1 / min(map_size)


def upsample_bicubic(words: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Bicubic interpolation (a = -0.75, half-pixel centres) of (..., n, h, w) to (..., n, H, W)."""
    several = words.reshape(-1, *words.shape[-3:])
    enlarged = functional.interpolate(several, size=image_size, mode="bicubic", align_corners=False)
    return enlarged.reshape(*words.shape[:-2], *image_size)


def normalize_by_max(rows: Tensor) -> Tensor:
    """Each row of (..., P) divided by its maximum; an all-zero row stays as it is."""
    maximum = rows.amax(dim=-1, keepdim=True)
    return rows / torch.where(maximum > 0, maximum, 1.0)


def min_max(values: Tensor) -> Tensor:
    """Each map of (..., H, W) stretched so that it spans 0 to 1; zeros if it is all the same."""
    low = values.amin(dim=(-2, -1), keepdim=True)
    high = values.amax(dim=(-2, -1), keepdim=True)
    return (values - low) / torch.where(high > low, high - low, 1.0)
