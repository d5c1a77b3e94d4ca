"""Where the weights of other authors come from: address, size, license, checksum of each file."""

from __future__ import annotations

from typing import NamedTuple

from pcdistill.teachers.hub_text_models import HUB_TEXT_MODELS


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
_CLIP_B16 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
_CLIP_L14_336 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
HUB = "https://huggingface.co/"
"""Address of public repositories of models, each by `owner/name`."""
_SEEM_LICENSE = "none told of the weights; the authors' code is Apache-2.0"
_SEEM_DATA = (
    "COCO 2017: panoptic, captions, referring expressions, and the masks of LVIS; begun with "
    "X-Decoder, trained on these and 4 million pairs of image and text"
)
_DIFFUSION_PARTS = (
    *("model_index.json", "scheduler/scheduler_config.json"),
    *(f"{part}/config.json" for part in ("text_encoder", "unet", "vae")),
    *(f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")),
    "text_encoder/model.safetensors",
    *(f"tokenizer/{name}" for name in ("merges.txt", "tokenizer_config.json", "vocab.json")),
    "tokenizer/special_tokens_map.json",
)
"""Of a Stable Diffusion what is read to draw with it; the others are the same weights again, and a
classifier of what is drawn."""
_WEB_PAIRS = "400 million pairs of image and text from the web"

_ENTRIES = (
    WeightFile(
        "clip-vit-b-32",
        "ViT-B-32.pt",
        f"{_CLIP}/{_CLIP_B32}/ViT-B-32.pt",
        "MIT",
        _WEB_PAIRS,
        sha256=_CLIP_B32,
        note="text space of lseg, seem and captions; image side of maskclip",
    ),
    WeightFile(
        "clip-vit-b-16",
        "ViT-B-16.pt",
        f"{_CLIP}/{_CLIP_B16}/ViT-B-16.pt",
        "MIT",
        _WEB_PAIRS,
        sha256=_CLIP_B16,
        note="text encoder, and image side of maskclip with finer patches",
    ),
    WeightFile(
        "clip-vit-l-14-336",
        "ViT-L-14-336px.pt",
        f"{_CLIP}/{_CLIP_L14_336}/ViT-L-14-336px.pt",
        "MIT",
        _WEB_PAIRS,
        sha256=_CLIP_L14_336,
        note="text space of openseg; image side of maskclip",
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
        _SEEM_LICENSE,
        _SEEM_DATA,
        note="Focal-L, the one the paper uses",
    ),
    WeightFile(
        "seem-v1",
        "seem_focall_v1.pt",
        f"{HUB}xdecoder/SEEM/resolve/main/seem_focall_v1.pt",
        _SEEM_LICENSE,
        _SEEM_DATA,
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
        "sam-vit-b",
        "sam_vit_b_01ec64.pth",
        f"{_SAM}/sam_vit_b_01ec64.pth",
        "Apache-2.0",
        "SA-1B",
        size=375042383,
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        note="segmenter; Segment Anything, ViT-B",
    ),
    WeightFile(
        "sam-vit-l",
        "sam_vit_l_0b3195.pth",
        f"{_SAM}/sam_vit_l_0b3195.pth",
        "Apache-2.0",
        "SA-1B",
        size=1249524607,
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        note="segmenter; Segment Anything, ViT-L",
    ),
    WeightFile(
        "sam-vit-h",
        "sam_vit_h_4b8939.pth",
        f"{_SAM}/sam_vit_h_4b8939.pth",
        "Apache-2.0",
        "SA-1B",
        size=2564550879,
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        note="segmenter; Segment Anything, ViT-H, the one the authors' code takes",
    ),
    WeightFile(
        "sam2",
        "sam2.1-hiera-large",
        f"{HUB}facebook/sam2.1-hiera-large",
        "Apache-2.0",
        "SA-1B, SA-V",
        direct=False,
        parts=("config.json", "*.safetensors", "*processor_config.json"),
        note="segmenter; any size of SAM 2 and 2.1 that transformers reads",
    ),
    WeightFile(
        "sam3",
        "sam3",
        f"{HUB}facebook/sam3",
        "SAM License of Meta",
        "SA-Co, images and videos with masks of named things",
        direct=False,
        parts=("config.json", "*.safetensors", "*processor_config.json", "tokenizer*.json"),
        gated=True,
        note="masks of named things; segmenter; its file sam3.pt is not read",
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
    WeightFile(
        "stable-diffusion-1.5",
        "stable-diffusion-v1-5",
        f"{HUB}stable-diffusion-v1-5/stable-diffusion-v1-5/resolve/main",
        "CreativeML OpenRAIL-M",
        "LAION-2B-en and subsets of it chosen by looks",
        parts=_DIFFUSION_PARTS,
        note="draws the reference images; the mirror of a repository that is no more",
    ),
    WeightFile(
        "stable-diffusion-xl",
        "stable-diffusion-xl-base-1.0",
        f"{HUB}stabilityai/stable-diffusion-xl-base-1.0/resolve/main",
        "CreativeML Open RAIL++-M",
        "unknown",
        parts=(
            *_DIFFUSION_PARTS,
            *("text_encoder_2/config.json", "text_encoder_2/model.safetensors"),
            *(part.replace("/", "_2/") for part in _DIFFUSION_PARTS if part[:5] == "token"),
        ),
        note="draws the reference images, of 1024 x 1024 pixels",
    ),
)

_HUB_ENTRIES = tuple(
    WeightFile(
        name,
        name,
        f"{HUB}google/{name}",
        "Apache-2.0",
        "WebLI: pairs of image and text from the web",
        direct=False,
        parts=("config.json", "*.safetensors", "tokenizer.*"),
        note=f"text encoder, and image side of {model.family}",
    )
    for name, model in HUB_TEXT_MODELS.items()
)

WEIGHT_FILES: dict[str, WeightFile] = {entry.name: entry for entry in (*_ENTRIES, *_HUB_ENTRIES)}
"""Every file that a teacher, text encoder or segmenter reads, by name. Only what is public."""
