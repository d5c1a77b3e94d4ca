"""Folder of a Stable Diffusion on this machine: where it is, what is in it, its revision."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.errors import ArtifactError, ConfigError, UnreadableError, file_trouble
from pcdistill.teachers import WEIGHT_FILES, WeightStore, files_revision, read_part_names

MODELS = ("stable-diffusion-1.5", "stable-diffusion-xl")
"""Those of `WEIGHT_FILES` that draw images."""
HUB = "https://huggingface.co/"
_ENCODERS = {
    "StableDiffusionPipeline": ("text_encoder",),
    "StableDiffusionXLPipeline": ("text_encoder", "text_encoder_2"),
}
"""Class that `model_index.json` names -> folders of its text encoders; the only ones that fit."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class DiffusionFolder(NamedTuple):
    """A folder in the layout of diffusers, all of whose parts are there."""

    path: Path
    pipeline: str
    """Name of the class that draws."""
    encoders: tuple[str, ...]
    """Folders of the text encoders; that of a tokenizer is named like it."""
    scheduler: str
    """Name of the scheduler's class."""
    half: frozenset[str]
    """Parts of which there are only weights in half precision (`*.fp16.safetensors`)."""
    files: tuple[Path, ...]
    """Everything that is read."""
    native_size: tuple[int, int]
    """(H, W) pixels of the images that it was trained for."""
    zeros_for_empty_prompt: bool
    """Whether XL draws without a prompt from zeros instead of from the embedding of no words."""
    provenance: Mapping[str, str]
    """Model, license, training and source, as far as known, without the revision."""

    @property
    def revision(self) -> str:
        """Commit of a folder in Hugging Face's cache; else 12 digits of the SHA-256 of its files.

        Raises:
            UnreadableError: they cannot be read.
        """
        if self.path.parent.name == "snapshots" and _COMMIT.fullmatch(self.path.name):
            return self.path.name
        return files_revision(self.path, self.files)

    def require_revision(self, wanted: str | None) -> None:
        """Refuse another revision than is asked for; names of branches are not compared.

        Raises:
            ConfigError: it is another one.
        """
        if wanted is None or self.path.parent.name == "snapshots":
            return
        if not self.revision.startswith(wanted):
            raise ConfigError(
                f"{self.path}: is revision {self.revision}, expected {wanted} as in "
                "synthesize.revision; name the right folder in synthesize.model, or take the "
                "setting away"
            )


def open_diffusion_folder(
    model: str, revision: str | None, weights: WeightStore
) -> DiffusionFolder:
    """Find a diffusion model on this machine and look whether all of it is there.

    Args:
        model: one of `MODELS`, a folder, or `owner/name` in Hugging Face's cache.
        revision: a commit or branch in that cache, or the first digits of a folder's revision.
        weights: finds those of `MODELS`.

    Raises:
        ConfigError: it is not there, is another kind of model, lacks a part, or has another
            revision. The text says where to get it and where to put it.
        ArtifactError: a file in it is damaged.
    """
    if model in MODELS:
        entry = WEIGHT_FILES[model]
        known = {"licence": entry.license, "training": entry.training, "source": entry.address}
        folder = weights.find(model)
    elif Path(model).expanduser().is_dir():
        folder = Path(model).expanduser()
        known = {"licence": "unknown", "training": "unknown", "source": "unknown"}
        model = folder.resolve().name
    else:
        known = {"licence": "unknown", "training": "unknown", "source": HUB + model}
        folder = _cached(model, revision)
    opened = _read_folder(folder, {"model": model, **known})
    opened.require_revision(revision)
    return opened


def _cached(model: str, revision: str | None) -> Path:
    """The folder of `owner/name` in Hugging Face's cache."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ConfigError(
            f"synthesize.model is '{model}', which is no folder here; expected "
            f"{', '.join(MODELS)}, a folder, or owner/name of a model in Hugging Face's cache"
        )
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "model_index.json", revision=revision)
    if not isinstance(found, str):
        at = f" --revision {revision}" if revision else ""
        which = f" at revision {revision}" if revision else ""
        raise ConfigError(
            f"synthesize.model is '{model}', which is neither a folder here nor{which} in Hugging "
            f"Face's cache; get it from {HUB}{model}, such as by `hf download {model}{at}`, or "
            "give the folder where it is"
        )
    return Path(found).parent


def _read_folder(folder: Path, provenance: Mapping[str, str]) -> DiffusionFolder:
    index = _read_json(folder / "model_index.json")
    pipeline = index.get("_class_name")
    if pipeline not in _ENCODERS:
        raise ConfigError(
            f"{folder}: is a {pipeline}, expected {' or '.join(_ENCODERS)}, a Stable Diffusion "
            "with a UNet that draws from text; name another in synthesize.model"
        )
    encoders = _ENCODERS[pipeline]
    tokenizers = tuple(name.replace("text_encoder", "tokenizer") for name in encoders)
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    files += [folder / name / "config.json" for name in ("unet", "vae", *encoders)]
    for name in tokenizers:
        files += _tokenizer_files(folder / name)
    stems = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
    stems |= dict.fromkeys(encoders, "model")
    half = frozenset(
        name
        for name, stem in stems.items()
        if not _weights(folder / name, stem, "") and _weights(folder / name, stem, ".fp16")
    )
    for name, stem in stems.items():
        files += _weights(folder / name, stem, ".fp16" if name in half else "") or [
            folder / name / f"{stem}.safetensors"  # which is then named as missing
        ]
    for file in files:
        if not file.exists():
            raise ConfigError(
                f"{folder}: has no {file.relative_to(folder)}, expected a whole diffusion model "
                "with weights as safetensors; fetch it again"
            )
    unet, vae = (_read_json(folder / name / "config.json") for name in ("unet", "vae"))
    try:
        taken, given = unet["in_channels"], vae.get("latent_channels", 4)
        side = unet["sample_size"]
        cell = 2 ** (len(vae["block_out_channels"]) - 1)
        sides = (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
        scheduler = str(index["scheduler"][1])
    except (KeyError, TypeError, IndexError) as error:
        raise ArtifactError(
            f"{folder}: its configurations lack {error}, expected those of diffusers; fetch it "
            "again"
        ) from None
    if taken != given:
        raise ConfigError(
            f"{folder}: its UNet takes {taken} channels, expected the {given} of its latent image, "
            "as for drawing from text; name another in synthesize.model"
        )
    native = (sides[0] * cell, sides[1] * cell)
    zeros = bool(index.get("force_zeros_for_empty_prompt", True))
    return DiffusionFolder(
        folder, pipeline, encoders, scheduler, half, tuple(files), native, zeros, provenance
    )


def _tokenizer_files(folder: Path) -> list[Path]:
    """All texts of a tokenizer, which may be one file or several."""
    found = sorted(file for pattern in ("*.json", "*.txt") for file in folder.glob(pattern))
    return found or [folder / "vocab.json"]


def _weights(folder: Path, stem: str, variant: str) -> list[Path]:
    """A file of weights, or its index and parts; nothing where they are not there."""
    single = folder / f"{stem}{variant}.safetensors"
    if single.exists():
        return [single]
    index = folder / f"{stem}.safetensors.index{variant}.json"
    if not index.exists():
        return []
    return [index, *(folder / name for name in read_part_names(index))]


def _read_json(file: Path) -> dict[str, Any]:
    """Read one configuration of a model.

    Raises:
        ConfigError: there is none.
        ArtifactError: it is not JSON.
        UnreadableError: it cannot be read.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"an object was expected, not a {type(content).__name__}")
    except FileNotFoundError:
        raise ConfigError(
            f"{file.parent}: has no {file.name}, expected a whole diffusion model in the layout of "
            "diffusers; fetch it again, or name another in synthesize.model"
        ) from None
    except OSError as error:
        raise UnreadableError(file_trouble(error, file)) from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{file}: is not JSON ({error}); fetch the model again") from None
    return content
