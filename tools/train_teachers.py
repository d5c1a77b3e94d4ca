"""Train the two embedded teachers on rendered homes and write their weights into the package.

    python tools/train_teachers.py render --cache .cache/teachers     # pictures with labels
    python tools/train_teachers.py dense  --cache .cache/teachers
    python tools/train_teachers.py masks  --cache .cache/teachers

Both see only homes of the `teacher` split and pictures of single objects. They are good at
different classes because each is told the names of some classes only; pixels of the others carry
no label and teach it nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.homes import (
    CLASSES,
    MATERIALS,
    build_home,
    camera_walk,
    object_picture,
    pinhole,
    render,
)
from pcdistill.teachers import StaticTextEncoder
from pcdistill.teachers.embedded import TEMPERATURE
from pcdistill.teachers.embedded_network import (
    EmbeddedNetwork,
    NetworkShape,
    prepare_images,
    save_network,
)

WEIGHTS = Path(__file__).resolve().parents[1] / "pcdistill" / "teachers" / "weights"
PICTURE_SIZE = (240, 320)
STORED_SIZE = (120, 160)
UNLABELLED = 255

DENSE_CLASSES = [
    *("wall", "floor", "ceiling", "window", "door", "curtain", "picture"),
    *("bed", "sofa", "chair", "table", "cabinet", "counter"),
]
"""Structure and large furniture: what the dense teacher is told."""
MASK_CLASSES = [
    *("wall", "floor", "bed", "sofa", "chair", "table", "desk", "bookshelf", "cabinet"),
    *("refrigerator", "toilet", "sink", "bathtub", "shower curtain"),
]
"""Objects: what the teacher of masks is told."""

PHRASES = {
    "sofa": ("sofa", "couch"),
    "bed": ("bed", "a place to sleep"),
    "cabinet": ("cabinet", "cupboard"),
    "picture": ("picture", "painting"),
    "counter": ("counter", "kitchen counter"),
    "curtain": ("curtain", "curtains"),
    "chair": ("chair", "seat"),
}
TEMPLATES = ("{}", "a {}", "the {}")


def main() -> None:
    """Carry out one of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("render", "dense", "masks"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/teachers"))
    parser.add_argument("--homes", type=int, default=80)
    parser.add_argument("--views", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=80, help="single-object pictures per class")
    parser.add_argument("--minutes", type=float, default=10.0, help="training time")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.step == "render":
        render_pictures(arguments)
    elif arguments.step == "dense":
        train_dense(arguments.cache, arguments.minutes * 60)
    else:
        train_masks(arguments.cache, arguments.minutes * 60)


def _home_pictures(task: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    seed, views = task
    home = build_home(seed, "teacher")
    found = []
    for number, pose in enumerate(camera_walk(home, views, seed)):
        camera = pinhole(PICTURE_SIZE, 70.0)
        view = render(home.surface, pose, camera, PICTURE_SIZE, seed=seed * 1000 + number)
        found.append((view.image.numpy(), view.classes.numpy(), view.materials.numpy()))
    return _stored(found)


def _object_pictures(task: tuple[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    category, count = task
    found = []
    for seed in range(count):
        picture = object_picture(category, seed + 500_000, image_size=PICTURE_SIZE)
        view = picture.rendering
        found.append((view.image.numpy(), view.classes.numpy(), view.materials.numpy()))
    return _stored(found)


def _stored(views: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images = torch.from_numpy(np.stack([v[0] for v in views])).permute(0, 3, 1, 2).float()
    small = functional.interpolate(images, STORED_SIZE, mode="area").round().byte().numpy()
    labels = np.stack([v[1][1::2, 1::2] for v in views]).astype(np.uint8)
    materials = np.stack([v[2][1::2, 1::2] for v in views]).astype(np.uint8)
    return small, labels, materials


def render_pictures(arguments: argparse.Namespace) -> None:
    """Render rooms and single objects into `<cache>/{rooms,objects}.npz`."""
    arguments.cache.mkdir(parents=True, exist_ok=True)
    jobs = {
        "objects": (_object_pictures, [(c, arguments.pictures) for c in CLASSES]),
        "rooms": (_home_pictures, [(seed, arguments.views) for seed in range(arguments.homes)]),
    }
    context = multiprocessing.get_context("spawn")
    for name, (function, tasks) in jobs.items():
        begin = time.perf_counter()
        with context.Pool(arguments.jobs) as pool:
            parts = list(pool.imap(function, tasks))
        images, labels, materials = (np.concatenate(part) for part in zip(*parts, strict=True))
        np.savez(arguments.cache / f"{name}.npz", images=images, labels=labels, materials=materials)
        print(f"{name}: {len(images)} pictures in {time.perf_counter() - begin:.0f} s")


def load(cache: Path, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Images (n, 3, H, W) uint8, labels and materials (n, H, W) uint8 of one set."""
    with np.load(cache / f"{name}.npz") as archive:
        return tuple(torch.from_numpy(archive[k]) for k in ("images", "labels", "materials"))


def renumber(labels: Tensor, known: list[str]) -> Tensor:
    """Labels as positions in `known`, everything else unlabelled."""
    table = torch.full((256,), UNLABELLED, dtype=torch.uint8)
    for position, name in enumerate(known):
        table[CLASSES.index(name)] = position
    return table[labels.long()]


def augment(images: Tensor, *maps: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Crop, mirror and re-colour a batch (B, 3, H, W) float together with its label maps."""
    height, width = images.shape[2:]
    scale = 0.55 + 0.45 * float(torch.rand((), generator=generator))
    h, w = int(height * scale), int(width * scale)
    top = int(torch.randint(height - h + 1, (), generator=generator))
    left = int(torch.randint(width - w + 1, (), generator=generator))
    images = functional.interpolate(
        images[:, :, top : top + h, left : left + w], (height, width), mode="bilinear"
    )
    cut = [
        functional.interpolate(
            m[:, None, top : top + h, left : left + w].float(), (height, width), mode="nearest"
        )[:, 0].to(m.dtype)
        for m in maps
    ]
    if torch.rand((), generator=generator) < 0.5:
        images, cut = images.flip(3), [m.flip(2) for m in cut]
    gain = 1 + 0.3 * (torch.rand(len(images), 1, 1, 1, generator=generator) - 0.5)
    tint = 1 + 0.12 * (torch.rand(len(images), 3, 1, 1, generator=generator) - 0.5)
    noise = 0.02 * torch.randn(images.shape, generator=generator)
    return ((images + 1) * gain * tint - 1 + noise, *cut)


def class_weights(labels: Tensor, count: int) -> Tensor:
    """Weight of each class, the inverse square root of its share of the pixels, mean 1."""
    pixels = torch.bincount(labels[labels != UNLABELLED].long(), minlength=count).float()
    weights = 1 / (pixels / pixels.sum()).clamp(min=1e-4).sqrt()
    return weights / weights.mean()


def text_table(encoder: StaticTextEncoder, known: list[str], generator: torch.Generator) -> Tensor:
    """One randomly phrased embedding (K, D) per class."""
    texts = []
    for name in known:
        phrases = PHRASES.get(name, (name,))
        phrase = phrases[int(torch.randint(len(phrases), (), generator=generator))]
        template = TEMPLATES[int(torch.randint(len(TEMPLATES), (), generator=generator))]
        texts.append(template.format(phrase))
    return encoder.encode(texts)


def fit(network: EmbeddedNetwork, sets: list, loss_of, seconds: float, batch: int) -> int:
    """Train for about `seconds`; `sets` are (images, maps..., share of each batch)."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
    network.train().to(memory_format=torch.channels_last)
    begin, step, shown = time.perf_counter(), 0, 0.0
    while (spent := (time.perf_counter() - begin) / seconds) < 1:
        rate = 3e-3 * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * spent))
        for group in optimizer.param_groups:
            group["lr"] = rate
        parts = []
        for *tensors, share in sets:
            count = max(1, round(batch * share))
            chosen = torch.randint(len(tensors[0]), (count,), generator=generator)
            images = prepare_images(tensors[0][chosen], tuple(tensors[0].shape[2:]))
            parts.append(augment(images, *(t[chosen] for t in tensors[1:]), generator=generator))
        images, *maps = (torch.cat(p) for p in zip(*parts, strict=True))
        images = functional.interpolate(images, network.shape.input_size, mode="area")
        with torch.autocast("cpu", torch.bfloat16):
            output = network(images.contiguous(memory_format=torch.channels_last))
        loss = loss_of(output.float(), *maps, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        now = float(loss.detach())
        shown = now if step == 1 else 0.98 * shown + 0.02 * now
        if step % 200 == 0:
            print(f"step {step} {100 * spent:.0f} % loss {shown:.3f}", flush=True)
    return step


def shrink(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour resize of (B, H, W) label maps to `size`, int64."""
    return functional.interpolate(maps[:, None].float(), size, mode="nearest-exact")[:, 0].long()


def finish(network: EmbeddedNetwork, name: str, details: dict) -> None:
    """Write the weights, stamped with a hash of themselves."""
    network.eval().to(memory_format=torch.contiguous_format)
    digest = hashlib.sha256()
    for _, value in sorted(network.state_dict().items()):
        digest.update(value.numpy().tobytes())
    details |= {"revision": digest.hexdigest()[:12], "licence": "Apache-2.0"}
    path = WEIGHTS / f"{name}.safetensors"
    save_network(path, network, details)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {details}")


def train_dense(cache: Path, seconds: float) -> None:
    """Per-pixel features in the text space, from views of whole rooms."""
    torch.manual_seed(1)
    encoder = StaticTextEncoder()
    shape = NetworkShape((24, 48, 96, 144), encoder.dimensions, (120, 160))
    network = EmbeddedNetwork(shape)
    images, labels, _ = load(cache, "rooms")
    labels = renumber(labels, DENSE_CLASSES)
    weights = class_weights(labels, len(DENSE_CLASSES))

    def loss_of(output: Tensor, maps: Tensor, generator: torch.Generator) -> Tensor:
        target = shrink(maps, tuple(output.shape[2:]))
        table = text_table(encoder, DENSE_CLASSES, generator)
        features = functional.normalize(output, dim=1)
        scores = torch.einsum("bdhw,kd->bkhw", features, table)
        labelled = target != UNLABELLED
        agreement = scores.gather(1, target.clamp(max=len(table) - 1)[:, None])[:, 0]
        cross = functional.cross_entropy(
            scores / TEMPERATURE, target, weights, ignore_index=UNLABELLED
        )
        return cross + (1 - agreement[labelled]).mean()

    steps = fit(network, [(images, labels, 1.0)], loss_of, seconds, 16)
    told = ", ".join(DENSE_CLASSES)
    details = {
        "labels": list(DENSE_CLASSES),
        "training": f"{steps} steps on rendered rooms, told {told}",
    }
    finish(network, "dense", details)


def train_masks(cache: Path, seconds: float) -> None:
    """A label and a material for every pixel at low resolution, mostly from single objects."""
    torch.manual_seed(2)
    shape = NetworkShape((24, 48, 96, 128), len(MASK_CLASSES) + len(MATERIALS), (72, 96))
    network = EmbeddedNetwork(shape)
    sets = []
    for name, share in (("objects", 0.6), ("rooms", 0.4)):
        images, labels, materials = load(cache, name)
        sets.append((images, renumber(labels, MASK_CLASSES), materials, share))
    weights = class_weights(torch.cat([s[1] for s in sets]), len(MASK_CLASSES))
    known = len(MASK_CLASSES)

    def loss_of(output: Tensor, maps: Tensor, stuff: Tensor, generator: torch.Generator) -> Tensor:
        target, material = (shrink(m, tuple(output.shape[2:])) for m in (maps, stuff))
        label_loss = functional.cross_entropy(
            output[:, :known], target, weights, ignore_index=UNLABELLED
        )
        material_loss = functional.cross_entropy(
            output[:, known:], material, ignore_index=UNLABELLED
        )
        return label_loss + 0.2 * material_loss

    steps = fit(network, sets, loss_of, seconds, 24)
    told = ", ".join(MASK_CLASSES)
    details = {
        "labels": list(MASK_CLASSES),
        "materials": list(MATERIALS),
        "training": f"{steps} steps on rendered objects and rooms, told {told}",
    }
    finish(network, "masks", details)


if __name__ == "__main__":
    main()
