"""A diffusion model is looked for on this machine only, and what is not whole is refused."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from pcdistill.capability import DiffusionSettings, SynthesisSetup, build_generator
from pcdistill.capability.generators import diffusers_package, stable_diffusion
from pcdistill.capability.generators.diffusion_folder import MODELS, open_diffusion_folder
from pcdistill.errors import ArtifactError, ConfigError, MissingExtraError
from pcdistill.teachers import WEIGHT_FILES, WeightStore
from tests.capability.generators.tiny_diffusion import model_index, write_model_files

STORE = WeightStore(Path("/nowhere"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_model_files(tmp_path / "model")


def change(file: Path, **values) -> None:
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_what_is_read_of_a_folder(folder):
    """Other weights beside these, as the hub has them, are neither read nor hashed."""
    found = open_diffusion_folder(str(folder), None, STORE)
    assert found.native_size == (64, 64)
    assert found.encoders == ("text_encoder",)
    assert found.half == frozenset()
    assert found.provenance["model"] == "model"
    before = found.revision
    for name in (
        *("unet/diffusion_pytorch_model.fp16.safetensors", "v1-5-pruned.ckpt", "README.md"),
        *("unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.bin"),
    ):
        (folder / name).write_bytes(b"more")
    assert open_diffusion_folder(str(folder), None, STORE).revision == before
    for name in (
        *("unet/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer/vocab.json"),
        *("model_index.json", "scheduler/scheduler_config.json", "text_encoder/model.safetensors"),
    ):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert open_diffusion_folder(str(folder), None, STORE).revision != before, name
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("size", [16, [8, 12]])
def test_size_of_the_images_it_was_trained_for(folder, size):
    change(folder / "unet" / "config.json", sample_size=size)
    sides = (128, 128) if size == 16 else (64, 96)
    assert open_diffusion_folder(str(folder), None, STORE).native_size == sides


def test_weights_in_several_files_and_in_half_precision(folder):
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole.rename(whole.with_name("diffusion_pytorch_model-00001-of-00001.safetensors"))
    index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00001.safetensors"}}
    place = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    place.write_text(json.dumps(index))
    half = folder / "vae" / "diffusion_pytorch_model.safetensors"
    half.rename(half.with_name("diffusion_pytorch_model.fp16.safetensors"))
    found = open_diffusion_folder(str(folder), None, STORE)
    assert found.half == {"vae"}
    names = {file.name for file in found.files}
    assert {"diffusion_pytorch_model-00001-of-00001.safetensors", place.name} <= names
    index["weight_map"]["b"] = "gone.safetensors"
    place.write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"has no unet/gone.safetensors, expected a whole"):
        open_diffusion_folder(str(folder), None, STORE)


@pytest.mark.parametrize("name", MODELS)
def test_published_models_are_folders_that_are_fetched_by_a_command(tmp_path, name):
    known = WEIGHT_FILES[name]
    with pytest.raises(ConfigError) as caught:
        open_diffusion_folder(name, None, WeightStore(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / known.file_name}: the weights '{name}' are not there")
    assert f"pcdistill weights fetch {name}" in message
    assert known.address in message
    assert message.endswith(f"or name the folder in run.weights.{name}")


@pytest.mark.parametrize("given", [False, True])
def test_a_published_model_has_its_license(tmp_path, given):
    folder = write_model_files(tmp_path / "stable-diffusion-v1-5")
    store = WeightStore("/nowhere", {MODELS[0]: folder}) if given else WeightStore(tmp_path)
    found = open_diffusion_folder(MODELS[0], None, store)
    assert found.provenance["licence"] == "CreativeML OpenRAIL-M"
    assert found.provenance["model"] == MODELS[0]
    assert found.revision == store.revision(MODELS[0])  # which `pcdistill weights verify` says


def test_parts_of_the_xl_model_are_all_that_is_read(tmp_path):
    """What the command fetches is what is opened."""
    for name, xl in ((MODELS[0], False), (MODELS[1], True)):
        known = WEIGHT_FILES[name]
        folder = tmp_path / known.file_name
        configs = {
            "model_index.json": model_index(xl=xl),
            "unet/config.json": {"in_channels": 4, "sample_size": 128 if xl else 64},
            "vae/config.json": {"block_out_channels": [1, 2, 3, 4]},
        }
        for part in known.parts:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / part).write_text(json.dumps(configs.get(part, {})))
        found = open_diffusion_folder(name, None, WeightStore(tmp_path))
        assert {str(file.relative_to(folder)) for file in found.files} == set(known.parts)
        assert found.native_size == ((1024, 1024) if xl else (512, 512))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "sd15",
            "synthesize.model is 'sd15', which is no folder here; expected stable-diffusion-1",
        ),
        ("/no/such/folder", "is '/no/such/folder', which is no folder here; expected stable-diff"),
        (
            "me/model",
            r"neither a folder here nor in Hugging Face's cache; get it from "
            r"https://huggingface.co/me/model, such as by `hf download me/model`, or give",
        ),
    ],
)
def test_a_model_that_is_not_here_is_named(tmp_path, monkeypatch, name, sentence):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=sentence):
        open_diffusion_folder(name, None, STORE)


@pytest.mark.parametrize(
    "part",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ],
)
def test_a_part_that_is_missing_is_named(folder, part):
    (folder / part).unlink()
    with pytest.raises(ConfigError, match=rf"has no {part.split('/')[0]}.*, expected a whole diff"):
        open_diffusion_folder(str(folder), None, STORE)


def test_a_folder_without_a_tokenizer_is_refused(folder):
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match="has no tokenizer/vocab.json"):
        open_diffusion_folder(str(folder), None, STORE)


@pytest.mark.parametrize("kind", ["FluxPipeline", "StableDiffusionInpaintPipeline", None])
def test_another_kind_of_model_is_refused(folder, kind):
    change(folder / "model_index.json", _class_name=kind)
    with pytest.raises(ConfigError, match=f"is a {kind}, expected StableDiffusionPipeline or"):
        open_diffusion_folder(str(folder), None, STORE)


def test_a_network_for_filling_in_is_refused(folder):
    change(folder / "unet" / "config.json", in_channels=9)
    with pytest.raises(ConfigError, match="its UNet takes 9 channels, expected the 4 of"):
        open_diffusion_folder(str(folder), None, STORE)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("unet/config.json", "{", r"unet/config.json: is not JSON \(.*\); fetch the model again"),
        ("model_index.json", "\ud800", "model_index.json: is not JSON"),
        ("unet/config.json", "{}", "its configurations lack 'in_channels', expected those of diff"),
        ("vae/config.json", "{}", "its configurations lack 'block_out_channels'"),
    ],
)
def test_a_damaged_configuration_is_named(folder, file, content, sentence):
    (folder / file).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ArtifactError, match=sentence):
        open_diffusion_folder(str(folder), None, STORE)


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_a_missing_package_is_named_before_the_model_is_looked_for(monkeypatch, package):
    plain = diffusers_package.find_spec
    monkeypatch.setattr(
        diffusers_package, "find_spec", lambda name: None if name == package else plain(name)
    )
    setup = SynthesisSetup(diffusion=DiffusionSettings(model="/no/such/folder"))
    sentence = rf"generator 'stable-diffusion' needs diffusers \({package} is not installed\); "
    with pytest.raises(MissingExtraError, match=sentence + "install it with pip install 'pcdistil"):
        build_generator("stable-diffusion", setup)


def test_looking_at_a_model_loads_nothing(folder, monkeypatch):
    monkeypatch.setattr(stable_diffusion, "load_pipeline", None)
    setup = SynthesisSetup(diffusion=DiffusionSettings(model=str(folder)))
    generator = build_generator("stable-diffusion", setup)
    assert generator.image_size == (64, 64)
    assert generator.settings["model_revision"] == generator.provenance["revision"]
    assert generator.unsupported_categories("a {}", ["anything"]) == ()
