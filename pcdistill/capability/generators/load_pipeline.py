"""Loader of a Stable Diffusion: its parts one by one, and that none of their weights is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pcdistill.capability.generators.diffusers_package import import_diffusers, quiet_loading
from pcdistill.capability.generators.diffusion_folder import DiffusionFolder
from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.teachers import import_transformers

_REASON = 200
"""Characters of a library's message that are passed on."""


def load_pipeline(
    folder: DiffusionFolder, device: torch.device, precision: torch.dtype, user: str
) -> Any:
    """Load a pipeline of diffusers from a folder, without a safety checker or watermark.

    Weights are read from safetensors only; no code in the folder is run and nothing is fetched.

    Args:
        folder: the model.
        device: where it computes.
        precision: in what.
        user: what needs it, for messages.

    Raises:
        ArtifactError: a file is damaged, or lacks weights.
        ConfigError: its scheduler is none of diffusers.
        MissingExtraError: a package is not installed or does not fit.
    """
    diffusers, transformers = import_diffusers(user), import_transformers(user)
    text_kinds = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
    with quiet_loading(diffusers, transformers):
        parts = {
            "unet": _weights(folder, "unet", diffusers.UNet2DConditionModel, precision),
            "vae": _weights(folder, "vae", diffusers.AutoencoderKL, precision),
            "scheduler": _scheduler(folder, diffusers),
        }
        for name, kind in zip(folder.encoders, text_kinds, strict=False):
            parts[name] = _weights(folder, name, kind, precision)
            tokenizer = name.replace("text_encoder", "tokenizer")
            parts[tokenizer] = _part(folder, tokenizer, transformers.CLIPTokenizer, {})
        if len(folder.encoders) == 1:
            options = {
                "safety_checker": None,
                "feature_extractor": None,
                "requires_safety_checker": False,
            }
        else:
            options = {
                "force_zeros_for_empty_prompt": folder.zeros_for_empty_prompt,
                "add_watermarker": False,
            }
        pipeline = getattr(diffusers, folder.pipeline)(**parts, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _weights(folder: DiffusionFolder, name: str, kind: Any, precision: torch.dtype) -> Any:
    """Load a network, all of whose weights are in its file."""
    in_diffusers = kind.__module__.startswith("diffusers.")
    options = {
        "use_safetensors": True,
        "variant": "fp16" if name in folder.half else None,
        "output_loading_info": True,
        "torch_dtype" if in_diffusers else "dtype": precision,
    }
    network, loaded = _part(folder, name, kind, options)
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise ArtifactError(
            f"{folder.path / name}: lacks {len(missing)} weights, such as {missing[0]}, expected "
            "all; fetch the model again"
        )
    return network.eval()


def _scheduler(folder: DiffusionFolder, diffusers: Any) -> Any:
    kind = getattr(diffusers, folder.scheduler, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ConfigError(
            f"{folder.path}: its scheduler is '{folder.scheduler}', expected one of diffusers; "
            "name another model in synthesize.model"
        )
    return _part(folder, "scheduler", kind, {})


def _part(folder: DiffusionFolder, name: str, kind: Any, options: Mapping[str, Any]) -> Any:
    """Load one part from its folder; what a library says of a damaged one becomes our sentence."""
    try:
        return kind.from_pretrained(folder.path / name, local_files_only=True, **options)
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # of many kinds: whatever a damaged file makes of a library
        reason = " ".join(str(error).split())[:_REASON] or type(error).__name__
        raise ArtifactError(
            f"{folder.path / name}: cannot be read ({reason}); fetch the model again"
        ) from None
