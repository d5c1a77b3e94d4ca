"""Stage synthesize with a Segment Anything network that is read as a user's is."""

from __future__ import annotations

import torch

from pcdistill.artifacts.capability import load_reference_images
from pcdistill.capability import GeneratedImage, SynthesisSetup, build_segmenter, prompt_points
from pcdistill.pipeline.artifact_files import read_provenance
from pcdistill.stages.synthesize import SynthesizeStage
from pcdistill.teachers import WEIGHT_FILES, WeightStore
from tests.fixtures.segment_anything_models import save_tiny_sam
from tests.stages.toy import toy_run, work

SIZE = (30, 44)


class Noise:
    """Pictures of noise, of which the map says that the class is everywhere."""

    name = "noise"
    image_size = SIZE
    settings = {}  # noqa: RUF012
    provenance = {"revision": "1"}  # noqa: RUF012

    def unsupported_categories(self, prompt, categories):
        return ()

    def __call__(self, prompt, words, seed):
        torch.manual_seed(seed)
        image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
        return GeneratedImage(image, torch.ones(SIZE))


def test_masks_are_those_of_the_network_that_the_run_names(tmp_path):
    """And the artefact says which; with other weights the unit is stale."""
    points = prompt_points(torch.ones(SIZE, dtype=torch.bool), 3, mode="inside")
    drawn = Noise()("", "", 0)
    for seed in range(20):  # random weights of which the first mask fills half of the image
        save_tiny_sam(tmp_path, "sam_vit_l_0b3195.pth", seed=seed)
        store = WeightStore(tmp_path)
        expected = build_segmenter("sam-vit-l", SynthesisSetup(store))(drawn.image, points)
        if 0.5 < float(expected.float().mean()) < 0.95:
            break
    sections = {
        "run": {"weights_folder": str(tmp_path)},
        "synthesize": {"segmenter": "sam-vit-l", "images": 1},
    }
    run = toy_run(tmp_path, **sections)
    run.generator = Noise()
    work(SynthesizeStage, run, "bed")
    _, masks = load_reference_images(run.workspace, "bed")
    assert torch.equal(masks[0], expected)
    told = read_provenance(run.workspace.reference_images("bed"))["segmenter"]
    assert told == {
        "name": "sam-vit-l",
        "weights": "sam_vit_l_0b3195.pth",
        "revision": store.revision("sam-vit-l"),
        "licence": "Apache-2.0",
        "training": "SA-1B",
        "source": WEIGHT_FILES["sam-vit-l"].address,
    }
    before = SynthesizeStage(run).settings("bed")
    save_tiny_sam(tmp_path, "sam_vit_l_0b3195.pth", seed=99)
    assert SynthesizeStage(toy_run(tmp_path, **sections)).settings("bed") != before
