"""Stable Diffusion on tiny models that are read from folders as published ones are."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pcdistill.capability import (
    AttentionAccumulator,
    BatchGenerator,
    DiffusionSettings,
    SynthesisSetup,
    build_generator,
    generate_batch,
)
from pcdistill.capability.generators.cross_attention import recorded_cross_attention
from pcdistill.capability.generators.stable_diffusion import noise_seed
from pcdistill.errors import ArtifactError, ConfigError
from tests.capability.generators.tiny_diffusion import PROMPT, load_plainly, write_tiny_diffusion
from tests.capability.test_attention import enlarge_by_hand
from tests.tolerances import FLOAT32_SUMS

pytestmark = pytest.mark.thorough  # diffusers takes seconds to import

STEPS = 3
CALLS = STEPS + 1
"""PNDM asks the network once more than there are steps."""
CLASSES = {"chair": (6,), "shower curtain": (6, 7, 8, 9), "bookshelf": tuple(range(6, 14))}
"""Class -> its tokens in the prompt, of the tiny tokenizer: whole, two words, letters."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[bool, Path]:
    root = tmp_path_factory.mktemp("models")
    return {xl: write_tiny_diffusion(root / f"xl-{xl}", xl=xl) for xl in (False, True)}


def build(folder: Path, **settings):
    settings = {"steps": STEPS, **settings}
    return build_generator(
        "stable-diffusion",
        SynthesisSetup(diffusion=DiffusionSettings(model=str(folder), **settings)),
    )


def prompt_of(words: str) -> str:
    return PROMPT.replace("{}", words)


class Stored:
    """Diffusers' own pipeline with its own processors, whose every query and key is kept."""

    def __init__(self, folder: Path, xl: bool, **settings) -> None:
        self.pipeline = load_plainly(folder, xl=xl)
        self.settings = settings
        self.layers = {
            name: module
            for name, module in self.pipeline.unet.named_modules()
            if name.endswith("attn2")
        }

    def draw(self, prompt: str, seeds: list[int]):
        """Images (B, H, W, 3) uint8, and per layer and call the (B or 2 B, ...) query and key."""
        kept: dict[str, list[dict[str, torch.Tensor]]] = {name: [] for name in self.layers}
        hooks = []
        for name, layer in self.layers.items():

            def keep_query(_, __, output, name=name):
                kept[name].append({"query": output.double()})

            def keep_key(_, __, output, name=name):
                kept[name][-1]["key"] = output.double()

            hooks.append(layer.to_q.register_forward_hook(keep_query))
            hooks.append(layer.to_k.register_forward_hook(keep_key))
        images = self.pipeline(
            [prompt] * len(seeds),
            num_inference_steps=STEPS,
            guidance_scale=self.settings["guidance"],
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        ).images
        for hook in hooks:
            hook.remove()
        return (images * 255).round().astype(np.uint8), kept


def naive_maps(stored: Stored, kept, tokens, images: int, size: tuple[int, int]) -> np.ndarray:
    """Eq. 1 and 2 in float64 from everything that was stored, (B, H, W) stretched to 0 ... 1."""
    total = np.zeros((images, *size))
    count = 0
    for name, calls in kept.items():
        heads = stored.layers[name].heads
        for call in calls:
            query, key = (call[part][-images:] for part in ("query", "key"))
            count += 1
            for image in range(images):
                probabilities = 0.0
                for head in range(heads):
                    width = query.shape[-1] // heads
                    part = slice(head * width, (head + 1) * width)
                    product = query[image, :, part] @ key[image, :, part].T / width**0.5
                    exponents = np.exp(product.numpy())
                    probabilities += exponents / exponents.sum(axis=1, keepdims=True) / heads
                side = round(probabilities.shape[0] ** 0.5)
                for token in tokens:
                    values = probabilities[:, token].reshape(side, side)
                    total[image] += enlarge_by_hand(values / values.max(), size) / len(tokens)
    total /= count
    low = total.min(axis=(1, 2), keepdims=True)
    return (total - low) / (total.max(axis=(1, 2), keepdims=True) - low)


@pytest.mark.parametrize(
    ("xl", "guidance", "words"),
    [
        (False, 1.0, "shower curtain"),
        (False, 7.0, "chair"),
        (False, 7.0, "shower curtain"),
        (False, 7.0, "bookshelf"),
        (True, 1.0, "chair"),
        (True, 7.0, "shower curtain"),
    ],
)
def test_image_and_attention_are_those_of_the_plain_pipeline(folders, xl, guidance, words):
    """As drawn by diffusers' own processors, and as equations 1 and 2 say of all that is stored."""
    stored = Stored(folders[xl], xl, guidance=guidance)
    generator = build(folders[xl], guidance=guidance)
    for seeds in ([4], [0, 1, 7]):
        noise = [noise_seed(words, seed) for seed in seeds]
        images, kept = stored.draw(prompt_of(words), noise)
        assert all(len(calls) == CALLS for calls in kept.values())
        expected = naive_maps(stored, kept, CLASSES[words], len(seeds), (64, 64))
        made = generate_batch(generator, prompt_of(words), words, seeds)
        assert len(made) == len(seeds)
        for one, image, soft in zip(made, images, expected, strict=True):
            assert one.image.dtype == torch.uint8
            assert one.attention.dtype == torch.float32
            found = one.image.permute(1, 2, 0).numpy().astype(int)
            assert np.abs(found - image).max() <= 1
            assert (found != image).mean() < 0.01
            np.testing.assert_allclose(one.attention.numpy(), soft, atol=FLOAT32_SUMS, rtol=0)
            assert soft.std() > 0.05  # there is something to compare


def test_the_conditional_half_is_not_the_other(folders):
    """Otherwise the comparison above could not tell them apart."""
    stored = Stored(folders[False], False, guidance=7.0)
    _, kept = stored.draw(prompt_of("chair"), [0])
    conditional = naive_maps(stored, kept, CLASSES["chair"], 1, (64, 64))
    first = {
        name: [{part: rows[:1] for part, rows in call.items()} for call in calls]
        for name, calls in kept.items()
    }
    other = naive_maps(stored, first, CLASSES["chair"], 1, (64, 64))
    assert np.abs(conditional - other).max() > 0.1


@pytest.mark.parametrize("xl", [False, True])
def test_size_of_a_batch_changes_rounding_only(folders, xl):
    together = build(folders[xl], batch=3)
    assert isinstance(together, BatchGenerator)
    made = generate_batch(together, prompt_of("chair"), "chair", [5, 6, 7])
    for seed, one in zip((5, 6, 7), made, strict=True):
        alone = together(prompt_of("chair"), "chair", seed)
        assert (alone.image.int() - one.image.int()).abs().max() <= 1
        torch.testing.assert_close(alone.attention, one.attention, atol=FLOAT32_SUMS, rtol=0)


def test_noise_depends_on_class_and_number(folders):
    generator = build(folders[False])
    first = generator(prompt_of("chair"), "chair", 3)
    again = build(folders[False])(prompt_of("chair"), "chair", 3)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.attention, again.attention)
    assert not torch.equal(first.image, generator(prompt_of("chair"), "chair", 4).image)
    seeds = {noise_seed(words, number) for words in ("chair", "table") for number in range(50)}
    assert len(seeds) == 100


@pytest.mark.parametrize("size", [(48, 80), (64, 64), (72, 56)])
def test_images_of_another_shape(folders, size):
    made = build(folders[False], image_size=size)(prompt_of("chair"), "chair", 0)
    assert made.image.shape == (3, *size)
    assert made.attention.shape == size
    assert made.attention.min() == 0
    assert made.attention.max() == 1


def test_steps_are_told(folders):
    told = []
    generator = build(folders[False])
    generate_batch(generator, prompt_of("chair"), "chair", [0, 1], lambda *step: told.append(step))
    assert told == [(number + 1, CALLS) for number in range(CALLS)]


def test_memory_does_not_grow_with_steps(folders):
    """What the accumulator holds is a map per resolution and class token, whatever the steps."""
    held = []
    for steps in (1, 6):
        generator = build(folders[False], steps=steps)
        pipeline = generator._pipeline
        accumulator = AttentionAccumulator([6, 7], image_size=(64, 64))
        with recorded_cross_attention(pipeline.unet, accumulator, 2):
            pipeline([prompt_of("chair")] * 2, num_inference_steps=steps, output_type="latent")
        held.append({size: tuple(sums.shape) for size, sums in accumulator._sums.items()})
        assert all(
            sums.untyped_storage().nbytes() == sums.nbytes for sums in accumulator._sums.values()
        )
    assert held[0] == held[1] == {(8, 8): (2, 2, 8, 8), (4, 4): (2, 2, 4, 4)}


def test_self_attention_keeps_its_processors_and_all_have_their_own_again(folders):
    unet = build(folders[False])._pipeline.unet
    own = dict(unet.attn_processors)
    with (
        pytest.raises(KeyError),
        recorded_cross_attention(unet, AttentionAccumulator([1]), 1),
    ):
        inside = dict(unet.attn_processors)
        for name, processor in own.items():
            assert (inside[name] is processor) == name.endswith("attn1.processor")
        raise KeyError
    assert all(unet.attn_processors[name] is processor for name, processor in own.items())
    assert any(name.endswith("attn1.processor") for name in own)


def test_a_model_without_plain_cross_attention_is_refused(folders):
    unet = build(folders[False])._pipeline.unet
    layer = next(m for name, m in unet.named_modules() if name.endswith("attn2"))
    layer.norm_q = torch.nn.Identity()
    with (
        pytest.raises(ConfigError, match="attn2 of the diffusion model has norm_q, expected"),
        recorded_cross_attention(unet, AttentionAccumulator([1]), 1),
    ):
        pass
    layer.norm_q = None


def test_words_that_the_prompt_does_not_have_are_named(folders):
    with pytest.raises(ConfigError, match="does not have the words 'sofa'"):
        build(folders[False])(prompt_of("chair"), "sofa", 0)


def test_pixels_that_are_not_finite_are_no_image(folders):
    generator = build(folders[False])
    with torch.no_grad():
        generator._pipeline.vae.decoder.conv_out.bias[0] = torch.nan
    with pytest.raises(ArtifactError, match="draws pixels that are not finite, expected an image"):
        generator(prompt_of("chair"), "chair", 0)


def test_nothing_is_fetched_drawn_as_a_bar_or_warned_of(folders, capfd, caplog, monkeypatch):
    def refuse(*_):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for folder in folders.values():
        build(folder)(prompt_of("chair"), "chair", 0)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


@pytest.mark.parametrize("xl", [False, True])
def test_weights_in_half_precision_alone_are_read(folders, tmp_path, xl):
    """Published as `*.fp16.safetensors`; on a CPU they compute in single precision."""
    folder = tmp_path / "half"
    shutil.copytree(folders[xl], folder)
    for file in list(folder.rglob("*.safetensors")):
        tensors = {key: value.half() for key, value in load_file(file).items()}
        save_file(tensors, file.with_name(f"{file.stem}.fp16.safetensors"), {"format": "pt"})
        file.unlink()
    whole, half = (build(place)(prompt_of("chair"), "chair", 0) for place in (folders[xl], folder))
    difference = (whole.image.int() - half.image.int()).abs().float()
    assert 0 < difference.mean() < 3
    assert half.attention.dtype == torch.float32


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("unet/diffusion_pytorch_model", "conv_in.bias"),
        ("vae/diffusion_pytorch_model", "decoder.conv_out.bias"),
        ("text_encoder/model", None),
    ],
)
def test_a_file_without_some_weights_is_refused(folders, tmp_path, part, key):
    """Libraries fill them with random numbers and warn."""
    folder = tmp_path / "short"
    shutil.copytree(folders[False], folder)
    file = folder / f"{part}.safetensors"
    tensors = load_file(file)
    tensors.pop(key or next(name for name in tensors if name.endswith("final_layer_norm.bias")))
    save_file(tensors, file, {"format": "pt"})
    name = part.partition("/")[0]
    with pytest.raises(ArtifactError, match=rf"{name}: lacks 1 weights, such as .*, expected all"):
        build(folder)(prompt_of("chair"), "chair", 0)


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "text_encoder/model"])
def test_a_damaged_file_is_one_sentence(folders, tmp_path, part):
    folder = tmp_path / "damaged"
    shutil.copytree(folders[False], folder)
    file = folder / f"{part}.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"cannot be read \(.*\); fetch the model again$"):
        build(folder)(prompt_of("chair"), "chair", 0)


def test_a_scheduler_that_diffusers_does_not_have_is_named(folders, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(folders[False], folder)
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("NoScheduler", "UNet2DConditionModel"):
        index["scheduler"] = ["diffusers", name]
        (folder / "model_index.json").write_text(json.dumps(index))
        with pytest.raises(ConfigError, match=f"its scheduler is '{name}', expected one of"):
            build(folder)(prompt_of("chair"), "chair", 0)


@pytest.mark.parametrize("xl", [False, True])
def test_half_precision_is_near_to_single(folders, xl):
    """As on a GPU, which computes the same but for rounding."""
    half = build(folders[xl])
    assert half.precision == torch.float32
    half.precision = torch.float16
    for seed, one in enumerate(generate_batch(half, prompt_of("chair"), "chair", [0, 1])):
        alone = build(folders[xl])(prompt_of("chair"), "chair", seed)
        assert one.attention.dtype == torch.float32
        assert 0 < (one.image.float() - alone.image.float()).abs().mean() < 3
        assert (one.attention - alone.attention).abs().mean() < 0.05
    assert half._pipeline.unet.dtype == half._pipeline.text_encoder.dtype == torch.float16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("xl", [False, True])
def test_half_precision_on_a_gpu(folders, xl):
    settings = DiffusionSettings(model=str(folders[xl]), steps=STEPS)
    setup = SynthesisSetup(device=torch.device("cuda"), diffusion=settings)
    generator = build_generator("stable-diffusion", setup)
    made = generate_batch(generator, prompt_of("chair"), "chair", [0, 1])
    assert generator._pipeline.unet.dtype == torch.float16
    for seed, one in enumerate(made):
        alone = build(folders[xl])(prompt_of("chair"), "chair", seed)
        assert one.image.device.type == one.attention.device.type == "cpu"
        assert (one.image.float() - alone.image.float()).abs().mean() < 3
        assert (one.attention - alone.attention).abs().mean() < 0.05
