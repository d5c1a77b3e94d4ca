"""Settings of a diffusion model that draws reference images."""

from __future__ import annotations

from dataclasses import dataclass

from pcdistill.errors import require_setting

PIXELS_PER_CELL = 8
"""Sides of an image are multiples of it: pixels of one cell of the latent image."""


@dataclass(frozen=True)
class DiffusionSettings:
    """Which diffusion model draws, and how; the embedded generator takes none of it."""

    model: str = "stable-diffusion-1.5"
    """Of the generator `stable-diffusion`: `stable-diffusion-1.5`, `stable-diffusion-xl`, a folder
    in the layout of diffusers, or the `owner/name` of one in Hugging Face's cache on this
    machine."""
    revision: str | None = None
    """Of that model: a commit or branch in Hugging Face's cache, or of a folder the first digits of
    the revision that the report names, which is then required."""
    steps: int = 50
    """Denoising steps."""
    guidance: float = 7.0
    """Scale of classifier-free guidance, as in the authors' code; 1 or less draws without it."""
    image_size: tuple[int, int] | None = None
    """Height and width of a drawn image in pixels, multiples of 8; by default what the model was
    trained for, 512 x 512 for Stable Diffusion 1.5."""
    batch: int = 4
    """Images drawn at once; changes them by rounding only."""

    def __post_init__(self) -> None:
        require_setting(bool(self.model), "synthesize.model", "a name or a folder", "none")
        require_setting(self.steps >= 1, "synthesize.steps", "at least 1", self.steps)
        require_setting(self.guidance >= 0, "synthesize.guidance", "0 or more", self.guidance)
        require_setting(self.batch >= 1, "synthesize.batch", "at least 1", self.batch)
        size = self.image_size
        fits = size is None or all(s > 0 and s % PIXELS_PER_CELL == 0 for s in size)
        expected = f"two multiples of {PIXELS_PER_CELL}"
        require_setting(fits, "synthesize.image_size", expected, size)
