"""Table of models of images and texts that transformers reads: SigLIP2 and TIPSv2."""

from __future__ import annotations

from typing import NamedTuple

SIGLIP2 = "siglip2"
TIPSV2 = "tipsv2"


class HubTextModel(NamedTuple):
    """One model; its name, that of its text space and of its weights is that of its repository."""

    family: str
    """Name of the teacher that reads its image side."""
    kind: str
    """Class in transformers."""
    dimensions: int
    """D of the text space."""


_SIGLIP = "SiglipModel"
_NAFLEX = "Siglip2Model"

HUB_TEXT_MODELS: dict[str, HubTextModel] = {
    "siglip2-base-patch16-naflex": HubTextModel(SIGLIP2, _NAFLEX, 768),
    "siglip2-so400m-patch16-naflex": HubTextModel(SIGLIP2, _NAFLEX, 1152),
    "siglip2-base-patch16-512": HubTextModel(SIGLIP2, _SIGLIP, 768),
    "siglip2-large-patch16-512": HubTextModel(SIGLIP2, _SIGLIP, 1024),
    "siglip2-so400m-patch16-512": HubTextModel(SIGLIP2, _SIGLIP, 1152),
    "siglip2-giant-opt-patch16-384": HubTextModel(SIGLIP2, _SIGLIP, 1536),
    "tipsv2-b14": HubTextModel(TIPSV2, "Tipsv2Model", 768),
    "tipsv2-l14": HubTextModel(TIPSV2, "Tipsv2Model", 1024),
    "tipsv2-so400m14": HubTextModel(TIPSV2, "Tipsv2Model", 1152),
    "tipsv2-g14": HubTextModel(TIPSV2, "Tipsv2Model", 1536),
}
"""Every model by name."""
