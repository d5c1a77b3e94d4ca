"""Image generator of the paper: Stable Diffusion, with the cross-attention of the class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pcdistill.capability.attention import AttentionAccumulator
from pcdistill.capability.generators.cross_attention import recorded_cross_attention
from pcdistill.capability.generators.diffusers_package import require_diffusers
from pcdistill.capability.generators.diffusion_folder import open_diffusion_folder
from pcdistill.capability.generators.load_pipeline import load_pipeline
from pcdistill.capability.generators.prompt_tokens import find_word_tokens
from pcdistill.capability.interfaces import GeneratedImage, StepCallback, SynthesisSetup
from pcdistill.errors import ArtifactError


class StableDiffusionGenerator:
    """Any Stable Diffusion with a UNet: 1.x, 2.x and XL, read from a folder on this machine.

    The model computes on the device of the run, on a GPU in half precision, and is read when it
    first draws. What it attends to while it draws gives the coarse map of the class: Eq. 2 over all
    cross-attention layers and denoising steps, and all tokens of the words; of classifier-free
    guidance only the conditional half. The safety checker is not loaded.

    Source: SAS, section 3.2, Eq. 1-2, and 6.1.
    """

    name = "stable-diffusion"

    def __init__(self, setup: SynthesisSetup) -> None:
        """Find the model.

        Raises:
            ConfigError: it is not there, or not one that fits.
            ArtifactError: its configurations are damaged.
            MissingExtraError: a package is not installed.
        """
        require_diffusers(f"generator '{self.name}'")
        chosen = setup.diffusion
        self._settings = chosen
        self._device = setup.device
        self._folder = open_diffusion_folder(chosen.model, chosen.revision, setup.weights)
        self.image_size = chosen.image_size or self._folder.native_size
        self.batch = chosen.batch
        self.precision = torch.float16 if setup.device.type == "cuda" else torch.float32

    @cached_property
    def provenance(self) -> Mapping[str, str]:
        """Model, revision, license, training and source."""
        return {**self._folder.provenance, "revision": self._folder.revision}

    @property
    def settings(self) -> Mapping[str, Any]:
        """The revision of the model, and how it draws."""
        return {
            "model_revision": self.provenance["revision"],
            "steps": self._settings.steps,
            "guidance": self._settings.guidance,
            "image_size": list(self.image_size),
        }

    @cached_property
    def _pipeline(self) -> Any:
        user = f"generator '{self.name}'"
        return load_pipeline(self._folder, self._device, self.precision, user)

    def unsupported_categories(self, prompt: str, categories: Sequence[str]) -> tuple[str, ...]:
        """None: it draws something for any words."""
        return ()

    def __call__(self, prompt: str, words: str, seed: int) -> GeneratedImage:
        """Draw one image; see `generate_batch`."""
        return self.generate_batch(prompt, words, [seed])[0]

    def generate_batch(
        self,
        prompt: str,
        words: str,
        seeds: Sequence[int],
        on_step: StepCallback = lambda done, total: None,
    ) -> list[GeneratedImage]:
        """Draw images of one prompt at once.

        Each has noise of its own, which depends on its words and seed alone.

        Args:
            prompt: what is drawn.
            words: of the prompt, whose attention is wanted.
            seeds: B of 0 or more, one an image.
            on_step: called after each denoising step.

        Raises:
            ConfigError: the prompt does not have the words, or too late for the text encoder.
            ArtifactError: the model cannot be read, or gives no image.
            MissingExtraError: a package does not fit.
        """
        pipeline = self._pipeline
        tokenizers = [pipeline.tokenizer]
        if hasattr(pipeline, "tokenizer_2"):
            tokenizers.append(pipeline.tokenizer_2)
        tokens = find_word_tokens(tokenizers, prompt, words)
        accumulator = AttentionAccumulator(tokens, image_size=self.image_size)

        def step_done(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(step + 1, pipeline.num_timesteps)
            return tensors

        height, width = self.image_size
        with recorded_cross_attention(pipeline.unet, accumulator, len(seeds)):
            drawn = pipeline(
                [prompt] * len(seeds),
                height=height,
                width=width,
                num_inference_steps=self._settings.steps,
                guidance_scale=self._settings.guidance,
                generator=[
                    torch.Generator().manual_seed(noise_seed(words, seed)) for seed in seeds
                ],
                callback_on_step_end=step_done,
                output_type="pt",
            ).images  # (B, 3, H, W) in [0, 1]
        images = self._eight_bits(drawn)
        maps = accumulator.soft_map(self.image_size).float().cpu()
        return [GeneratedImage(*pair) for pair in zip(images, maps, strict=True)]

    def _eight_bits(self, drawn: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 on the CPU of values in [0, 1]."""
        values = drawn.float().cpu()
        if not bool(values.isfinite().all()):
            raise ArtifactError(
                f"{self._folder.path}: the model draws pixels that are not finite, expected an "
                "image; fetch it again, or compute in full precision with distill.device: cpu"
            )
        return (values * 255).round().to(torch.uint8)


def noise_seed(words: str, seed: int) -> int:
    """Seed of the noise of an image, 63 bits that differ between classes and between images."""
    digest = hashlib.sha256(f"{words}\n{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
