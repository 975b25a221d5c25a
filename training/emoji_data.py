"""Microsoft Fluent 3D emoji as training data: download, hold-out by base emoji, compositing.

Source: npm package ``@lobehub/fluent-emoji-3d`` (MIT by its ``package.json`` and README). Country,
region and subdivision flags are left out, because the origin of their artwork is unclear.
"""

from __future__ import annotations

import io
import tarfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

PACKAGE_URL = "https://registry.npmjs.org/@lobehub/fluent-emoji-3d/-/fluent-emoji-3d-1.1.0.tgz"
SIZE = 128
SPLIT_SEED = 20251
HELD_OUT_FRACTION = 0.09
NEAR_DUPLICATE_MSE = 0.004

_SKIN = {f"1f3f{c}" for c in "bcdef"}
_PERSONS = {"1f468", "1f469", "1f9d1", "1f466", "1f467", "1f9d2", "1f474", "1f475", "1f9d3"}
_GENDER = {"2640", "2642"}
_HAIR = {"1f9b0", "1f9b1", "1f9b2", "1f9b3"}
# Single code points that exist once per gender: princess and prince, bride and tuxedo, and so on.
_SAME = {
    "1f478": "1f934",
    "1f936": "1f385",
    "1f46d": "1f46b",
    "1f46c": "1f46b",
    "1f57a": "1f483",
    "1f930": "1fac4",
    "1fac3": "1fac4",
}


@dataclass(frozen=True)
class Emoji:
    """One picture: ``code`` as in the file name, premultiplied ``rgba`` uint8 (4, 128, 128)."""

    code: str
    rgba: torch.Tensor


def is_flag(code: str) -> bool:
    """Whether ``code`` is a country, region or subdivision flag."""
    parts = code.split("-")
    return all("1f1e6" <= p <= "1f1ff" and len(p) == 5 for p in parts[:2]) or (
        parts[0] == "1f3f4" and len(parts) > 1 and parts[1].startswith("e00")
    )


def base_key(code: str) -> str:
    """Name of the group that ``code`` belongs to: skin tone, gender, hair and person removed."""
    kept = []
    for part in code.split("-"):
        part = _SAME.get(part, part)
        if part in _SKIN or part in _GENDER or part in _HAIR or part in {"fe0f", "200d"}:
            continue
        kept.append("person" if part in _PERSONS else part)
    return "-".join(kept)


def download(folder: Path) -> Path:
    """Fetch the npm package into ``folder`` once and return the folder of its WebP files."""
    assets = folder / "package" / "assets"
    if not assets.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(PACKAGE_URL) as response:
            packed = io.BytesIO(response.read())
        with tarfile.open(fileobj=packed, mode="r:gz") as archive:
            archive.extractall(folder, filter="data")
    return assets


def _read(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        rgba = image.convert("RGBA")
    if rgba.width != rgba.height:
        side = max(rgba.size)
        canvas = Image.new("RGBA", (side, side))
        canvas.paste(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2))
        rgba = canvas
    pixels = torch.from_numpy(np.array(rgba, dtype=np.float32)).permute(2, 0, 1) / 255
    pixels[:3] *= pixels[3:]
    small = F.interpolate(pixels[None], size=(SIZE, SIZE), mode="area")[0]
    return (small * 255).round().to(torch.uint8)


def load(assets: Path) -> list[Emoji]:
    """Read every picture that is not a flag, sorted by code."""
    files = sorted(p for p in assets.glob("*.webp") if not is_flag(p.stem))
    if not files:
        raise FileNotFoundError(f"no .webp pictures in {assets}; delete the folder and run again")
    return [Emoji(p.stem, _read(p)) for p in files]


def on_background(rgba: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Composite premultiplied uint8 (N, 4, H, W) on ``colour`` (N, 3) in [0, 1]; result [-1, 1]."""
    pixels = rgba.float() / 255
    image = pixels[:, :3] + (1 - pixels[:, 3:]) * colour[:, :, None, None]
    return image * 2 - 1


def groups(emoji: Sequence[Emoji]) -> list[list[int]]:
    """Indices grouped by base emoji, groups with near-duplicate pictures merged."""
    parent = list(range(len(emoji)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, item in enumerate(emoji):
        parent[root(i)] = root(first.setdefault(base_key(item.code), i))
    stack = torch.stack([item.rgba for item in emoji])
    flat = F.interpolate(on_background(stack, torch.ones(len(emoji), 3)), (16, 16), mode="area")
    flat = (flat.flatten(1) + 1) / 2
    for i in range(len(emoji)):
        distance = (flat[i + 1 :] - flat[i]).square().mean(1)
        for j in torch.nonzero(distance < NEAR_DUPLICATE_MSE).flatten().tolist():
            parent[root(i + 1 + j)] = root(i)
    members: dict[int, list[int]] = {}
    for i in range(len(emoji)):
        members.setdefault(root(i), []).append(i)
    return sorted(members.values())


def split(emoji: Sequence[Emoji]) -> tuple[list[int], list[list[int]]]:
    """Training indices and held-out groups; small groups first come to be held out.

    A group of more than 12 pictures (hands and people in every tone) always trains, so that the
    hold-out is made of many different subjects.
    """
    all_groups = groups(emoji)
    order = torch.randperm(
        len(all_groups), generator=torch.Generator().manual_seed(SPLIT_SEED)
    ).tolist()
    wanted = int(HELD_OUT_FRACTION * len(all_groups))
    held = [k for k in order if len(all_groups[k]) <= 12][:wanted]
    chosen = set(held)
    train = [i for k, group in enumerate(all_groups) if k not in chosen for i in group]
    return sorted(train), [all_groups[k] for k in held]


def colour_augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the pictures (N, 3, H, W in [-1, 1]) get their channels permuted or mixed softly."""
    n = len(images)
    mixed = images.clone()
    for i in range(n):
        draw = torch.rand((), generator=generator)
        if draw < 0.25:
            mixed[i] = images[i, torch.randperm(3, generator=generator)]
        elif draw < 0.5:
            gain = 0.75 + 0.25 * torch.rand(3, 1, 1, generator=generator)
            mixed[i] = (images[i] + 1) * gain - 1
    return mixed


def random_colours(n: int, generator: torch.Generator, white: float = 0.4) -> torch.Tensor:
    """Background colours (n, 3) in [0, 1]: white with probability ``white``, else soft."""
    soft = 0.35 + 0.65 * torch.rand(n, 3, generator=generator)
    is_white = torch.rand(n, 1, generator=generator) < white
    return torch.where(is_white, torch.ones(n, 3), soft)
