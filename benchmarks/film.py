"""Films: how much restorations flicker, and how near they are, frame by frame and over time.

``python -m comfyui_flowdps.benchmarks.film [--frames 8] [--side 64] [--prior photo]``

The film has two shots of one photograph. In the first the camera stands still, and a square of
another photograph moves through it; in the second the camera pans. Both have noise, and are also
interlaced. Everything is drawn from the seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..estimation.noise import overall_noise
from ..operators import Fields, Identity, Interlace, Recipe
from ..operators.randomness import generators, standard_normal
from ..priors.base import FlowPrior
from ..restoration import images
from ..restoration.degradation import Damage
from ..restoration.film import Treatment, film_restoring, one_field
from ..restoration.pipeline import Request
from ..samplers import method_named, preset

PHOTOS = Path(__file__).parent / "pictures" / "photos" / "test"
PAN = 2
"""Pixels by which the camera pans from frame to frame."""
SPEED = 3
"""Pixels by which the square moves."""


@dataclasses.dataclass(frozen=True)
class Shots:
    """A film: frames (T, 3, H, W) of a still shot and of a pan, and where the square never is."""

    still: Tensor
    pan: Tensor
    background: Tensor

    @classmethod
    def of(cls, photo: Tensor, other: Tensor, frames: int, side: int) -> Shots:
        """Shots of ``photo`` with a square of ``other``."""
        wide = images.square(photo, side + PAN * frames)
        pan = torch.cat([wide[..., :side, PAN * k : PAN * k + side] for k in range(frames)])
        still = wide[..., -side:, :side].repeat(frames, 1, 1, 1)
        edge, part = side // 4, images.square(other, side // 4)
        background = torch.ones(side, side)
        for k in range(frames):
            top, left = side // 2, min(side - edge, 4 + SPEED * k)
            still[k, :, top : top + edge, left : left + edge] = part[0]
            background[top : top + edge, left : left + edge] = 0
        return cls(still, pan, background)


def flicker(still: Tensor, background: Tensor) -> float:
    """Root mean square of the difference from frame to frame where nothing moves, of 255."""
    steps = (still[1:] - still[:-1]).square().mean(1)
    return 127.5 * float((steps * background).sum() / (background.sum() * len(steps))) ** 0.5


def flicker_along(pan: Tensor) -> float:
    """The same along the motion of the camera."""
    return 127.5 * float((pan[1:, ..., :-PAN] - pan[:-1, ..., PAN:]).square().mean()) ** 0.5


def psnr(x: Tensor, clean: Tensor, where: Tensor | None = None) -> float:
    """Of all frames together, in dB; ``where`` (H, W) is 1 in the part that counts."""
    squared = (x.clamp(-1, 1) - clean).square().mean(1)
    mean = squared.mean() if where is None else (squared * where).sum() / where.sum() / len(x)
    return float(10 * torch.log10(4 / mean))


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to restore a film. alone: every frame by itself, with its own noise and estimates;
    otherwise they are those of the shot. reach: as of ``Treatment``."""

    name: str
    alone: bool
    reach: int


WAYS = (
    Way("frame by frame", True, 0),
    Way("shared noise and estimates", False, 0),
    Way("and seen again in 3 frames on either side", False, 3),
)


def restored(
    way: Way, y: Tensor, recipe: Recipe, over_time: Recipe | None, prior: FlowPrior, effort: str
) -> Tensor:
    """The frames (T, 3, H, W) that are restored from those of one shot; the noise is estimated."""
    request = Request(
        recipe,
        "refine",
        preset("refine", effort),
        method_named("refine").steps,
        observed=True,
        suited=True,
    )
    if not way.alone:
        how = Treatment(request, over_time, damage=Damage(estimate=("noise",)), reach=way.reach)
        return torch.cat(list(film_restoring(how, prior)(y.split(1))))

    def each() -> Iterator[Tensor]:
        for k, frame in enumerate(y.split(1)):
            seen = one_field(frame) if isinstance(recipe, Interlace) else frame
            own = dataclasses.replace(request, seed=k, noise=overall_noise(seen))
            yield from film_restoring(Treatment(own, reach=0), prior)([frame])

    return torch.cat(list(each()))


def run(
    shots: Shots,
    prior: FlowPrior,
    noise: float,
    effort: str,
    say: Callable[[str], None],
) -> list[dict[str, object]]:
    """A row of numbers for every way and both damages."""
    rows: list[dict[str, object]] = []
    for damage, recipe in (("noise", None), ("fields and noise", Fields())):
        seen = []
        for name, clean in (("still", shots.still), ("pan", shots.pan)):
            y = clean if recipe is None else recipe.bind(tuple(clean.shape[1:])).A(clean)
            draws = generators(0, f"{damage} {name}", range(len(y)))
            seen.append((y + noise * standard_normal(y.shape, draws)).clamp(-1, 1))
        given = [y.repeat_interleave(2 if recipe else 1, 0) for y in seen]
        rows.append(_row(damage, "as it is", given, shots, 0.0))
        say(json.dumps(rows[-1]))
        for way in WAYS:
            begun = time.process_time()
            if way.alone and recipe is not None:
                found = [_fields_alone(way, y, prior, effort) for y in seen]
            else:
                found = [restored(way, y, Identity(), recipe, prior, effort) for y in seen]
            spent = (time.process_time() - begun) / sum(map(len, found))
            rows.append(_row(damage, way.name, found, shots, spent))
            say(json.dumps(rows[-1]))
    return rows


def _fields_alone(way: Way, y: Tensor, prior: FlowPrior, effort: str) -> Tensor:
    """Every field as a picture of its own, whose other rows are unknown."""
    frames = []
    for field in ("top", "bottom"):
        rows = restored(way, y, Interlace(field), None, prior, effort)
        frames.append(rows)
    return torch.stack(frames, 1).flatten(0, 1)


def _row(
    damage: str, way: str, films: list[Tensor], shots: Shots, seconds: float
) -> dict[str, object]:
    still, pan = films
    return {
        "damage": damage,
        "way": way,
        "flicker, still": round(flicker(still, shots.background), 2),
        "flicker, pan": round(flicker_along(pan), 2),
        "PSNR, still": round(psnr(still, shots.still), 2),
        "PSNR, moving square": round(psnr(still, shots.still, 1 - shots.background), 2),
        "PSNR, pan": round(psnr(pan, shots.pan), 2),
        "seconds": round(seconds, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=8, help="of each shot, an even number")
    parser.add_argument("--side", type=int, default=64, help="of a frame, in pixels")
    parser.add_argument("--noise", type=float, default=0.1, help="for images in [-1, 1]")
    parser.add_argument("--photo", default="astronaut.webp", help="in benchmarks/pictures/photos")
    parser.add_argument("--other", default="coffee.webp", help="of which a square moves")
    parser.add_argument("--prior", default="photo")
    parser.add_argument("--effort", default="fast", help="a preset of Refine")
    args = parser.parse_args()
    from ..priors.diffusers import load_prior

    photo, other = (images.read_image(PHOTOS / name)[0] for name in (args.photo, args.other))
    shots = Shots.of(photo, other, args.frames, args.side)
    rows = run(
        shots,
        load_prior(args.prior),
        args.noise,
        args.effort,
        lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
