"""A film: shots are found, estimates pooled over each, and frames restored in windows."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..estimation.brightness import brightness, flicker_gains
from ..operators import Chain, Dust, Exposure, Fields, Flicker, Identity, Interlace, Mask, Recipe
from ..operators.observation import Observation
from ..priors.base import FlowPrior
from .cuts import shots
from .decision import Decision
from .degradation import Damage
from .over_time import Known, find_dust, seen_again
from .pipeline import Photo, Request, drawn

LOOKS = 3
"""Frames of a shot in which it is looked for what is wrong."""
AHEAD = 6
"""Frames after a window that are read for the usual brightness of a flickering film."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Treatment:
    """How a film is restored.

    request: settings for all frames; its recipe is what happens to every frame by itself.
    over_time: what happens to the film over time, after that; None: nothing.
    flicker: whether the brightness of frames is made even.
    dust: whether dust that lasts one frame is looked for.
    damage, decision: what is estimated of every shot: the degradation, or what is wrong.
    window: frames that are restored at once.
    reach: up to how many frames before and after one tell of it; 0: none.

    Raises ValueError for a window below 1 or a reach below 0.
    """

    request: Request
    over_time: Recipe | None = None
    flicker: bool = False
    dust: bool = False
    damage: Damage = field(default_factory=Damage)
    decision: Decision | None = None
    window: int = 8
    reach: int = 3

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("reach", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")

    @property
    def cycle(self) -> tuple[int, int]:
        """Frames of the restored film, and how many of the given one they are made of."""
        return (self.over_time and self.over_time.cycle) or (1, 1)

    @property
    def rate(self) -> float:
        """How many frames the restored film has for each of the given one."""
        return self.cycle[0] / self.cycle[1]


@dataclass
class _Shot:
    """What is known of a shot: its number, its buffered frames, of which ``before`` are already
    restored, the light of these frames, and the request, once it has been looked at."""

    number: int
    frames: list[Tensor] = field(default_factory=list)
    light: list[float] = field(default_factory=list)
    before: int = 0
    request: Request | None = None
    healthy: bool = False


class FilmRestoring:
    """Restores the frames of a film one after another, in the memory of some windows.

    All frames of a shot have the same noise and the same estimates, so that nothing flickers. A
    frame is restored from what it and its neighbours show of it (``seen_again``). What is said of a
    shot goes to ``say``; ``shots`` counts them.
    """

    def __init__(self, treatment: Treatment, prior: FlowPrior, say: Progress = lambda _: None):
        self.treatment, self.prior, self.say = treatment, prior, say
        self.shots = 0
        film, unit = treatment.cycle
        self._unit = unit
        self._window = -(-treatment.window // unit) * unit
        self._mixed = isinstance(treatment.over_time, Exposure)
        reach = 0 if self._mixed else -(-treatment.reach * unit // film)
        reach = max(reach, int(treatment.dust))
        self._context = -(-reach // unit) * unit
        ahead = max(self._context, AHEAD * treatment.flicker)
        self._ahead = -(-ahead // unit) * unit

    def __call__(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """The restored frames (1, 3, H, W) of given ones (1, 3, h, w), both in [-1, 1]."""
        shot = _Shot(0)
        for begins, frame in shots(frames):
            if begins:
                yield from self._rest(shot)
                self.shots += 1
                shot = _Shot(self.shots)
            shot.frames.append(frame)
            shot.light.append(float(brightness(frame)))
            if len(shot.frames) == shot.before + self._window + self._ahead:
                yield from self._window_of(shot, self._window)
        yield from self._rest(shot)

    def _rest(self, shot: _Shot) -> Iterator[Tensor]:
        """The frames of a shot that has ended."""
        while (left := len(shot.frames) - shot.before) > 0:
            whole = left // self._unit * self._unit
            yield from self._window_of(shot, min(self._window, whole) or left)

    def _window_of(self, shot: _Shot, count: int) -> Iterator[Tensor]:
        """The next ``count`` frames of a shot, restored; those before its window are forgotten."""
        if shot.request is None:
            self._look(shot)
        assert shot.request is not None
        first, last = shot.before, shot.before + count
        over_time = self.treatment.over_time if count % self._unit == 0 else None
        end = min(len(shot.frames), last + self._context)
        end -= (end - first) % self._unit if over_time else 0
        frames = torch.cat(shot.frames[:end])
        if shot.healthy and over_time is None:
            yield from frames[first:last].split(1)
        else:
            yield from self._restored(shot, frames, over_time, first, last).split(1)
        forgotten = max(0, last - self._context) // self._unit * self._unit
        del shot.frames[:forgotten]
        shot.before = last - forgotten

    def _gains(self, shot: _Shot, count: int) -> Recipe:
        """The flicker of the first ``count`` buffered frames; earlier and later ones are looked at,
        too."""
        light = torch.tensor(shot.light, dtype=torch.float64)
        gains = flicker_gains(light)[len(light) - len(shot.frames) :][:count]
        return Flicker(tuple(gains.clamp(0.1, 10).tolist()))

    def _restored(
        self, shot: _Shot, frames: Tensor, over_time: Recipe | None, first: int, last: int
    ) -> Tensor:
        """Frames ``first`` to ``last`` restored, (T, 3, H, W); the others tell of them."""
        request, how = shot.request, self.treatment
        assert request is not None
        flicker = self._gains(shot, len(frames)) if how.flicker else None
        if self._mixed and over_time is not None:
            parts = [request.recipe, over_time] + ([flicker] if flicker else [])
            parts = [each for each in parts if each != Identity()]
            return self._run(shot, frames[first:last], Chain(tuple(parts)), request)
        known = Known.of(frames)
        if flicker is not None:
            known = known.before(flicker)
        if how.dust:
            known = known.without(find_dust(known.values, request.noise))
        film, unit = how.cycle
        if over_time is not None:
            known = known.before(over_time)
            first, last = first // unit * film, last // unit * film
        linear = request.recipe.bind(_shape_for(request.recipe, known.values)).linear
        if linear:
            known = seen_again(known, request.noise, how.reach)
        values, weights = known.values[first:last], known.weights[first:last, 0]
        best = float(weights.max())
        recipe = request.recipe
        if linear or not bool((weights == best).all()):
            own = Dust.from_tensor((weights / best).clamp(0, 1).sqrt())
            recipe = own if recipe == Identity() else Chain((recipe, own))
        noise = request.noise / math.sqrt(best)
        return self._run(shot, values, recipe, dataclasses.replace(request, noise=noise))

    def _run(self, shot: _Shot, frames: Tensor, recipe: Recipe, request: Request) -> Tensor:
        """Frames restored as one batch with the noise of their shot."""
        observation = Observation.from_photo(frames, recipe, request.noise, self.prior.stride)
        if observation.recipe.cycle is None:
            parts = [dataclasses.replace(observation, y=y) for y in observation.y.split(1)]
        else:
            parts = [observation]
        photos = [
            Photo(f"shot {shot.number}", x, each)
            for x, each in zip([frames] * len(parts), parts, strict=True)
        ]
        images, _ = drawn(photos, dataclasses.replace(request, recipe=recipe), self.prior, None, 0)
        return observation.crop(images)

    def _look(self, shot: _Shot) -> None:
        """What is wrong with a shot, by some of the frames of its first window."""
        how = self.treatment
        count = min(len(shot.frames), self._window)
        chosen = sorted({round(k * (count - 1) / max(1, LOOKS - 1)) for k in range(LOOKS)})
        frames = [shot.frames[k] for k in chosen]
        if isinstance(how.over_time, Fields):
            # Rows of two instants look like detail that is not there.
            frames = [each[..., ::2, :] for each in frames]
        shot.request = how.request
        if how.decision is not None:
            found = [how.decision.of(each, how.request, self.prior) for each in frames]
            recipe = pooled([request.recipe for _, request in found])
            noise = pooled_noise([request.noise for _, request in found])
            shot.healthy = all(each.healthy for each, _ in found)
            shot.healthy &= not (how.flicker or how.dust)
            shot.request = dataclasses.replace(found[0][1], recipe=recipe, noise=noise)
            sentences = found[len(found) // 2][0].sentences
            self.say(f"shot {shot.number}: {' '.join(sentences)}")
        elif how.damage.estimate:
            seen = [
                how.damage.of(Path(f"frame {k}"), x) for k, x in zip(chosen, frames, strict=True)
            ]
            recipe = pooled([recipe for recipe, _, _ in seen])
            noise = pooled_noise([noise for _, noise, _ in seen])
            shot.request = dataclasses.replace(how.request, recipe=recipe, noise=noise)
            self.say(f"shot {shot.number}: {'; '.join(seen[len(seen) // 2][2])}")


def _shape_for(recipe: Recipe, frames: Tensor) -> tuple[int, int, int]:
    """The shape of the images whose measurement's pictures are ``frames``."""
    height, width = recipe.image_size(frames.shape[2], frames.shape[3])
    return 3, *(-(-n // recipe.stride) * recipe.stride for n in (height, width))  # type: ignore[return-value]


def pooled_noise(levels: Sequence[float]) -> float:
    """One noise level for all frames: the root mean square of theirs."""
    return math.sqrt(sum(level**2 for level in levels) / len(levels))


def pooled(recipes: Sequence[Recipe]) -> Recipe:
    """One recipe for all frames of a shot: of the commonest kind, its numbers the medians.

    What is a matter of single frames is left out: masks, and rows of another instant. A tie goes
    to the simpler kind.
    """
    lists = [_parts(recipe) for recipe in recipes]
    kinds = [tuple(type(part).__name__ for part in parts) for parts in lists]
    kind = max(sorted(set(kinds), key=len), key=kinds.count)
    alike = [parts for parts, own in zip(lists, kinds, strict=True) if own == kind]
    parts = tuple(_median(each) for each in zip(*alike, strict=True)) or (Identity(),)
    return parts[0] if len(parts) == 1 else Chain(parts)


def _parts(recipe: Recipe) -> list[Recipe]:
    parts = recipe.recipes if isinstance(recipe, Chain) else (recipe,)
    return [part for part in parts if not isinstance(part, Mask | Interlace | Identity)]


def _median(recipes: Sequence[Recipe]) -> Recipe:
    """The recipe whose fields are the medians of those of recipes of one kind; of those that are no
    numbers, as the values of a kernel, all are of the first."""
    first = recipes[0]
    medians = {}
    for each in dataclasses.fields(first):
        values = [getattr(recipe, each.name) for recipe in recipes]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) < len(values):
            if any(value != values[0] for value in values):
                return first
            continue
        medians[each.name] = statistics.median_low(values)
    return dataclasses.replace(first, **medians)
