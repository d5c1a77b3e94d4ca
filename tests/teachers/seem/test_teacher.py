"""SEEM as a teacher, the reduced network through the code of the full one."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.teachers import TEACHERS, TeacherSetup, WeightStore, build_teacher
from pcdistill.teachers.base import taught_words
from pcdistill.teachers.seem import SeemTeacher
from pcdistill.teachers.seem import teacher as teacher_module
from pcdistill.teachers.seem.masks import MASK_STYLES, NamedMasks
from pcdistill.teachers.seem.post_processing import panoptic_segments, resize_masks
from pcdistill.teachers.seem.teacher import keep_known, resize_short_side
from pcdistill.teachers.seem.vocabulary import SeemVocabulary, released_vocabulary
from pcdistill.teachers.text_encoders import StaticTextEncoder
from tests.fixtures.open_clip_package import need_open_clip
from tests.teachers.seem.reference import assert_near, load_case, load_facts, reduced_sizes

LOW = {"min_score": 0.1, "min_visible": 0.02}
"""Thresholds that segments of random weights survive."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))


def needs_tokenizer():
    return need_open_clip()


@pytest.fixture
def setup(tmp_path):
    file = tmp_path / "seem_focall_v0.pt"
    torch.save(load_case("seem_reduced_weights"), file)
    return TeacherSetup(StaticTextEncoder(), WeightStore(tmp_path))


@pytest.fixture
def small_style(monkeypatch):
    """Classes and size of the reduced fixture; all are things, so that no segments are merged."""
    facts = load_facts("seem_reduced_meta")
    vocabulary = SeemVocabulary(
        tuple(facts["config"]["classes"]),
        facts["num_classes_attr"],
        frozenset(range(len(facts["config"]["classes"]))),
    )

    def masks(queries, vocabulary):
        found, segments = panoptic_segments(
            queries.logits,
            queries.resized(queries.image_size),
            vocabulary,
            **LOW,
        )
        return NamedMasks(found, [segment.category for segment in segments])

    style = MASK_STYLES["segments"]._replace(vocabulary=vocabulary, masks=masks)
    monkeypatch.setitem(MASK_STYLES, "segments", style)
    monkeypatch.setattr(teacher_module, "SHORT_SIDE", 60)
    return vocabulary


def test_the_tokenizer_gives_the_recorded_ids_of_all_prompts():
    tokenizer = needs_tokenizer().SimpleTokenizer()
    recorded = load_case("seem_prompts_tokens")
    for number, name in enumerate(released_vocabulary().names):
        own = tokenizer(teacher_module.class_prompts(name))
        ends = recorded["eos_index"][number].long()
        assert torch.equal(own.argmax(dim=1), ends), name
        upto = torch.arange(recorded["ids"].shape[2]) <= ends[:, None]
        assert torch.equal(own[:, : upto.shape[1]][upto], recorded["ids"][number].long()[upto])


def test_segments_of_an_image_are_those_of_the_official_code(setup, small_style):
    needs_tokenizer()
    case = load_case("seem_reduced_io")
    teacher = SeemTeacher(setup, sizes=reduced_sizes())
    image = case["image_uint8"].permute(2, 0, 1)
    said = teacher(image)
    masks = resize_masks(case["pred_masks"], (64, 96), (60, 80), (60, 80))[0]
    logits = case["pred_logits_with_language_encoder"][0]
    expected, segments = panoptic_segments(logits, masks, small_style, **LOW)
    assert len(segments) > 1
    assert (said.mask_ids == expected).float().mean() >= 0.995
    assert said.labels == tuple(teacher._nouns[segment.category] for segment in segments)
    assert all(label in text for label, text in zip(said.labels, said.captions, strict=True))
    assert_near(said.embeddings, setup.text_encoder.encode(said.captions), 1e-6)
    both = teacher.predict_batch(torch.stack([image, image]))
    assert both[1].captions == said.captions
    assert torch.equal(both[1].mask_ids, said.mask_ids)


def test_class_embeddings_are_kept_on_disk(setup, small_style, monkeypatch):
    needs_tokenizer()
    image = load_case("seem_reduced_io")["image_uint8"].permute(2, 0, 1)
    said = SeemTeacher(setup, sizes=reduced_sizes())(image)

    def refuse(*_):
        raise AssertionError("embedded again")

    monkeypatch.setattr(teacher_module, "embed_classes", refuse)
    again = SeemTeacher(setup, sizes=reduced_sizes())(image)
    assert torch.equal(again.mask_ids, said.mask_ids)
    assert again.labels == said.labels


@pytest.mark.parametrize("name", ["seem", "seem-v1", "seem-released"])
def test_every_entry_of_the_table_names_its_weights(setup, name, tmp_path):
    if name == "seem-v1":
        with pytest.raises(ConfigError, match="seem_focall_v1.pt: the weights 'seem-v1' are not"):
            build_teacher(name, setup)
        (tmp_path / "seem_focall_v0.pt").rename(tmp_path / "seem_focall_v1.pt")
    teacher = build_teacher(name, setup)
    assert teacher.name == name
    assert name in TEACHERS
    assert teacher.text_space == setup.text_encoder.text_space
    assert "none told of the weights" in teacher.provenance["licence"]
    assert "COCO" in teacher.provenance["training"]
    assert {"wall", "chair"} <= set(teacher.taught)
    assert "background" not in teacher.taught


def test_the_release_is_another_revision_with_names_of_its_own(setup):
    own, released = build_teacher("seem", setup), build_teacher("seem-released", setup)
    assert own.provenance["revision"] != released.provenance["revision"]
    asked = ("brick wall", "sofa", "others")
    assert taught_words(own, asked) == ("brick wall", "sofa")
    assert taught_words(released, asked) == ("others",)


def test_classes_that_the_run_cannot_embed_are_not_named():
    masks = NamedMasks(torch.tensor([[0, 1], [-1, 2]], dtype=torch.int32), [5, 7, 5])
    known = [True] * 8
    known[7] = False
    kept = keep_known(masks, known)
    assert kept.mask_ids.tolist() == [[0, -1], [-1, 1]]
    assert kept.categories == [5, 5]


def test_images_are_resized_as_by_pillow():
    case = load_case("seem_resize")
    resized = resize_short_side(case["image_uint8"].permute(2, 0, 1), 512)
    assert resized.shape == (3, 512, 682)
    apart = resized.permute(1, 2, 0)[::2, ::2].int() - case["resized_uint8_stride2"].int()
    assert apart.abs().max() <= 1


def test_upright_images_are_resized_by_their_width():
    assert resize_short_side(torch.zeros(3, 320, 240, dtype=torch.uint8), 512).shape[1:] == (
        682,
        512,
    )
