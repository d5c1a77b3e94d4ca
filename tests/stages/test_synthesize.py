"""Stage synthesize is interrupted anywhere, goes on, and leaves the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pcdistill.artifacts import drawn_images
from pcdistill.capability import GeneratedImage
from pcdistill.pipeline.context import RunContext
from pcdistill.stages.synthesize import SynthesizeStage
from tests.stages.test_capability_by_hand import Crosses, Spots
from tests.stages.toy import toy_run, work

IMAGES, BATCH = 7, 3
BATCHES = [(0, 1, 2), (3, 4, 5), (6,)]


class Batches(Spots):
    """Draws several at once, which changes each a little, as rounding does in a real one."""

    batch = BATCH
    settings = {"steps": 2}  # noqa: RUF012

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.stop_at = stop_at
        self.batches: list[tuple[int, ...]] = []

    def generate_batch(self, prompt, words, seeds, on_step):
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        self.batches.append(tuple(seeds))
        made = []
        for step in (1, 2):
            on_step(step, 2)
        for seed in seeds:
            one = self(prompt, words, seed)
            rounded = one.attention + 1e-3 * len(seeds) + torch.rand(()) * 0
            made.append(GeneratedImage(one.image + len(seeds), rounded.clamp(0, 1)))
        return made


def prepared(folder: Path, generator: Spots, **settings) -> RunContext:
    run = toy_run(folder, synthesize={"images": IMAGES, **settings})
    run.generator, run.segmenter = generator, Crosses()
    return run


def result(run: RunContext) -> bytes:
    return run.workspace.reference_images("bed").read_bytes()


@pytest.fixture
def whole(tmp_path) -> bytes:
    run = prepared(tmp_path / "whole", Batches())
    work(SynthesizeStage, run, "bed")
    assert not run.workspace.drawn_images("bed").exists()
    return result(run)


@pytest.mark.parametrize("done", range(3))
def test_batches_that_were_drawn_before_an_interruption_are_kept(tmp_path, whole, done):
    first = Batches(stop_at=done)
    with pytest.raises(KeyboardInterrupt):
        work(SynthesizeStage, prepared(tmp_path, first), "bed")
    assert first.batches == BATCHES[:done]
    run = prepared(tmp_path, Batches())
    assert not run.workspace.reference_images("bed").exists()
    work(SynthesizeStage, run, "bed")
    assert run.generator.batches == BATCHES[done:]
    assert result(run) == whole
    assert not run.workspace.drawn_images("bed").exists()


@pytest.mark.parametrize("written", range(IMAGES + 1))
def test_killed_while_images_are_written(tmp_path, whole, monkeypatch, written):
    """An image is whole or not there; a batch that lacks one is drawn again as it was."""
    plain, count = drawn_images.write_tensors, 0

    def write(path, *rest):
        nonlocal count
        if count == written:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.host.1.part").write_bytes(b"half")
            raise KeyboardInterrupt
        count += 1
        plain(path, *rest)

    monkeypatch.setattr(drawn_images, "write_tensors", write)
    if written < IMAGES:
        with pytest.raises(KeyboardInterrupt):
            work(SynthesizeStage, prepared(tmp_path, Batches()), "bed")
    monkeypatch.undo()
    run = prepared(tmp_path, Batches())
    work(SynthesizeStage, run, "bed")
    kept = written // BATCH if written < IMAGES else 0
    assert run.generator.batches == BATCHES[kept:]
    assert result(run) == whole
    assert not run.workspace.drawn_images("bed").exists()


def interrupted(folder: Path, **settings) -> None:
    """Two batches of three are drawn."""
    with pytest.raises(KeyboardInterrupt):
        work(SynthesizeStage, prepared(folder, Batches(stop_at=2), **settings), "bed")


def test_images_that_were_drawn_otherwise_are_not_used(tmp_path):
    """Nor are those of another revision of the model."""
    interrupted(tmp_path, prompt="a photo of a {}")
    run = prepared(tmp_path, Batches())
    work(SynthesizeStage, run, "bed")
    assert run.generator.batches == BATCHES
    interrupted(tmp_path)
    other = Batches()
    other.settings = {"steps": 3}
    run = prepared(tmp_path, other)
    work(SynthesizeStage, run, "bed")
    assert other.batches == BATCHES


def test_images_are_used_with_another_segmenter_threshold_or_number(tmp_path):
    """They do not depend on these; a class in which nothing was found keeps its images."""
    run = prepared(tmp_path, Batches(), threshold=0.99)
    assert "lower synthesize.threshold" in work(SynthesizeStage, run, "bed")
    run = prepared(tmp_path, Batches(), threshold=0.6, images=IMAGES + 2, prompt_points=2)
    work(SynthesizeStage, run, "bed")
    assert run.generator.batches == [(6, 7, 8)]
    assert not run.workspace.drawn_images("bed").exists()


@pytest.mark.parametrize("damage", [b"", b"no safetensors", None])
def test_a_damaged_image_is_drawn_again(tmp_path, whole, damage):
    interrupted(tmp_path)
    run = prepared(tmp_path, Batches())
    file = run.workspace.drawn_images("bed") / "4.safetensors"
    file.write_bytes(file.read_bytes()[:-10] if damage is None else damage)
    work(SynthesizeStage, run, "bed")
    assert run.generator.batches == BATCHES[1:]
    assert result(run) == whole


def test_images_of_a_class_are_not_those_of_another(tmp_path):
    interrupted(tmp_path)
    run = prepared(tmp_path, Batches())
    work(SynthesizeStage, run, "door")
    assert run.generator.batches == BATCHES


def test_a_generator_of_single_images_is_resumed_too(tmp_path):
    class Stops(Spots):
        def __call__(self, prompt, words, seed):
            if seed == 4:
                raise KeyboardInterrupt
            return super().__call__(prompt, words, seed)

    with pytest.raises(KeyboardInterrupt):
        work(SynthesizeStage, prepared(tmp_path, Stops()), "bed")
    run = prepared(tmp_path, Spots())
    work(SynthesizeStage, run, "bed")
    assert [seed for _, _, seed in run.generator.asked] == [4, 5, 6]


def test_progress_is_told_in_steps_and_goes_on_where_it_was(tmp_path):
    def told(run: RunContext) -> list[tuple[int, int, str]]:
        steps = []
        stage = SynthesizeStage(run)
        stage.work(stage_task(), lambda *step: steps.append(step))
        return steps

    def stage_task():
        from pcdistill.pipeline import Task

        return Task("bed", (), "t")

    every = [3, 6, 9, 12, 13, 14]
    expected = [(done, 2 * IMAGES, "steps of images") for done in every]
    assert told(prepared(tmp_path / "whole", Batches())) == expected
    interrupted(tmp_path)
    assert told(prepared(tmp_path, Batches())) == expected[4:]
    single = told(prepared(tmp_path / "single", Spots()))
    assert single == [(number + 1, IMAGES, "images") for number in range(IMAGES)]


def test_a_model_that_draws_in_batches_is_not_loaded_by_several_processes(tmp_path):
    assert not SynthesizeStage(prepared(tmp_path, Batches())).parallel()
    assert SynthesizeStage(prepared(tmp_path, Spots())).parallel()


def test_the_disk_that_is_needed_is_that_of_the_images(tmp_path):
    run = prepared(tmp_path, Spots(), images=40)
    work(SynthesizeStage, run, "bed")
    estimate = SynthesizeStage(run).estimate("bed")
    assert 0.5 * estimate < len(result(run)) < 2 * estimate
