"""Text encoders of SigLIP2 and TIPSv2, through transformers, from a local folder.

Sources: Tschannen et al., SigLIP 2, 2025; Cao et al., TIPSv2, CVPR 2026; google-deepmind/tips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from pcdistill.errors import ArtifactError, MissingExtraError
from pcdistill.teachers.cached_encoder import CachedTextEncoder
from pcdistill.teachers.hub_models import HubFolder
from pcdistill.teachers.hub_text_models import HUB_TEXT_MODELS, SIGLIP2, TIPSV2
from pcdistill.teachers.patches.hub_towers import NaflexPatches, SiglipPatches, TipsPatches
from pcdistill.teachers.patches.network import PatchNetwork
from pcdistill.teachers.transformers_package import require_transformers
from pcdistill.teachers.weight_files import WeightStore

CONTEXT = 64
"""Tokens of a text, padding included, in the training of both."""
_TOKENIZERS = {SIGLIP2: "PreTrainedTokenizerFast", TIPSV2: "Tipsv2Tokenizer"}
"""Class of transformers that reads each one's tokenizer. The folders of SigLIP2 name Gemma's, which
keeps capitals; what its file says is read instead, and texts are in lower case already."""
_PATCHES: dict[str, Callable[[Any], PatchNetwork]] = {
    "Siglip2Model": NaflexPatches,
    "SiglipModel": SiglipPatches,
    "Tipsv2Model": TipsPatches,
}


class HubTextEncoder(CachedTextEncoder):
    """The text side of a model of `HUB_TEXT_MODELS`; a teacher reads the image side.

    Texts are read in lower case, as in the training of both. SigLIP2 reads padding to 64 tokens
    without a mask and pools the last place; TIPSv2 averages over the tokens of the text.
    """

    def __init__(
        self, name: str, weights: WeightStore, *, cache_folder: Path | None = None
    ) -> None:
        """Look for nothing yet.

        Args:
            name: one of `HUB_TEXT_MODELS`.
            weights: finds the folder.
            cache_folder: where embeddings are kept; by default in the user's cache.
        """
        self._known = HUB_TEXT_MODELS[name]
        self.dense_teacher = self._known.family
        super().__init__(name, self._known.dimensions, weights, cache_folder=cache_folder)

    @cached_property
    def provenance(self) -> dict[str, str]:
        """File, revision, license and training of the weights.

        Raises:
            ConfigError: the folder is not on this machine, or not whole.
            MissingExtraError: transformers is not installed, or what reads the tokenizer.
        """
        require_transformers(self._user)
        require_tokenizer_reader(self._weights.find(self.name), self._user)
        return self._weights.provenance(self.name)

    def load_image_side(self) -> PatchNetwork:
        """Read the image side of the same folder.

        Raises:
            ConfigError: the folder is not on this machine, or not whole.
            ArtifactError: it is damaged, or that of another network.
        """
        vision = self._load().vision_model
        return _PATCHES[self._known.kind](vision).eval().requires_grad_(False)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        lower = [text.lower() for text in texts]
        read = self._tokenizer(
            lower,
            padding="max_length",
            max_length=CONTEXT,
            truncation=True,
            padding_side="right",
            return_attention_mask=True,
            return_tensors="pt",
        )
        self._warn_of_long(
            texts, lambda text: len(self._tokenizer(text.lower()).input_ids), CONTEXT
        )
        ids = read["input_ids"]
        if int(ids.max()) >= self._text_model.config.vocab_size:
            raise ArtifactError(
                f"{self._weights.find(self.name)}: its tokenizer has more words than its network, "
                f"expected the folder of '{self.name}'; fetch it again"
            )
        masked = {"attention_mask": read["attention_mask"]} if self._known.family == TIPSV2 else {}
        embedded: Tensor = self._text_model(input_ids=ids, **masked).pooler_output
        return embedded

    @property
    def _user(self) -> str:
        return f"text encoder '{self.name}'"

    @cached_property
    def _folder(self) -> HubFolder:
        return HubFolder(self._weights.find(self.name), self.name, self._user)

    @cached_property
    def _tokenizer(self) -> Any:
        return self._folder.load_processor(_TOKENIZERS[self._known.family])

    @cached_property
    def _text_model(self) -> Any:
        return self._load().text_model

    def _load(self) -> Any:
        return self._folder.load_model(self._known.kind)


def require_tokenizer_reader(folder: Path, user: str) -> None:
    """Tell before the work where only packages beyond the extra read a folder's tokenizer.

    transformers would say that another package, which cannot read it either, is missing.

    Args:
        folder: of the hub, with `tokenizer.json` or `tokenizer.model`.
        user: for the message.

    Raises:
        MissingExtraError: there is only `tokenizer.model`, and sentencepiece or protobuf is not
            installed.
    """
    if (folder / "tokenizer.json").is_file():
        return
    if find_spec("sentencepiece") is None or find_spec("google") is None:
        raise MissingExtraError(
            f"{user} has its tokenizer in {folder / 'tokenizer.model'}, which sentencepiece and "
            "protobuf read; install them with pip install sentencepiece protobuf"
        )
