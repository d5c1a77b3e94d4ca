"""SAM 3 looks for the words of a run, from a folder as transformers saves it."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ArtifactError, ConfigError, MissingExtraError
from pcdistill.teachers import WeightStore, build_teacher, sam3
from pcdistill.teachers.sam3 import settle_overlaps
from tests.fixtures.transformers_package import need_transformers
from tests.teachers.captions.tiny_florence import write_tiny_florence
from tests.teachers.tiny_sam3 import NAME, WORDS, setup_of, write_tiny_sam3

pytestmark = pytest.mark.thorough

CPU = torch.device("cpu")
SIZE = (60, 90)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_tiny_sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture
def setup(written):
    return setup_of(written.parent, CPU)


@pytest.fixture(scope="module")
def images():
    generator = torch.manual_seed(5)
    return torch.randint(0, 256, (2, 3, *SIZE), generator=generator).to(torch.uint8)


def test_masks_are_those_of_the_documented_way(setup, written, images):
    """Processor, network and post-processing together, one word at a time."""
    transformers = need_transformers()
    processor = transformers.Sam3Processor.from_pretrained(written)
    model = transformers.Sam3Model.from_pretrained(written).eval()
    found = build_teacher("sam3", setup)._find(images[0])
    assert len(found.scores) > len(WORDS)
    for number, word in enumerate(WORDS):
        given = processor(images=images[0], text=word, return_tensors="pt")
        with torch.inference_mode():
            answer = model(
                **{key: given[key] for key in ("pixel_values", "input_ids", "attention_mask")}
            )
        expected = processor.post_process_instance_segmentation(
            answer, threshold=0.5, mask_threshold=0.5, target_sizes=[SIZE]
        )[0]
        own = found.words == number
        torch.testing.assert_close(found.scores[own], expected["scores"], rtol=0, atol=1e-5)
        same = found.masks[own] == expected["masks"].bool()
        assert same.float().mean() > 0.999  # a border may move by rounding


def test_an_image_is_encoded_once_and_a_word_once_for_all_images(setup, images, monkeypatch):
    whole = build_teacher("sam3", setup)(images[0])
    monkeypatch.setattr(sam3, "WORDS_AT_ONCE", 1)
    teacher = build_teacher("sam3", setup)
    looks, texts = [], []
    teacher._model.vision_encoder.register_forward_hook(lambda *_: looks.append(1))
    teacher._model.text_encoder.register_forward_hook(lambda *_: texts.append(1))
    again, other = teacher(images[0]), teacher(images[1])
    assert len(looks) == 2
    assert len(texts) == len(WORDS)
    assert again.labels == whole.labels
    assert (again.mask_ids == whole.mask_ids).float().mean() > 0.99
    assert not torch.equal(other.mask_ids, again.mask_ids)


def test_the_surest_mask_has_a_pixel_and_its_label_is_a_word(setup, images):
    teacher = build_teacher("sam3", setup)
    seen, found = teacher(images[0]), teacher._find(images[0])
    best = int(found.scores.argmax())
    assert seen.labels[0] == WORDS[int(found.words[best])]
    assert torch.equal(seen.mask_ids == 0, found.masks[best])
    assert all(label in caption for label, caption in zip(seen.labels, seen.captions, strict=True))
    outside = ~found.masks.any(dim=0)
    assert outside.any()
    assert (seen.mask_ids[outside] == -1).all()


def test_what_is_not_there_stays_unseen(setup, images, monkeypatch):
    monkeypatch.setattr(sam3, "MIN_SCORE", 1.0)
    seen = build_teacher("sam3", setup)(images[0])
    assert (seen.mask_ids == -1).all()
    assert seen.embeddings.shape == (0, 64)
    assert seen.labels == seen.captions == ()


def rectangles(*sides: tuple[int, int, int, int]) -> torch.Tensor:
    masks = torch.zeros(len(sides), 4, 10, dtype=torch.bool)
    for mask, (top, bottom, left, right) in zip(masks, sides, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_overlaps_are_decided_by_score():
    masks = rectangles((0, 4, 0, 5), (0, 4, 3, 10))
    mask_ids, rows = settle_overlaps(masks, torch.tensor([0.6, 0.9]))
    assert rows == [1, 0]
    assert mask_ids[0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    mask_ids, rows = settle_overlaps(masks, torch.tensor([0.9, 0.9]))
    assert rows == [0, 1]
    assert mask_ids[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_a_second_name_of_a_thing_keeps_no_seam():
    """The second would keep one column, which the third may have."""
    masks = rectangles((0, 4, 0, 5), (0, 4, 0, 6), (0, 4, 4, 9))
    mask_ids, rows = settle_overlaps(masks, torch.tensor([0.9, 0.8, 0.7]))
    assert rows == [0, 2]
    assert mask_ids[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, -1]


def test_masks_without_pixels_and_no_masks():
    empty = torch.zeros(1, 4, 10, dtype=torch.bool)
    for masks in (empty, empty[:0]):
        mask_ids, rows = settle_overlaps(masks, torch.ones(len(masks)))
        assert rows == []
        assert (mask_ids == -1).all()


def test_words_belong_to_the_revision(setup):
    revision = build_teacher("sam3", setup).provenance["revision"]
    other = build_teacher("sam3", setup._replace(vocabulary=("cup",))).provenance["revision"]
    worded = build_teacher("sam3", setup._replace(vocabulary=(*WORDS, "bed")))
    assert revision != other
    assert worded.provenance["revision"] == revision  # asked for once


def test_words_that_the_encoder_does_not_know_are_not_looked_for(setup, images):
    strange = build_teacher("sam3", setup._replace(vocabulary=("qqzzx",)))
    assert strange(images[0]).labels == ()
    assert "_model" not in vars(strange)  # nothing was read
    both = build_teacher("sam3", setup._replace(vocabulary=("qqzzx", "bed")))
    assert set(both(images[0]).labels) == {"bed"}


def test_a_word_that_is_too_long_is_cut(setup, images):
    long = build_teacher("sam3", setup._replace(vocabulary=("bed " * 40,)))
    assert len(long(images[0]).labels) > 0


def test_without_words_one_sentence_says_where_they_are_named(setup):
    with pytest.raises(ConfigError, match=r"'sam3' looks for the words .* run.vocabulary"):
        build_teacher("sam3", setup._replace(vocabulary=()))


def test_a_missing_folder_or_package_is_one_sentence(setup, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"sam3: .* not there; .*facebook/sam3 .* accepted its"):
        build_teacher("sam3", setup._replace(weights=WeightStore(tmp_path)))
    monkeypatch.setattr("pcdistill.teachers.transformers_package.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"'sam3' .*pip install 'pcdistill"):
        build_teacher("sam3", setup)


def test_the_folder_of_another_network_is_refused(setup, tmp_path, images):
    write_tiny_florence(tmp_path).rename(tmp_path / NAME)
    teacher = build_teacher("sam3", setup._replace(weights=WeightStore(tmp_path)))
    with pytest.raises(ArtifactError, match=r"^[^\n]*not a folder that Sam3\w+ of trans[^\n]*$"):
        teacher(images[0])
