"""TAP against the official code's outputs, its files, and captions of masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.teachers import StaticTextEncoder, TeacherSetup, WeightStore
from pcdistill.teachers.captions import build_captioner
from pcdistill.teachers.captions.tap import TapDescriber
from pcdistill.teachers.captions.tap.describer import region_prompts
from pcdistill.teachers.captions.tap.network import Tap, TapSizes, pad_image, read_sizes
from tests.conftest import golden_cases, load_npz
from tests.teachers.captions.made_files import write_vocabulary, write_weights

ATOL = 1e-3  # that the reference states
LENGTH = 12  # positions of the reduced text decoder
REDUCED = golden_cases("teachers/tap_reduced_io.npz")


@pytest.fixture(scope="module", params=REDUCED)
def case(request):
    return load_npz(request.param)


@pytest.fixture(scope="module")
def weights(case):
    (file,) = golden_cases("teachers/tap_reduced_weights.npz")
    return load_npz(file.values[0])


@pytest.fixture(scope="module")
def network(weights):
    state = {key: torch.from_numpy(value) for key, value in weights.items()}
    built = Tap(read_sizes(state), LENGTH)
    built.load_state_dict(state, strict=True)
    return built.eval().requires_grad_(False)


def close(found, expected):
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=ATOL)


def rgb(case):
    return torch.from_numpy(case["image_bgr_uint8"]).permute(2, 0, 1).flip(0)


def test_images_are_fitted_and_padded(case):
    padded, scale = pad_image(rgb(case), 128)
    assert torch.equal(padded, torch.from_numpy(case["batch_uint8"])[0])
    assert scale == pytest.approx(case["im_info"][0, 2])


def test_a_portrait_and_a_square_fill_the_square():
    for height, width in ((60, 40), (50, 50), (40, 60)):
        image = torch.full((3, height, width), 200, dtype=torch.uint8)
        padded, scale = pad_image(image, 32)
        assert scale == 32 / max(height, width)
        assert int((padded == 200).all(dim=2).sum()) == round(height * scale) * round(width * scale)


def test_the_image_encoder(network, case):
    close(network.encode_image(torch.from_numpy(case["batch_uint8"])), case["image_embedding"])


def test_regions(network, case):
    points = torch.from_numpy(case["points_scaled"])
    prompts = network.prompt_encoder(points)
    close(prompts, case["sparse_embeds"])
    grid = network.prompt_encoder.grid(8, 8)
    close(grid, case["img_pos"])
    regions = network.image_decoder(torch.from_numpy(case["image_embedding"]), prompts, grid)
    close(regions.scores, case["iou_pred"])
    close(regions.tokens[:, :, None], case["sem_tokens"])
    close(network.image_decoder.masks(regions), case["mask_pred"])
    close(network.image_decoder.embeddings(regions), case["sem_embeds"])


def test_the_answer_with_the_best_mask_but_never_the_first_is_chosen(network, case):
    features = torch.from_numpy(case["image_embedding"])
    chosen = network.best_tokens(features, torch.from_numpy(case["points_scaled"]))
    selected = torch.from_numpy(case["selected_mask"])
    assert (selected > 0).all()
    expected = torch.from_numpy(case["sem_tokens"])[torch.arange(len(selected)), selected, 0]
    torch.testing.assert_close(chosen, expected, rtol=0, atol=ATOL)
    close(network.text_decoder.encoder(chosen)[:, None], case["text_prompt"])


def test_tokens_are_exact(network, case):
    tokens = network.write(
        network.best_tokens(
            torch.from_numpy(case["image_embedding"]), torch.from_numpy(case["points_scaled"])
        )
    )
    assert tokens.tolist() == case["tokens"].tolist()
    random = network.write(torch.from_numpy(case["random_visual_tokens"])[:, 0])
    assert random.tolist() == case["random_visual_tokens_out"].tolist()


def test_first_step_scores(network, case):
    decoder = network.text_decoder
    words = decoder.transformer.tok_embeddings(torch.ones(3, 1, dtype=torch.int64))
    prompt = torch.from_numpy(case["text_prompt"])
    rotation = decoder.angles(torch.device("cpu"))[:2]
    scores, _ = decoder.step(torch.cat([prompt, words], dim=1), rotation, [None, None])
    close(scores[:, case["vocab_rows_nonzero"]], case["first_step_logits_at_rows"])


@pytest.mark.parametrize("file", golden_cases("teachers/tap_manifest_full.json"))
def test_the_full_size_has_the_keys_and_shapes_of_the_official_checkpoint(file):
    listed = {key: tuple(shape) for key, (shape, _) in json.loads(file.read_text())["keys"].items()}
    with torch.device("meta"):
        sizes = read_sizes({key: torch.empty(shape) for key, shape in listed.items()})
        full = Tap(sizes).state_dict()
    assert len(listed) == 817
    assert {key: tuple(value.shape) for key, value in full.items()} == listed
    assert sizes == TapSizes(32, 1280, 16, 16, 16, 1024, 256, 1024, 12, 512, 32000)


@pytest.mark.parametrize("file", golden_cases("teachers/captions_paint.npz"))
def test_points_of_masks_are_those_of_the_release(file):
    stored = load_npz(file)
    mask_ids = torch.from_numpy(stored["pano_seg"]) - 1
    prompts = region_prompts(mask_ids, len(stored["tap_points"]))
    assert torch.equal(prompts, torch.from_numpy(stored["tap_points"]))
    empty = region_prompts(torch.full((4, 5), -1), 1)
    assert empty.tolist() == [[[0, 0, 1], [0, 0, 4]]]


@pytest.fixture
def setup(tmp_path, weights):
    write_weights(tmp_path / "tap_vit_h_v1_1.pkl", weights)
    write_vocabulary(tmp_path / "text_tokenizer.model", 32000)
    return TeacherSetup(StaticTextEncoder(), WeightStore(tmp_path), captioner="tap")


def masks_at(case):
    """Single pixels where the reference has its points, and a region without pixels."""
    mask_ids = torch.full(case["image_bgr_uint8"].shape[:2], -1, dtype=torch.int32)
    for number, (x, y) in enumerate(case["points"][:, 0, :2].astype(int)):
        mask_ids[y, x] = number
    return mask_ids


def test_masks_are_described_from_the_files_of_the_release(setup, case):
    describer = TapDescriber(setup)
    texts = describer.describe(rgb(case), masks_at(case), 4)
    assert len(texts) == 4
    assert texts[3] == ""
    expected = [" ".join(f"w{token}" for token in row[1:10]) for row in case["tokens"].tolist()]
    for text, start in zip(texts, expected, strict=False):
        assert text.startswith(start)
    assert describer.provenance["weights"] == "tap_vit_h_v1_1.pkl"


def test_many_prompts_are_taken_in_parts(setup, case, monkeypatch):
    whole = TapDescriber(setup).describe(rgb(case), masks_at(case), 4)
    monkeypatch.setattr("pcdistill.teachers.captions.tap.describer.PROMPTS_AT_ONCE", 2)
    assert TapDescriber(setup).describe(rgb(case), masks_at(case), 4) == whole


def test_the_captioner_of_a_run_joins_texts_and_labels(setup, case):
    labels = ("sofa", "oven", "bed", "door")
    paper = build_captioner(setup)
    release = build_captioner(setup._replace(caption_wording="release"))
    texts = paper(rgb(case), masks_at(case), labels)
    assert all(label in text for label, text in zip(labels, texts, strict=True))
    assert texts[3] == "a door"
    assert release(rgb(case), masks_at(case), labels)[1] == "a oven in a scene"
    assert paper.provenance["revision"].endswith(" paper")


def test_the_vocabulary_has_to_be_that_of_the_weights(setup, case, tmp_path):
    write_vocabulary(tmp_path / "text_tokenizer.model", 30)
    with pytest.raises(ArtifactError, match="32000 tokens, but run.weights.tap-tokenizer gives 30"):
        TapDescriber(setup).describe(rgb(case), masks_at(case), 1)


def test_another_checkpoint_is_refused_in_one_sentence(setup, case, weights, tmp_path):
    one_less = {key: value for key, value in weights.items() if "iou_token" not in key}
    for other in ({"a": np.zeros(3)}, one_less):
        write_weights(tmp_path / "tap_vit_h_v1_1.pkl", other)
        with pytest.raises(ArtifactError, match=r"^[^\n]*not a checkpoint of TAP[^\n]*$"):
            TapDescriber(setup).describe(rgb(case), masks_at(case), 1)


def test_a_missing_file_is_told_with_its_address(setup, tmp_path):
    (tmp_path / "text_tokenizer.model").unlink()
    with pytest.raises(ConfigError, match=r"text_tokenizer.model: .* not there; .*baaivision"):
        TapDescriber(setup)
