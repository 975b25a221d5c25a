"""Make the damaged photographs in ``pictures/photos`` from held-out ones of the benchmarks, and the
film of old video there.

``python -m comfyui_flowdps.tools.example_photos``. The same pictures come out every time; the bytes
of the film depend on the version of its encoder. Which photograph has which damage stands in
``DAMAGED``; ``pictures/photos/LICENSE.md`` has the authors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..operators import AveragePool, DefocusBlur, GaussianBlur, Kernel, Recipe
from ..operators.blurs import line
from ..operators.scratches import scratches
from ..restoration.images import read_image, to_pil
from ..restoration.video import write

ROOT = Path(__file__).resolve().parents[1]
CLEAN = ROOT / "benchmarks" / "pictures" / "photos" / "test"
OUT = ROOT / "pictures" / "photos"
QUALITY = 12
SHIFT = 5
"""Pixels by which the lines of the second field have moved, in the frame of old video."""
FILM, FRAMES, PAN = "bridge", 6, 3
"""What the film shows, its frames, and the pixels by which the camera pans from field to field."""
WIDTH, HEIGHT = 160, 128


def grainy(x: Tensor, level: float = 0.01, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return x + level * torch.randn(x.shape, generator=generator)


def through(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """Damage by ``recipe`` and a little grain."""
    return lambda x: grainy(recipe.bind((3, *x.shape[2:])).A(x))


def scratched(x: Tensor) -> Tensor:
    """Bright scratches with soft edges."""
    mask = scratches(*x.shape[2:], count=5, thickness=2, seed=2)[None, None]
    mask = F.avg_pool2d(F.pad(mask, [1] * 4), 3, 1)
    return x * (1 - 0.9 * mask) + 0.8 * mask


def combed(x: Tensor) -> Tensor:
    """Every second line of another instant, in which everything has moved sideways."""
    frame = x.clone()
    frame[..., 1::2, :] = x.roll(SHIFT, -1)[..., 1::2, :]
    return frame[..., SHIFT:]


def old(x: Tensor) -> Tensor:
    """Soft, scratched, and with the grain of a film without colours."""
    soft = GaussianBlur(11, 1.2).bind((3, *x.shape[2:])).A(x)
    return scratched(soft + grainy(torch.zeros_like(x[:, :1]), 0.05))


def film(photo: Tensor) -> Iterator[Tensor]:
    """Frames of old video with grain: rows 0, 2, 4, … are of an earlier instant than the others."""
    top = (photo.shape[2] - HEIGHT) // 2
    for k in range(FRAMES):
        first, second = (
            photo[..., top : top + HEIGHT, PAN * n : PAN * n + WIDTH] for n in (2 * k, 2 * k + 1)
        )
        frame = first.clone()
        frame[..., 1::2, :] = second[..., 1::2, :]
        yield grainy(frame, 0.06, seed=k).clamp(-1, 1)


DAMAGED: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "out of focus": ("coffee", through(DefocusBlur(3.0))),
    "shaken": ("astronaut", through(Kernel.from_tensor(line(9.0, 30.0)))),
    "grainy": ("raccoon", lambda x: grainy(x, 0.15)),
    "small": ("bee", lambda x: AveragePool(2).bind((3, *x.shape[2:])).A(x)),
    "bad JPEG": ("cat", lambda x: x),
    "scratched": ("bridge", scratched),
    "old video": ("rocket", combed),
    "old photo": ("tesla", old),
}
"""Name of the damaged photo: the clean one, and what happens to it."""


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (photo, damage) in DAMAGED.items():
        image: Image.Image = to_pil(damage(read_image(CLEAN / f"{photo}.webp")[0]).clamp(-1, 1))
        if "JPEG" in name:
            image.save(OUT / f"{name}.jpg", quality=QUALITY)
        else:
            image.save(OUT / f"{name}.webp", lossless=True, quality=100, method=6)
    video = OUT / "old video.mp4"
    video.unlink(missing_ok=True)
    write(video, film(read_image(CLEAN / f"{FILM}.webp")[0]), Fraction(25))


if __name__ == "__main__":
    main()
