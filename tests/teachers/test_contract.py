"""What every teacher of the table promises: the tests that a new one has to pass.

One that needs files of weights says in `tiny_teachers.py` how it is built with small ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdistill.errors import ConfigError
from pcdistill.teachers import (
    TEACHERS,
    TEXT_ENCODERS,
    FeatureMap,
    LabelledMasks,
    StaticTextEncoder,
    Teacher,
    TeacherSetup,
    WeightStore,
    build_teacher,
    predict_batch,
    taught_words,
)
from tests.teachers.tiny_teachers import CPU, build_tiny

PAGE = Path(__file__).resolve().parents[2] / "docs" / "teachers.md"
SIZES = ((96, 128), (128, 96), (75, 101), (240, 320))
"""(H, W) pixels: landscape, portrait, odd, and larger."""
ROUNDING = 2e-3
"""Of lengths and features in half precision."""
SAME_PIXELS = 0.99
"""Share of pixels in which masks of a batch are those of single images: rounding moves borders."""
DEMO = ("demo-dense", "demo-masks")
"""Trained in the text space of the encoder that is given to them here."""
FACTS = ("revision", "licence", "training")


def picture(size: tuple[int, int], seed: int = 0) -> Tensor:
    """(3, H, W) uint8: a room of flat walls, with boxes of one colour each."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    image = torch.full((3, height, width), 180, dtype=torch.uint8)
    image[:, height // 2 :] = torch.tensor([120, 90, 60], dtype=torch.uint8)[:, None, None]
    for _ in range(4):
        top, left = (int(torch.randint(0, side // 2, (1,), generator=generator)) for side in size)
        color = torch.randint(0, 256, (3, 1, 1), generator=generator, dtype=torch.uint8)
        image[:, top : top + height // 3, left : left + width // 3] = color
    return image


def of_the_page(title: str) -> str:
    """The first Python block below a title of the page about teachers."""
    _, _, below = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    return below.split("```python\n")[1].split("```")[0]


HELD = [  # the same network as lseg, asked for six sizes and their mirror images: half a minute
    pytest.param(name, marks=pytest.mark.slow) if name == "lseg-multiscale" else name
    for name in (*TEACHERS, "bright")
]


@pytest.fixture(scope="module", params=HELD)
def teacher(request, tmp_path_factory) -> Iterator[Teacher]:
    """Every teacher of the table, and the example of the page."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "bright":
            names: dict[str, Any] = {"__name__": "bright"}
            exec(of_the_page("Adding a teacher"), names)
            patch.setitem(TEACHERS, "bright", names["BrightTeacher"])
        yield build_tiny(request.param, tmp_path_factory.mktemp(request.param))


def test_every_teacher_has_a_row_on_the_page():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    for kind in (TEACHERS, TEXT_ENCODERS):
        for name in kind:
            assert [row for row in rows if f"`{name}`" in row.split("|")[1]], name


def at_every_pixel(seen: FeatureMap | LabelledMasks) -> Tensor:
    """(H * W, D) float32: the vector of every pixel, zeros where nothing is said."""
    height, width = seen.image_size
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns.flatten(), rows.flatten()], dim=1)
    if isinstance(seen, FeatureMap):
        return seen.sample(pixels).float()
    nothing = seen.embeddings.new_zeros(1, seen.embeddings.shape[1])
    return torch.cat([seen.embeddings, nothing]).float()[seen.mask_at(pixels)]


def test_it_says_who_it_is(teacher):
    assert teacher.name in TEACHERS
    assert teacher.text_space
    assert teacher.dimensions > 0
    assert all(isinstance(value, str) for value in teacher.provenance.values())
    assert [fact for fact in FACTS if not teacher.provenance.get(fact)] == []


class Elsewhere(StaticTextEncoder):
    """An encoder of a text space that no teacher was trained in."""

    text_space = "elsewhere"


@pytest.mark.parametrize("name", TEACHERS)
def test_another_text_space_is_refused_naming_both_before_weights_are_looked_for(name, tmp_path):
    try:
        found = build_teacher(
            name, TeacherSetup(Elsewhere(), WeightStore(tmp_path), CPU)
        ).text_space
    except ConfigError as error:
        found = str(error)
    own = build_tiny(name, tmp_path).text_space
    if own != StaticTextEncoder.text_space or name in DEMO:
        assert f"'{own}'" in found
        assert "'elsewhere'" in found
        assert "run.teachers or run.text_encoder" in found
    else:  # its space is that of the run
        assert found == "elsewhere" or "are not there" in found


@pytest.mark.parametrize("size", SIZES)
def test_it_sees_images_of_any_size(teacher, size):
    seen = teacher(picture(size))
    assert seen.image_size == size
    if isinstance(seen, FeatureMap):
        assert seen.features.shape[0] == teacher.dimensions
        assert seen.features.dtype in (torch.float16, torch.float32)
        length = seen.features.float().norm(dim=0)
        assert length.isfinite().all()
        assert 0 < length.max() <= 1 + ROUNDING
        assert seen.features.shape[1] <= size[0]
        assert seen.features.shape[2] <= size[1]
    else:
        masks = len(seen.labels)
        assert seen.mask_ids.dtype == torch.int32
        assert seen.embeddings.shape == (masks, teacher.dimensions)
        assert seen.embeddings.dtype == torch.float32
        assert len(seen.captions) == masks
        assert all(seen.labels)
        assert all(seen.captions)
        assert -1 <= int(seen.mask_ids.min()) <= int(seen.mask_ids.max()) < masks
        if masks:
            assert (seen.embeddings.norm(dim=1) - 1).abs().max() <= ROUNDING
    assert at_every_pixel(seen).isfinite().all()


def test_it_takes_an_image_of_one_color(teacher):
    seen = teacher(torch.zeros(3, 96, 128, dtype=torch.uint8))
    assert at_every_pixel(seen).isfinite().all()


def test_it_says_the_same_again_and_changes_no_image(teacher):
    image = picture((96, 128))
    before = image.clone()
    first, second = at_every_pixel(teacher(image)), at_every_pixel(teacher(image))
    assert torch.equal(first, second)
    assert torch.equal(image, before)


def test_a_batch_says_what_single_images_do(teacher):
    images = torch.stack([picture((96, 128), seed) for seed in (1, 2, 3)])
    together = predict_batch(teacher, images)
    assert len(together) == len(images)
    for image, seen in zip(images, together, strict=True):
        alone = teacher(image)
        assert type(seen) is type(alone)
        one, other = at_every_pixel(alone), at_every_pixel(seen)
        same = ((one - other).abs().amax(dim=1) <= ROUNDING).float().mean()
        assert same >= SAME_PIXELS


def test_other_images_are_seen_otherwise(teacher):
    """A teacher that does not look would pass all the rest; masks may be none on a drawing."""
    one, other = (teacher(picture((96, 128), seed)) for seed in (1, 5))
    if isinstance(one, FeatureMap):
        assert not torch.equal(at_every_pixel(one), at_every_pixel(other))


def test_no_gradient_is_kept(teacher):
    seen = teacher(picture((96, 128)))
    held = seen.features if isinstance(seen, FeatureMap) else seen.embeddings
    assert not held.requires_grad


def test_what_it_was_taught_are_words(teacher):
    words = taught_words(teacher, ("bed", "chair", "spaceship"))
    assert words is None or "spaceship" not in words


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", TEACHERS)
def test_half_precision_on_a_gpu_says_about_the_same(name, tmp_path):
    image = picture((96, 128))
    on_cpu = build_tiny(name, tmp_path)
    on_gpu = build_tiny(name, tmp_path, device=torch.device("cuda"))
    one, other = at_every_pixel(on_cpu(image)), at_every_pixel(on_gpu(image)).cpu()
    close = torch.nn.functional.cosine_similarity(one, other, dim=1) > SAME_PIXELS
    silent = (one.norm(dim=1) == 0) & (other.norm(dim=1) == 0)
    assert (close | silent).float().mean() >= SAME_PIXELS
