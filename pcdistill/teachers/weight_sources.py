"""Where the weights of other authors come from: address, size, license, checksum of each file."""

from __future__ import annotations

from typing import NamedTuple


class WeightFile(NamedTuple):
    """One file or folder of weights; None where its authors do not publish something."""

    name: str
    """What a run and the command line call it."""
    file_name: str
    """Name of the file or folder as its authors publish it."""
    address: str
    """Of the file itself, or of the page where a person fetches it; `direct` tells which."""
    license: str
    """That of the publishing repository where the weights have none of their own."""
    training: str
    """Data that it was trained on."""
    size: int | None = None
    """Bytes."""
    sha256: str | None = None
    """64 hexadecimal digits."""
    md5_prefix: str | None = None
    """First digits of the MD5, where that is what is published."""
    direct: bool = True
    """Whether the address gives the file itself."""
    parts: tuple[str, ...] = ()
    """Files that must be in a folder, such as `config.json`; `*` stands for any characters. Where
    the address gives the files themselves they are below it, by their whole names."""
    gated: bool | None = False
    """Whether an account must accept terms before the address gives anything; None: unknown."""
    note: str = ""


_CLIP = "https://openaipublic.azureedge.net/clip/models"
_CLIP_B32 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
_CLIP_L14_336 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
HUB = "https://huggingface.co/"
"""Address of public repositories of models, each by `owner/name`."""
_WEB_PAIRS = "400 million pairs of image and text from the web"

_ENTRIES = (
    WeightFile(
        "clip-vit-b-32",
        "ViT-B-32.pt",
        f"{_CLIP}/{_CLIP_B32}/ViT-B-32.pt",
        "MIT",
        _WEB_PAIRS,
        sha256=_CLIP_B32,
        note="text space of lseg, seem and captions",
    ),
    WeightFile(
        "clip-vit-l-14-336",
        "ViT-L-14-336px.pt",
        f"{_CLIP}/{_CLIP_L14_336}/ViT-L-14-336px.pt",
        "MIT",
        _WEB_PAIRS,
        sha256=_CLIP_L14_336,
        note="text space of openseg",
    ),
    WeightFile(
        "lseg",
        "demo_e200.ckpt",
        "https://drive.google.com/file/d/1ayk6NXURI_vIPlym16f_RG3ffxBWHxvb/view",
        "MIT",
        "unknown",
        direct=False,
        note="ViT-L/16 image encoder in the text space of CLIP ViT-B/32",
    ),
    WeightFile(
        "seem",
        "seem_focall_v0.pt",
        f"{HUB}xdecoder/SEEM/resolve/main/seem_focall_v0.pt",
        "unknown",
        "COCO 2017 panoptic, RefCOCO, RefCOCO+ and RefCOCOg",
        note="Focal-L, the one the paper uses",
    ),
    WeightFile(
        "seem-v1",
        "seem_focall_v1.pt",
        f"{HUB}xdecoder/SEEM/resolve/main/seem_focall_v1.pt",
        "unknown",
        "COCO 2017 panoptic, RefCOCO, RefCOCO+ and RefCOCOg",
        note="Focal-L",
    ),
    WeightFile(
        "tap",
        "tap_vit_h_v1_1.pkl",
        f"{HUB}BAAI/tokenize-anything/resolve/main/models/tap_vit_h_v1_1.pkl",
        "Apache-2.0",
        "SA-1B, then captions of Visual Genome",
        md5_prefix="4bdfb9",
        note="captions; ViT-H, version 1.1",
    ),
    WeightFile(
        "tap-tokenizer",
        "text_tokenizer.model",
        "https://raw.githubusercontent.com/baaivision/tokenize-anything/"
        "9cefd56ab79438b8087e79cd1ca54efa0b9c27a8/tokenize_anything/modeling/text_tokenizer.model",
        "Apache-2.0; it is the vocabulary of LLaMA, whose own license may apply",
        "unknown",
        size=499723,
        sha256="9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347",
        note="words of tap's captions",
    ),
    WeightFile(
        "florence-2",
        "Florence-2-base",
        f"{HUB}florence-community/Florence-2-base",
        "MIT",
        "FLD-5B",
        direct=False,
        parts=("config.json", "*.safetensors", "*processor_config.json", "tokenizer*.json"),
        note="captions; any size of Florence-2 that transformers reads without code of its own",
    ),
    WeightFile(
        "openseg",
        "exported_model",
        "https://storage.googleapis.com/cloud-tpu-checkpoints/detection/projects/openseg/colab/"
        "exported_model",
        "Apache-2.0",
        "class-agnostic masks and captions of COCO, localized narratives",
        parts=(
            "saved_model.pb",
            "variables/variables.index",
            "variables/variables.data-00000-of-00001",
        ),
        note="a SavedModel of TensorFlow in the text space of CLIP ViT-L/14@336",
    ),
)

WEIGHT_FILES: dict[str, WeightFile] = {entry.name: entry for entry in _ENTRIES}
"""Every file that a teacher or text encoder reads, by name. Only what public sources say."""
