"""Settings of a diffusion model, through the stage, against what diffusers draws by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pcdistill.artifacts import load_reference_images
from pcdistill.capability.generators.stable_diffusion import StableDiffusionGenerator
from pcdistill.errors import ConfigError
from pcdistill.pipeline import read_provenance
from pcdistill.pipeline.context import RunContext
from pcdistill.stages.synthesize import SynthesizeStage
from tests.capability.generators.tiny_diffusion import (
    PROMPT,
    draw_plainly,
    write_model_files,
    write_tiny_diffusion,
)
from tests.stages.followed import Outcomes, follows
from tests.stages.toy import toy_run, work

pytestmark = pytest.mark.thorough  # diffusers takes seconds to import

STEPS = 3


class NearlyAll:
    """Takes most of every image, so that none is left out."""

    name = "nearly all"
    provenance = {"revision": "1"}  # noqa: RUF012

    def __call__(self, image: Tensor, points: Tensor) -> Tensor:
        mask = torch.ones(image.shape[1:], dtype=torch.bool)
        mask[:6] = False
        return mask


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    return [write_tiny_diffusion(root / str(seed), seed=seed) for seed in (0, 1)]


def draw(folder: Path, model: object, **settings) -> RunContext:
    """Let the stage draw a class by a diffusion model."""
    synthesize = {
        "generator": "stable-diffusion",
        "model": str(model),
        "prompt": PROMPT,
        "images": 2,
        "steps": STEPS,
        "threshold": 0.3,
        "clean_border": False,
        **settings,
    }
    run = toy_run(folder, synthesize=synthesize)
    run.segmenter = NearlyAll()
    work(SynthesizeStage, run, "chair")
    return run


def nearest(run: RunContext, drawn: list[Tensor]) -> int:
    """Which of some batches (B, 3, H, W) is what the stage drew, to rounding."""
    images, _ = load_reference_images(run.workspace, "chair")
    off = [float((images.int() - other.int()).abs().max()) for other in drawn]
    assert sorted(off)[0] <= 1 < sorted(off)[1], off
    return off.index(min(off))


@follows("synthesize.model")
def test_model(models, tmp_path) -> Outcomes:
    right = [
        draw_plainly(model, "chair", [0, 1], num_inference_steps=STEPS, guidance_scale=7.0)
        for model in models
    ]
    for number, model in enumerate(models):
        run = draw(tmp_path / str(number), model)
        yield nearest(run, right), number
        told = read_provenance(run.workspace.reference_images("chair"))["generator"]
        assert told["name"] == "stable-diffusion"
        assert told["model"] == model.name
        assert told["revision"] == told["model_revision"]
        assert told["licence"] == "unknown"


@follows("synthesize.steps")
def test_steps(models, tmp_path) -> Outcomes:
    values = (2, 4)
    right = [
        draw_plainly(models[0], "chair", [0, 1], num_inference_steps=value, guidance_scale=7.0)
        for value in values
    ]
    for number, value in enumerate(values):
        yield nearest(draw(tmp_path / str(value), models[0], steps=value), right), number


@follows("synthesize.guidance")
def test_guidance(models, tmp_path) -> Outcomes:
    values = (0.0, 4.0, 9.0)
    right = [
        draw_plainly(models[0], "chair", [0, 1], num_inference_steps=STEPS, guidance_scale=value)
        for value in values
    ]
    for number, value in enumerate(values):
        yield nearest(draw(tmp_path / str(value), models[0], guidance=value), right), number


@follows("synthesize.image_size")
def test_image_size(models, tmp_path) -> Outcomes:
    for value, expected in ((None, (64, 64)), ([48, 72], (48, 72))):
        run = draw(tmp_path / str(value), models[0], image_size=value)
        images, masks = load_reference_images(run.workspace, "chair")
        yield (images.shape[2:], masks.shape[1:]), (expected, expected)


@follows("synthesize.batch")
def test_batch(models, tmp_path, monkeypatch) -> Outcomes:
    """Images of one call of the network; what is left comes last, and all are there in order."""
    asked: list[int] = []
    plain = StableDiffusionGenerator.generate_batch

    def counted(self, prompt, words, seeds, on_step):
        asked.append(len(seeds))
        return plain(self, prompt, words, seeds, on_step)

    monkeypatch.setattr(StableDiffusionGenerator, "generate_batch", counted)
    right = [
        draw_plainly(
            models[0], "chair", range(n, n + 5), num_inference_steps=STEPS, guidance_scale=7.0
        )
        for n in (0, 1)
    ]
    for value, expected in ((2, [2, 2, 1]), (5, [5])):
        asked.clear()
        run = draw(tmp_path / str(value), models[0], batch=value, images=5)
        assert nearest(run, right) == 0
        yield list(asked), expected


@follows("synthesize.revision")
def test_revision(models, tmp_path, monkeypatch) -> Outcomes:
    """A branch or a commit in the cache of Hugging Face, laid out as its client does."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "models--somebody--tiny"
    commits = ("a" * 40, "b" * 40)
    for commit, model, branch in zip(commits, models, ("main", "older"), strict=True):
        (cached / "snapshots").mkdir(parents=True, exist_ok=True)
        os.symlink(model, cached / "snapshots" / commit)
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / branch).write_text(commit)
    right = [
        draw_plainly(model, "chair", [0, 1], num_inference_steps=STEPS, guidance_scale=7.0)
        for model in models
    ]
    for number, revision in enumerate((None, "older")):
        run = draw(tmp_path / str(revision), "somebody/tiny", revision=revision)
        yield nearest(run, right), number
        told = read_provenance(run.workspace.reference_images("chair"))["generator"]
        assert told["revision"] == commits[number]
        assert told["model"] == "somebody/tiny"
        assert told["source"] == "https://huggingface.co/somebody/tiny"
    by_commit = draw(tmp_path / "commit", "somebody/tiny", revision=commits[1])
    assert nearest(by_commit, right) == 1
    with pytest.raises(ConfigError, match="neither a folder here nor at revision none in Hugging"):
        draw(tmp_path / "none", "somebody/tiny", revision="none")


def test_the_revision_of_a_folder_is_required_where_one_is_named(tmp_path):
    model = write_model_files(tmp_path / "model")
    run = toy_run(tmp_path, synthesize={"generator": "stable-diffusion", "model": str(model)})
    revision = run.generator.provenance["revision"]
    for wanted in (revision, revision[:5]):
        settings = {"generator": "stable-diffusion", "model": str(model), "revision": wanted}
        assert toy_run(tmp_path, synthesize=settings).generator.provenance["revision"] == revision
    settings["revision"] = "0" * 12
    with pytest.raises(ConfigError, match=f"is revision {revision}, expected 000000000000 as in"):
        _ = toy_run(tmp_path, synthesize=settings).generator
