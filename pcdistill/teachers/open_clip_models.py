"""Models of open_clip by name, `open-clip:MODEL/WEIGHTS`: sizes, colors, source of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.suggest import suggest
from pcdistill.teachers.open_clip_package import import_open_clip
from pcdistill.teachers.weight_sources import HUB, WeightFile

PREFIX = "open-clip:"
_CHECKPOINTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
"""Names under which a folder of the hub has a model of open_clip, the first that is there."""


class OpenClipModel(NamedTuple):
    """One model of open_clip with weights."""

    name: str
    """As a run names it."""
    config: dict[str, Any]
    """Sizes of both sides, as open_clip has them; this model's own copy."""
    published: dict[str, Any]
    """What open_clip knows of these weights: `hf_hub`, `mean`, `std`; of a user's own weights what
    it knows of the first others of the model, without an address."""
    others: tuple[str, ...]
    """Weights that open_clip lists for the model."""

    @property
    def dimensions(self) -> int:
        """D of the text space."""
        return int(self.config["embed_dim"])

    @property
    def tokenizer_files(self) -> tuple[str, ...]:
        """Files of the tokenizer that must lie beside the weights; none for CLIP's own one."""
        return ("tokenizer.json",) if "hf_tokenizer_name" in self.config["text_cfg"] else ()


def is_open_clip(name: str) -> bool:
    """Whether a text encoder or weights are a model of open_clip."""
    return name.startswith(PREFIX)


def find_open_clip(name: str) -> OpenClipModel:
    """Look a model of open_clip up.

    Args:
        name: `open-clip:MODEL/WEIGHTS`, where MODEL is one of open_clip's and WEIGHTS one of those
            that it lists for the model, or any word for a file of one's own.

    Raises:
        ConfigError: open_clip has no such model, or its text side is another library's.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = import_open_clip(f"'{name}'")
    model, _, tag = name.removeprefix(PREFIX).partition("/")
    config = open_clip.get_model_config(model) if model in open_clip.list_models() else None
    if config is None:
        close = suggest(model, open_clip.list_models())
        raise ConfigError(f"'{name}': open_clip has no model '{model}'; {close}")
    tags = tuple(open_clip.list_pretrained_tags_by_model(model))
    if not tag:
        raise ConfigError(
            f"'{name}' names no weights; write {PREFIX}{model}/WEIGHTS with one of those that "
            f"open_clip lists ({', '.join(tags) or 'none'}), or a word of your own whose file is "
            "in run.weights"
        )
    if "hf_model_name" in config["text_cfg"]:
        raise ConfigError(
            f"'{name}': the text side of {model} is {config['text_cfg']['hf_model_name']}, a model "
            "of transformers, which is not read here; choose a model with open_clip's own text side"
        )
    published: dict[str, Any] = dict(open_clip.get_pretrained_cfg(model, tag) or {})
    if not published:
        published = dict(open_clip.get_pretrained_cfg(model, tags[0]) or {}) if tags else {}
        published["hf_hub"] = ""
    config["quick_gelu"] = config.get("quick_gelu", False) or (
        tag in tags and published.get("quick_gelu", False)
    )
    return OpenClipModel(name, config, published, tags)


def describe_open_clip(name: str) -> WeightFile:
    """The entry of weights of a model of open_clip, as one of `WEIGHT_FILES`.

    Raises:
        ConfigError: open_clip has no such model.
        MissingExtraError: open_clip is not installed.
    """
    model = find_open_clip(name)
    repository = "/".join(str(model.published["hf_hub"]).split("/")[:2])
    if not repository:
        return WeightFile(
            name,
            name.removeprefix(PREFIX).replace("/", "."),
            "",
            "unknown",
            "unknown",
            direct=False,
            parts=model.tokenizer_files,
            note=f"weights of one's own; open_clip lists {', '.join(model.others) or 'none'}",
        )
    return WeightFile(
        name,
        repository.split("/")[1],
        HUB + repository,
        "unknown",
        f"what '{name.partition('/')[2]}' says; see the address",
        direct=False,
        parts=model.tokenizer_files,
        note="text encoder, and image side of maskclip",
    )


def find_checkpoint(path: Path, model: OpenClipModel) -> Path:
    """The file with the weights: the path itself, or the one of open_clip in a folder.

    Raises:
        ArtifactError: a folder has none.
    """
    if not path.is_dir():
        return path
    named = str(model.published["hf_hub"]).split("/")[2:]
    for file in (*named, *_CHECKPOINTS):
        if file and (path / file).is_file():
            return path / file
    raise ArtifactError(
        f"{path}: no weights of open_clip in this folder, expected one of "
        f"{', '.join(_CHECKPOINTS)}; fetch the whole folder of '{model.name}'"
    )
