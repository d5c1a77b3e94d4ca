"""Training of the two embedded teachers on rendered homes; writes their weights.

    python tools/train_teachers.py all --cache .cache/teachers   # the three steps below
    python tools/train_teachers.py render --cache .cache/teachers     # pictures with labels
    python tools/train_teachers.py dense  --cache .cache/teachers
    python tools/train_teachers.py masks  --cache .cache/teachers

Both see only homes and pictures of the collection `teacher`: furniture, finishes and lights that
neither the scanned homes nor the pictures on which capability is measured share. Their skills
differ because each is told the names of some classes often, of others now and then, and of some
never; pixels whose name is not told teach nothing. Training is a number of steps in one thread, so
that the same machine writes the same weights again; the last lines are their digests.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.homes import (
    CLASSES,
    MATERIALS,
    build_home,
    intrinsics_from_fov,
    plan_camera_path,
    render,
    render_object_image,
)
from pcdistill.teachers import StaticTextEncoder
from pcdistill.teachers.demo.network import (
    DemoNetwork,
    NetworkShape,
    prepare_images,
    save_network,
)
from pcdistill.teachers.demo.teachers import TEMPERATURE

WEIGHTS = Path(__file__).resolve().parents[1] / "pcdistill" / "teachers" / "demo" / "weights"
PICTURE_SIZE = (240, 320)
STORED_SIZE = (120, 160)
UNLABELLED = 255
DENSE_STEPS = 2400
MASK_STEPS = 4800

DENSE_SHARES = {
    **{"wall": 1.0, "floor": 1.0, "ceiling": 1.0, "window": 1.0, "door": 1.0, "curtain": 0.9},
    **{"picture": 0.9, "bed": 0.9, "counter": 0.8, "cabinet": 0.7, "sofa": 0.6, "chair": 0.6},
    **{"table": 0.5, "bookshelf": 0.3, "desk": 0.2, "refrigerator": 0.2},
}
"""In what share of the pictures the dense teacher is told the name of a class: structure and large
furniture often, some of the rest now and then."""
MASK_SHARES = {
    **{"toilet": 1.0, "bathtub": 1.0, "refrigerator": 1.0, "sink": 0.9, "shower curtain": 0.9},
    **{"bookshelf": 0.9, "desk": 0.8, "bed": 0.8, "sofa": 0.9, "chair": 0.9, "table": 0.9},
    **{"wall": 0.6, "floor": 0.6, "cabinet": 0.5, "counter": 0.3, "curtain": 0.3, "door": 0.2},
    **{"picture": 0.2},
}
"""The same for the teacher of masks: objects often, structure now and then."""

TEMPLATES = ("{}", "a {}", "the {}")
"""What a class is called while the dense teacher learns: its own name in these, nothing else."""


def main() -> None:
    """Run one of the three steps, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("all", "render", "dense", "masks"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/teachers"))
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
    parser.add_argument("--homes", type=int, default=96)
    parser.add_argument("--views", type=int, default=28)
    parser.add_argument("--pictures", type=int, default=80, help="single-object pictures per class")
    parser.add_argument("--dense-steps", type=int, default=DENSE_STEPS)
    parser.add_argument("--mask-steps", type=int, default=MASK_STEPS)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.step in ("all", "render"):
        render_pictures(arguments)
    torch.set_num_threads(1)  # sums are made in one order
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.step in ("all", "dense"):
        train_dense(arguments.cache, arguments.out, arguments.dense_steps)
    if arguments.step in ("all", "masks"):
        train_masks(arguments.cache, arguments.out, arguments.mask_steps)


def _home_pictures(task: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    seed, views = task
    home = build_home(seed, "teacher")
    found = []
    for number, pose in enumerate(plan_camera_path(home, views, seed)):
        camera = intrinsics_from_fov(PICTURE_SIZE, 70.0)
        view = render(home.surface, pose, camera, PICTURE_SIZE, seed=seed * 1000 + number)
        found.append((view.image.numpy(), view.classes.numpy(), view.materials.numpy()))
    return _stored(found)


def _object_pictures(task: tuple[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    category, count = task
    found = []
    for seed in range(count):
        picture = render_object_image(category, seed, image_size=PICTURE_SIZE, collection="teacher")
        view = picture.rendering
        found.append((view.image.numpy(), view.classes.numpy(), view.materials.numpy()))
    return _stored(found)


def _stored(views: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images = torch.from_numpy(np.stack([v[0] for v in views])).permute(0, 3, 1, 2).float()
    small = functional.interpolate(images, STORED_SIZE, mode="area").round().byte().numpy()
    labels = np.stack([v[1][1::2, 1::2] for v in views]).astype(np.uint8)
    materials = np.stack([v[2][1::2, 1::2] for v in views]).astype(np.uint8)
    return small, labels, materials


def render_pictures(arguments: argparse.Namespace) -> None:
    """Render rooms and single objects into `<cache>/{rooms,objects}.npz`."""
    arguments.cache.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, tuple[Callable[..., Any], list[tuple[Any, int]]]] = {
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
    """Load images (n, 3, H, W) uint8, labels and materials (n, H, W) uint8 of one set."""
    with np.load(cache / f"{name}.npz") as archive:
        images, labels, materials = (
            torch.from_numpy(archive[k]) for k in ("images", "labels", "materials")
        )
    return images, labels, materials


def told(labels: Tensor, shares: Mapping[str, float], seed: int) -> Tensor:
    """(n, H, W) uint8: labels as positions in `shares`, unlabelled where a picture does not tell.

    Args:
        labels: (n, H, W) uint8, positions in `CLASSES`.
        shares: fraction of the pictures that tell a class, by its name.
        seed: of the choice.
    """
    draws = np.random.default_rng(seed).random((len(labels), len(shares)))
    result = torch.full_like(labels, UNLABELLED)
    for position, (name, fraction) in enumerate(shares.items()):
        tells = torch.from_numpy(draws[:, position] < fraction)[:, None, None]
        result[(labels == CLASSES.index(name)) & tells] = position
    return result


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
    return (recolored(images, generator), *cut)


def recolored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change the light of each picture (B, 3, H, W) in [-1, 1]: gain, gamma, tint, saturation."""

    def draw(channels: int) -> Tensor:
        return torch.rand(len(images), channels, 1, 1, generator=generator)

    light = ((images + 1) / 2).clamp(1e-3, 1) ** (0.7 + 0.7 * draw(1))
    gray = light.mean(dim=1, keepdim=True)
    light = gray + (light - gray) * (0.3 + draw(1))
    light = light * (0.75 + 0.5 * draw(1)) * (0.85 + 0.3 * draw(3))
    return light * 2 - 1 + 0.03 * torch.randn(images.shape, generator=generator)


def class_weights(labels: Tensor, count: int) -> Tensor:
    """Weight of each class, the inverse square root of its share of the pixels, mean 1."""
    pixels = torch.bincount(labels[labels != UNLABELLED].long(), minlength=count).float()
    weights = 1 / (pixels / pixels.sum()).clamp(min=1e-4).sqrt()
    return weights / weights.mean()


def text_table(
    encoder: StaticTextEncoder, known: Sequence[str], generator: torch.Generator
) -> Tensor:
    """(K, D) float32: text embedding of each class, in a template drawn at random.

    Args:
        encoder: of the text.
        known: the classes.
        generator: draws the templates.
    """
    chosen = torch.randint(len(TEMPLATES), (len(known),), generator=generator).tolist()
    return encoder.encode(
        [TEMPLATES[i].format(name) for i, name in zip(chosen, known, strict=True)]
    )


def fit(
    network: DemoNetwork, sets: list[Any], loss_of: Callable[..., Tensor], steps: int, batch: int
) -> None:
    """Train for a number of steps.

    Args:
        network: trained in place.
        sets: (images, maps..., share of each batch) each.
        loss_of: output, maps of the batch and a generator -> loss.
        steps: of the optimizer.
        batch: images of a step.
    """
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    begin, shown = time.perf_counter(), 0.0
    for step in range(steps):
        rate = 3e-3 * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        parts = []
        for *tensors, fraction in sets:
            count = max(1, round(batch * fraction))
            chosen = torch.randint(len(tensors[0]), (count,), generator=generator)
            images = prepare_images(tensors[0][chosen], tuple(tensors[0].shape[2:]))
            parts.append(augment(images, *(t[chosen] for t in tensors[1:]), generator=generator))
        images, *maps = (torch.cat(p) for p in zip(*parts, strict=True))
        images = functional.interpolate(images, network.shape.input_size, mode="area")
        with torch.autocast("cpu", torch.bfloat16):
            output = network(images.contiguous(memory_format=torch.channels_last))
        loss = loss_of(output.float(), *maps, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        now = float(loss.detach())
        shown = now if step == 0 else 0.98 * shown + 0.02 * now
        if (step + 1) % 200 == 0:
            spent = time.perf_counter() - begin
            print(f"step {step + 1} of {steps}, {spent:.0f} s, loss {shown:.3f}", flush=True)


def shrink(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour resize of (B, H, W) label maps to `size`, int64."""
    return functional.interpolate(maps[:, None].float(), size, mode="nearest-exact")[:, 0].long()


def finish(network: DemoNetwork, path: Path, details: dict[str, Any]) -> None:
    """Write the weights, stamped with a hash of themselves.

    Args:
        network: trained.
        path: file to write.
        details: provenance, to which the hash is added as its revision.
    """
    network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    digest = hashlib.sha256()
    for _, value in sorted(network.state_dict().items()):
        digest.update(value.numpy().tobytes())
    details |= {"revision": digest.hexdigest()[:12], "licence": "Apache-2.0"}
    save_network(path, network, details)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, revision {details['revision']}")


def train_dense(cache: Path, out: Path, steps: int) -> None:
    """Train the dense teacher: features in the text space for each pixel, from views of rooms.

    Args:
        cache: folder of the rendered pictures.
        out: folder of the weights.
        steps: of the optimizer.
    """
    torch.manual_seed(1)
    encoder = StaticTextEncoder()
    known = list(DENSE_SHARES)
    network = DemoNetwork(NetworkShape((24, 48, 96, 144), encoder.dimensions, (120, 160)))
    images, labels, _ = load(cache, "rooms")
    labels = told(labels, DENSE_SHARES, 1)
    weights = class_weights(labels, len(known))

    def loss_of(output: Tensor, maps: Tensor, generator: torch.Generator) -> Tensor:
        target = shrink(maps, (output.shape[2], output.shape[3]))
        table = text_table(encoder, known, generator)
        features = functional.normalize(output, dim=1)
        scores = torch.einsum("bdhw,kd->bkhw", features, table)
        labelled = target != UNLABELLED
        agreement = scores.gather(1, target.clamp(max=len(table) - 1)[:, None])[:, 0]
        cross = functional.cross_entropy(
            scores / TEMPERATURE, target, weights, ignore_index=UNLABELLED
        )
        return cross + (1 - agreement[labelled]).mean()

    fit(network, [(images, labels, 1.0)], loss_of, steps, 16)
    training = f"{steps} steps on rendered rooms; classes told in a share of the pictures"
    details = {"labels": known, "shares": DENSE_SHARES, "training": training}
    finish(network, out / "dense.safetensors", details)


def train_masks(cache: Path, out: Path, steps: int) -> None:
    """Train the mask teacher: a label and a material for each pixel at low resolution.

    Args:
        cache: folder of the rendered pictures.
        out: folder of the weights.
        steps: of the optimizer.
    """
    torch.manual_seed(2)
    names = list(MASK_SHARES)
    known = len(names)
    network = DemoNetwork(NetworkShape((24, 48, 96, 128), known + len(MATERIALS), (72, 96)))
    sets = []
    for number, name in enumerate(("objects", "rooms")):
        images, labels, materials = load(cache, name)
        sets.append((images, told(labels, MASK_SHARES, 2 + number), materials, 0.5))
    weights = class_weights(torch.cat([one[1] for one in sets]), known)

    def loss_of(output: Tensor, maps: Tensor, stuff: Tensor, generator: torch.Generator) -> Tensor:
        target, material = (shrink(m, (output.shape[2], output.shape[3])) for m in (maps, stuff))
        label_loss = functional.cross_entropy(
            output[:, :known], target, weights, ignore_index=UNLABELLED
        )
        material_loss = functional.cross_entropy(
            output[:, known:], material, ignore_index=UNLABELLED
        )
        return label_loss + 0.2 * material_loss

    fit(network, sets, loss_of, steps, 24)
    training = f"{steps} steps on rendered objects and rooms; classes told in a share of them"
    details = {
        "labels": names,
        "shares": MASK_SHARES,
        "materials": list(MATERIALS),
        "training": training,
    }
    finish(network, out / "masks.safetensors", details)


if __name__ == "__main__":
    main()
