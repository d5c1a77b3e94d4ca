"""SAM 2 and SAM 3 of transformers: tiny ones, saved and read as real folders, and odd folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from pcdistill.capability import SynthesisSetup, build_segmenter
from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.teachers import WEIGHT_FILES, WeightStore
from tests.fixtures.transformers_package import need_transformers

pytestmark = pytest.mark.thorough

POINTS = torch.tensor([[20, 10], [31, 17], [3, 28]])
SIZE = (40, 56)
PROMPTS = {"hidden_size": 32, "mask_input_channels": 4}
DECODER = {"hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
FEATURES = {"fpn_hidden_size": 32, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
NAMES = ("sam2", "sam3")


def tiny(name: str) -> tuple[Any, Any]:
    """A network and its processor, for images of 64 (SAM 2) or 56 pixels a side."""
    package = need_transformers()
    torch.manual_seed(0)
    if name == "sam2":
        side = 64
        backbone = {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 8,
            "image_size": [64, 64],
            "window_positional_embedding_background_size": [2, 2],
            "blocks_per_stage": [1, 2, 1, 1],
            "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 1, 2, 2],
            "window_size_per_stage": [4, 2, 2, 2],
            "global_attention_blocks": [2],
        }
        vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], **FEATURES}
        prompts = {"image_size": 64, "patch_size": 16, **PROMPTS}
        config, network = package.Sam2Config, package.Sam2Model
        kinds = ("Sam2ImageProcessor", "Sam2Processor")
    else:
        side = 56
        backbone = {
            "model_type": "sam3_vit_model",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "pretrain_image_size": 56,
            "window_size": 2,
            "global_attn_indexes": [1],
        }
        vision = {"model_type": "sam3_vision_model", "backbone_config": backbone, **FEATURES}
        prompts = {"image_size": 56, "patch_size": 14, **PROMPTS}
        config, network = package.Sam3TrackerConfig, package.Sam3TrackerModel
        kinds = ("Sam3ImageProcessor", "Sam3TrackerProcessor")
    images = getattr(package, kinds[0])(
        size={"height": side, "width": side}, mask_size={"height": 16, "width": 16}
    )
    settings = config(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=DECODER
    )
    return network(settings).eval(), getattr(package, kinds[1])(images)


def save(name: str, folder: Path) -> tuple[Any, Any]:
    network, processor = tiny(name)
    place = folder / WEIGHT_FILES[name].file_name
    network.save_pretrained(place)
    processor.save_pretrained(place)
    if name == "sam3":
        (place / "tokenizer.json").write_text("{}")  # of the part that takes words
    return network, processor


def segmenter(name: str, folder: Path):
    return build_segmenter(name, SynthesisSetup(WeightStore(folder)))


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_the_one_mask_for_all_points_is_taken(tmp_path, image, name):
    """The network's own answer for points that are scaled and a mask that is enlarged here."""
    network, processor = save(name, tmp_path)
    pixels = processor.image_processor(images=image, return_tensors="pt")["pixel_values"]
    side = pixels.shape[-1]
    scaled = POINTS.float() * torch.tensor([side / SIZE[1], side / SIZE[0]])
    with torch.no_grad():
        told = network(
            pixel_values=pixels,
            input_points=scaled[None, None],
            input_labels=torch.ones(1, 1, 3, dtype=torch.int64),
            multimask_output=False,
        )
    wide = functional.interpolate(told.pred_masks[0], SIZE, mode="bilinear", align_corners=False)
    built = segmenter(name, tmp_path)
    found = built(image, POINTS)
    assert found.dtype == torch.bool
    assert 0 < int(found.sum()) < found.numel()
    assert torch.equal(found, wide[0, 0] > 0)
    assert not torch.equal(found, built(image.flip(0), POINTS))
    assert built.provenance["licence"] == WEIGHT_FILES[name].license
    assert built.provenance["revision"] == WeightStore(tmp_path).revision(name)


def test_a_folder_of_another_network_is_one_sentence(tmp_path, image):
    save("sam3", tmp_path)
    place = tmp_path / "sam3"
    built = build_segmenter("sam2", SynthesisSetup(WeightStore(tmp_path, {"sam2": place})))
    with pytest.raises(ArtifactError) as caught:
        built(image, POINTS)
    assert str(caught.value).startswith(f"{place}: not a folder that Sam2Model of transformers")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_folder_is_told_before_the_work(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        segmenter(name, tmp_path)
    known = WEIGHT_FILES[name]
    text = f"the weights '{name}' are not there; get the folder {known.file_name} from"
    assert text in str(caught.value)
    assert ("accepted its terms" in str(caught.value)) == (name == "sam3")


def test_points_outside_the_image_are_refused(tmp_path, image):
    save("sam2", tmp_path)
    with pytest.raises(ValueError, match=r"points range from \[56, 0\] to \[56, 0\], expected"):
        segmenter("sam2", tmp_path)(image, torch.tensor([[56, 0]]))
