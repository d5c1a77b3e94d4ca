"""Florence-2 describes masks by their boxes, from a folder as transformers saves it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from pcdistill.errors import ArtifactError, ConfigError, MissingExtraError
from pcdistill.teachers import StaticTextEncoder, TeacherSetup, WeightStore
from pcdistill.teachers.captions import build_captioner, florence
from pcdistill.teachers.captions.florence import (
    BEAMS,
    MAX_TOKENS,
    FlorenceDescriber,
    plain_text,
    region_boxes,
)
from tests.fixtures.transformers_package import need_transformers
from tests.teachers.captions.tiny_florence import NAME, write_tiny_florence

pytestmark = pytest.mark.thorough

LABELS = ("sofa", "oven", "bed", "door")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_tiny_florence(tmp_path_factory.mktemp("florence"))


@pytest.fixture
def setup(written):
    return TeacherSetup(StaticTextEncoder(), WeightStore(written.parent), captioner="florence-2")


@pytest.fixture(scope="module")
def image():
    return torch.randint(0, 256, (3, 48, 80), generator=torch.manual_seed(3)).to(torch.uint8)


@pytest.fixture(scope="module")
def mask_ids():
    """Three regions, and a fourth without pixels."""
    found = torch.full((48, 80), -1, dtype=torch.int32)
    found[2:20, 4:30] = 0
    found[10:40, 40:80] = 1
    found[30:48, 0:8] = 2
    return found


def test_boxes_are_around_the_pixels_of_a_region(mask_ids):
    boxes, there = region_boxes(mask_ids, 4)
    assert boxes.tolist() == [[4, 2, 30, 20], [40, 10, 80, 40], [0, 30, 8, 48], [0, 0, 0, 0]]
    assert there.tolist() == [True, True, True, False]
    assert region_boxes(mask_ids, 0)[0].shape == (0, 4)


def test_texts_are_those_of_the_documented_way(setup, written, image, mask_ids):
    """Processor, image and prompt together, one region at a time."""
    transformers = need_transformers()
    processor = transformers.Florence2Processor.from_pretrained(written)
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(written).eval()
    expected = []
    for corners in ((50, 41, 375, 416), (500, 208, 999, 833), (0, 625, 100, 999)):
        prompt = "<REGION_TO_DESCRIPTION>" + "".join(f"<loc_{place}>" for place in corners)
        given = processor(images=image, text=prompt, return_tensors="pt")
        tokens = model.generate(**given, num_beams=BEAMS, max_new_tokens=MAX_TOKENS)
        expected.append(plain_text(processor.batch_decode(tokens, skip_special_tokens=True)[0]))
    found = FlorenceDescriber(setup).describe(image, mask_ids, 4)
    assert found == (*expected, "")
    assert len(set(found)) == 4


def test_regions_are_taken_in_parts_and_an_image_is_encoded_once(
    setup, image, mask_ids, monkeypatch
):
    whole = FlorenceDescriber(setup).describe(image, mask_ids, 3)
    monkeypatch.setattr(florence, "REGIONS_AT_ONCE", 2)
    describer = FlorenceDescriber(setup)
    tower, looks = describer._parts.model.model.vision_tower, []
    tower.register_forward_hook(lambda *_: looks.append(1))
    assert describer.describe(image, mask_ids, 3) == whole
    assert len(looks) == 1


def test_an_image_without_regions_is_not_looked_at(setup, image):
    nothing = torch.full((48, 80), -1, dtype=torch.int32)
    describer = FlorenceDescriber(setup)
    assert describer.describe(image, nothing, 0) == ()
    assert describer.describe(image, nothing, 2) == ("", "")
    assert "_parts" not in vars(describer)  # nothing was read


def test_the_captioner_of_a_run_joins_texts_and_labels(setup, image, mask_ids):
    paper = build_captioner(setup)
    release = build_captioner(setup._replace(caption_wording="release"))
    texts = paper(image, mask_ids, LABELS)
    assert all(label in text for label, text in zip(LABELS, texts, strict=True))
    assert texts[3] == "a door"
    assert release(image, mask_ids, LABELS)[3] == "a door in a scene"
    assert paper.name == "florence-2"
    assert paper.provenance["revision"].endswith(" regions-1 paper")
    assert paper.provenance["licence"] == "MIT"


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("<loc_3>wooden chair.", "wooden chair"),
        (" a red  sofa ", "a red sofa"),
        ("<s></s>", ""),
    ],
)
def test_tokens_of_places_and_the_full_stop_are_left_out(said, plain):
    assert plain_text(said) == plain


def test_other_weights_say_something_else(setup, tmp_path, image, mask_ids):
    write_tiny_florence(tmp_path, seed=1)
    other = setup._replace(weights=WeightStore(tmp_path))
    one, two = FlorenceDescriber(setup), FlorenceDescriber(other)
    assert one.describe(image, mask_ids, 3) != two.describe(image, mask_ids, 3)
    assert one.provenance["revision"] != two.provenance["revision"]


def test_a_missing_folder_or_package_is_one_sentence(setup, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"Florence-2-base: .* not there; .*hf download"):
        build_captioner(setup._replace(weights=WeightStore(tmp_path)))
    monkeypatch.setattr("pcdistill.teachers.transformers_package.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"'florence-2' .*pip install 'pcdistill"):
        build_captioner(setup)


def test_a_tokenizer_without_places_is_refused(setup, written, tmp_path, image, mask_ids):
    folder = shutil.copytree(written, tmp_path / NAME)
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace("<loc_", "<place_"), encoding="utf-8")
    other = setup._replace(weights=WeightStore(tmp_path))
    with pytest.raises(ArtifactError, match=r"has no tokens <loc_0> to <loc_999>"):
        FlorenceDescriber(other).describe(image, mask_ids, 3)


def test_the_folder_that_needs_code_of_its_own_is_refused(
    setup, written, tmp_path, image, mask_ids
):
    """As microsoft publishes it; its code is not run."""
    folder = shutil.copytree(written, tmp_path / NAME)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.Config"}
    config["vision_config"] = {"model_type": "davit", "dim_embed": [8, 8, 8, 16]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('run')")
    other = setup._replace(weights=WeightStore(tmp_path))
    with pytest.raises(ArtifactError, match=r"^[^\n]*not a folder that Florence2[^\n]*$"):
        FlorenceDescriber(other).describe(image, mask_ids, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_precision_on_a_gpu_describes_too(setup, image, mask_ids):
    describer = FlorenceDescriber(setup._replace(device=torch.device("cuda")))
    assert all(describer.describe(image, mask_ids, 3))
