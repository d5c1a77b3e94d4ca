"""Text encoders of all models of open_clip, from a local file or folder of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from pcdistill.errors import ArtifactError
from pcdistill.teachers.cached_encoder import CachedTextEncoder
from pcdistill.teachers.open_clip_models import OpenClipModel, find_checkpoint, find_open_clip
from pcdistill.teachers.open_clip_package import import_open_clip
from pcdistill.teachers.patches.network import Colors, PatchNetwork
from pcdistill.teachers.patches.open_clip_towers import MASKCLIP, OPENAI_COLORS, patches_of_tower
from pcdistill.teachers.transformers_package import import_transformers
from pcdistill.teachers.weight_files import WeightStore, load_state_dict

_NOT_READ = ("logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size")
"""Of a checkpoint: temperature, and numbers beside OpenAI's weights."""
_BUFFER = "position_ids"


class OpenClipTextEncoder(CachedTextEncoder):
    """The text side of a model of open_clip, whose image side gives patches to `maskclip`."""

    dense_teacher = MASKCLIP

    def __init__(
        self, name: str, weights: WeightStore, *, cache_folder: Path | None = None
    ) -> None:
        """Look for the model, but for no weights yet.

        Args:
            name: `open-clip:MODEL/WEIGHTS`; see `find_open_clip` for it and the errors.
            weights: finds the file or folder.
            cache_folder: where embeddings are kept; by default in the user's cache.
        """
        self._model = find_open_clip(name)
        super().__init__(name, self._model.dimensions, weights, cache_folder=cache_folder)

    def load_image_side(self) -> PatchNetwork:
        """Read the image side of the same weights.

        Raises:
            ConfigError: the weights are not on this machine, or the image side has no patches in
                the space of texts.
            ArtifactError: they are damaged, or those of another model.
        """
        tower = self._load().visual
        published = self._model.published
        colors = OPENAI_COLORS
        if "mean" in published:
            colors = Colors(tuple(published["mean"]), tuple(published["std"]))
        return patches_of_tower(self.name, tower, colors)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        self._warn_of_long(texts, self._tokenizer.count, self._tokenizer.limit)
        embedded: Tensor = self._network.encode_text(self._tokenizer.read(list(texts)))
        return embedded

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return build_tokenizer(self._model, self._weights.find(self.name))

    @cached_property
    def _network(self) -> Any:
        network = self._load()
        network.visual = nn.Identity()
        return network

    def _load(self) -> Any:
        return load_open_clip(self._model, self._weights.find(self.name))


class Tokenizer(NamedTuple):
    """How a model reads texts."""

    read: Callable[[list[str]], Tensor]
    """K texts -> (K, context) int64, cut and padded."""
    count: Callable[[str], int]
    """Tokens of a text, without those of beginning and end."""
    limit: int
    """How many of these the model reads."""


def build_tokenizer(model: OpenClipModel, folder: Path) -> Tokenizer:
    """Build the tokenizer of a model: CLIP's own, or one of transformers from the folder.

    Args:
        model: of open_clip.
        folder: of its weights; for CLIP's own one it may be a file.

    Raises:
        ArtifactError: the files of the tokenizer are damaged.
        MissingExtraError: a package is not installed.
    """
    user = f"text encoder '{model.name}'"
    open_clip = import_open_clip(user)
    text = model.config["text_cfg"]
    context = int(text.get("context_length", 77))
    more = dict(text.get("tokenizer_kwargs") or {})
    if not model.tokenizer_files:
        own = open_clip.SimpleTokenizer(context_length=context, **more)
        return Tokenizer(own, lambda one: len(own.encode(one)), context - 2)
    import_transformers(user)
    mode = text.get("tokenizer_mode")
    try:
        other = open_clip.tokenizer.HFTokenizer(
            str(folder), context, tokenizer_mode=mode, local_files_only=True, **more
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{folder}: the tokenizer of '{model.name}' cannot be read ({reason}); fetch the whole "
            "folder again"
        ) from None
    return Tokenizer(
        other,
        lambda one: len(other.tokenizer(one, add_special_tokens=False).input_ids),
        context - 1,
    )


def load_open_clip(model: OpenClipModel, path: Path) -> nn.Module:
    """Build a model of open_clip with its weights, in float32 and eval mode.

    Args:
        model: its sizes.
        path: a file of weights, or a folder with one.

    Raises:
        ArtifactError: the file is damaged, or the weights are those of another model.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = import_open_clip(f"'{model.name}'")
    file = find_checkpoint(path, model)
    stored = {key.removeprefix("module."): value for key, value in load_state_dict(file).items()}
    config = {**model.config, "vision_cfg": {**model.config["vision_cfg"]}}
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False  # else timm would download some
    custom = config.pop("custom_text", False)
    kind = open_clip.CLIP
    if custom:
        kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    network: nn.Module = kind(**config)
    stored = open_clip.convert.convert_state_dict(network, stored)
    if custom:
        stored = open_clip.model.convert_to_custom_text_state_dict(stored)
    try:
        loaded = network.load_state_dict(
            {key: value for key, value in stored.items() if key not in _NOT_READ}, strict=False
        )
        odd = [
            key
            for key in (*loaded.missing_keys, *loaded.unexpected_keys)
            if key not in _NOT_READ and not key.endswith(_BUFFER)
        ]
        if odd:
            raise KeyError(odd[0])
    except (KeyError, RuntimeError) as error:
        raise ArtifactError(
            f"{file}: not the weights of '{model.name}' ({str(error).splitlines()[-1].strip()}); "
            "give those of that model"
        ) from None
    return network.eval().requires_grad_(False)
