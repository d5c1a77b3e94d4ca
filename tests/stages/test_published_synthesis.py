"""Stages synthesize and score with a Stable Diffusion and a SAM that are read as a user's are."""

from __future__ import annotations

import pytest
import torch

from pcdistill.artifacts import load_reference_facts, load_reference_views
from pcdistill.pipeline import read_json, read_provenance
from pcdistill.stages.score import ScoreStage
from pcdistill.stages.synthesize import SynthesizeStage
from tests.capability.generators.tiny_diffusion import write_tiny_diffusion
from tests.fixtures.segment_anything_models import save_tiny_sam
from tests.stages.toy import TEACHERS, VOCABULARY, toy_run, work

pytestmark = pytest.mark.thorough  # diffusers takes seconds to import


def test_tiny_models_from_disk_make_a_table_of_capabilities(tmp_path):
    """The weights are random; a heat map that is cut low agrees with a mask of most of an image."""
    model = write_tiny_diffusion(tmp_path / "model")
    for seed in range(20):
        save_tiny_sam(tmp_path, "sam_vit_h_4b8939.pth", seed=seed)
        run = toy_run(
            tmp_path / str(seed),
            run={"weights_folder": str(tmp_path)},
            synthesize={
                "generator": "stable-diffusion",
                "model": str(model),
                "steps": 2,
                "segmenter": "sam-vit-h",
                "images": 2,
                "threshold": 0.05,
                "clean_border": True,
            },
        )
        said = [work(SynthesizeStage, run, word) for word in VOCABULARY]
        facts = [load_reference_facts(run.workspace, word) for word in VOCABULARY]
        if all(one.kept for one in facts):
            break
    assert all("images, masks cover" in line for line in said)
    for word, one in zip(VOCABULARY, facts, strict=True):
        views = load_reference_views(run.workspace, word)
        assert views.images.shape == (one.kept, 3, 64, 64)
        assert one.drawn == 2
        covered = views.masks.float().mean(dim=(1, 2))
        assert bool((covered > 0.2).all())
        told = read_provenance(run.workspace.reference_images(word))
        assert told["segmenter"]["name"] == "sam-vit-h"
        assert told["generator"]["name"] == "stable-diffusion"
        assert told["generator"]["revision"]
    for teacher in TEACHERS:
        work(ScoreStage, run, teacher)
        scores = read_json(run.workspace.capability(teacher))["capability"]
        assert list(scores) == sorted(VOCABULARY)
        assert all(0 <= score <= 1 for score in scores.values())
    assert max(torch.tensor(list(scores.values()))) > 0
