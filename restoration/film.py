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
from ..estimation.progress import SILENT, Progress
from ..operators import Chain, Dust, Exposure, Fields, Flicker, Identity, Interlace, Mask, Recipe
from ..operators.observation import Observation
from ..priors.base import FlowPrior
from .cuts import shots
from .decision import Decision
from .degradation import Damage
from .diagnosis import HEALTHY, Diagnosis, Wish, diagnose
from .over_time import Known, find_dust, seen_again
from .pipeline import Photo, Request, drawn

LOOKS = 3
"""Frames of a shot in which it is looked for what is wrong."""
OF_FILMS = {"old video": "fields", "scratched": "dust"}
"""What is wrong with photos that is undone over time in a film, and how."""
GRAIN = "grainy"
"""What is looked for beside it."""
NOTHING = "There is nothing to repair: its frames are passed on as they are."
AHEAD = 6
"""Frames after a window that are read for the usual brightness of a flickering film."""


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


Run = Callable[[Observation, Request, str], Tensor]
"""Restores the measurement of some frames, with the noise of a shot of that name: (T, 3, H, W)."""


@dataclass(frozen=True)
class Look:
    """What was found in some frames of a shot: the request that repairs it, what is said of it, and
    whether nothing is wrong."""

    request: Request
    said: str = ""
    healthy: bool = False


@dataclass
class _Shot:
    """The shot that is being read: its number, the buffered frames, of which ``before`` only tell
    of others, and the light of all frames. ``picked`` are those that are looked at. ``tail`` are
    restored frames that the next window blends with."""

    number: int
    frames: list[Tensor] = field(default_factory=list)
    picked: list[Tensor] = field(default_factory=list)
    light: list[float] = field(default_factory=list)
    before: int = 0
    look: Look | None = None
    tail: Tensor | None = None


class FilmRestoring:
    """Restores the frames of a film one after another, in the memory of some windows.

    All frames of a shot have the same noise and the same estimates, so that these add no flicker. A
    frame is restored from what it and its neighbours show of it (``seen_again``). ``look`` finds
    what is wrong with a shot, by ``LOOKS`` of its frames (1, 3, h, w); ``run`` restores;
    ``stride``: pixels per latent cell of its model. ``overlap``: frames that windows share, which
    are blended, for a model that sees all frames of a window at once, and ``takes(n)`` the number
    of frames that it takes for n: the last one is repeated. What is said of a shot goes to ``say``;
    ``shots`` counts them.

    Raises ValueError for an overlap that leaves nothing of a window.
    """

    def __init__(
        self,
        treatment: Treatment,
        run: Run,
        look: Callable[[list[Tensor]], Look],
        stride: int,
        say: Callable[[str], None] = lambda _: None,
        overlap: int = 0,
        takes: Callable[[int], int] = lambda count: count,
    ):
        self.treatment, self.run, self.look = treatment, run, look
        self.stride, self.say, self.takes, self.shots = stride, say, takes, 0
        self._finished = 0
        self._mixed = isinstance(treatment.over_time, Exposure)
        reach = 0 if self._mixed else self._measured(treatment.reach)
        self._window = self._whole(treatment.window)
        self._overlap = self._measured(overlap)
        if not 0 <= self._overlap < self._window:
            raise ValueError(
                f"the overlap is {overlap} and the window {treatment.window} frames; expected a"
                " window of more frames than overlap"
            )
        self._context = self._whole(max(reach, int(treatment.dust)))
        self._ahead = self._whole(max(self._context, AHEAD * treatment.flicker))

    def _whole(self, frames: int) -> int:
        """So many frames of the given film, or the next number of whole cycles."""
        unit = self.treatment.cycle[1]
        return -(-frames // unit) * unit

    def _measured(self, frames: int) -> int:
        """How many frames of the given film are at least so many of the restored one."""
        film, unit = self.treatment.cycle
        return -(-frames // film) * unit

    def __call__(self, frames: Iterable[Tensor], finished: int = 0) -> Iterator[Tensor]:
        """The restored frames (1, 3, H, W) of given ones (1, 3, h, w), both in [-1, 1].

        finished: so many restored frames are there already, and are not given again. Windows of
        them alone are not restored, unless windows overlap. The others are the same as without.
        """
        self._finished = finished
        shot = _Shot(0)
        for begins, frame in shots(frames):
            if begins:
                yield from self._rest(shot)
                self.shots += 1
                shot = _Shot(self.shots)
            shot.frames.append(frame)
            shot.light.append(float(brightness(frame)))
            if len(shot.frames) == shot.before + self._window + self._ahead:
                yield from self._window_of(shot, self._window, self._overlap)
        yield from self._rest(shot)

    def _rest(self, shot: _Shot) -> Iterator[Tensor]:
        """The frames of a shot that has ended."""
        while (left := len(shot.frames) - shot.before) > 0:
            count = min(self._window, left // self._whole(1) * self._whole(1)) or left
            yield from self._window_of(shot, count, self._overlap if count < left else 0)

    def _window_of(self, shot: _Shot, count: int, overlap: int) -> Iterator[Tensor]:
        """The next ``count`` frames of a shot, restored; the last ``overlap`` of them stay for the
        next window. Frames that tell nothing of later ones are forgotten."""
        if not shot.picked:
            seen = shot.frames[: min(len(shot.frames), self._window)]
            picked = {round(k * (len(seen) - 1) / max(1, LOOKS - 1)) for k in range(LOOKS)}
            shot.picked = [seen[k] for k in sorted(picked)]
        film, unit = self.treatment.cycle
        over_time = self.treatment.over_time if count % unit == 0 else None
        kept = overlap * film // unit
        told = (count * film // unit if over_time else count) - kept
        # Windows that overlap need those before, and are all restored.
        if self._finished < told or self._overlap:
            result = self._result(shot, count, over_time)
            shot.tail = result[len(result) - kept :] if kept else None
            for k in range(self._finished, told):
                yield result[k : k + 1]
        self._finished = max(0, self._finished - told)
        shot.before += count - overlap
        forgotten = max(0, shot.before - self._context) // unit * unit
        del shot.frames[:forgotten]
        shot.before -= forgotten

    def _look_at(self, shot: _Shot) -> Look:
        """What was found in a shot, looked for once and said."""
        if shot.look is None:
            shot.look, how = self.look(shot.picked), self.treatment
            untouched = not (how.over_time or how.flicker or how.dust) and shot.look.healthy
            said = " ".join(filter(None, [shot.look.said, NOTHING * untouched]))
            if said:
                self.say(f"shot {shot.number}: {said}")
        return shot.look

    def _result(self, shot: _Shot, count: int, over_time: Recipe | None) -> Tensor:
        """The next ``count`` frames of a shot restored, and blended with those before."""
        look = self._look_at(shot)
        unit = self.treatment.cycle[1]
        first, last = shot.before, shot.before + count
        end = min(len(shot.frames), last + self._context)
        end -= (end - first) % unit if over_time else 0
        frames = torch.cat(shot.frames[:end])
        plain = look.healthy and over_time is None
        plain &= not (self.treatment.flicker or self.treatment.dust)
        if plain:
            result = frames[first:last]
        else:
            result = self._restored(shot, look.request, frames, over_time, first, last)
        return result if shot.tail is None else _blended(shot.tail, result)

    def _gains(self, shot: _Shot, count: int) -> Recipe:
        """The flicker of the first ``count`` buffered frames, by the light of all frames."""
        light = torch.tensor(shot.light, dtype=torch.float64)
        gains = flicker_gains(light)[len(light) - len(shot.frames) :][:count]
        return Flicker(tuple(gains.clamp(0.1, 10).tolist()))

    def _restored(
        self,
        shot: _Shot,
        request: Request,
        frames: Tensor,
        over_time: Recipe | None,
        first: int,
        last: int,
    ) -> Tensor:
        """Frames ``first`` to ``last`` restored, (T, 3, H, W); the others tell of them."""
        how = self.treatment
        flicker = self._gains(shot, len(frames)) if how.flicker else None
        if self._mixed and over_time is not None:
            if flicker is not None:
                frames = Known.of(frames).before(flicker).values
            return self._run(shot, frames[first:last], _after(request.recipe, over_time), request)
        known = Known.of(frames)
        if flicker is not None:
            known = known.before(flicker)
        if how.dust:
            known = known.without(find_dust(known.values, request.noise))
        if over_time is not None:
            known = known.before(over_time)
            film, unit = how.cycle
            first, last = first // unit * film, last // unit * film
        linear = request.recipe.bind(_shape_for(request.recipe, known.values)).linear
        if linear:
            known = seen_again(known, request.noise, how.reach)
        values, weights = known.values[first:last], known.weights[first:last, 0]
        count = len(values)
        values, weights = (_lengthened(each, self.takes(count)) for each in (values, weights))
        best, recipe = float(weights.max()), request.recipe
        if linear or not bool((weights == best).all()):
            recipe = _after(recipe, Dust.from_tensor((weights / best).clamp(0, 1).sqrt()))
        request = dataclasses.replace(request, noise=request.noise / math.sqrt(best))
        return self._run(shot, values, recipe, request)[:count]

    def _run(self, shot: _Shot, frames: Tensor, recipe: Recipe, request: Request) -> Tensor:
        """Frames restored as one batch with the noise of their shot."""
        request = dataclasses.replace(request, recipe=recipe)
        observation = Observation.from_photo(frames, recipe, request.noise, self.stride)
        return observation.crop(self.run(observation, request, f"shot {shot.number}"))


def film_restoring(
    treatment: Treatment, prior: FlowPrior, say: Callable[[str], None] = lambda _: None
) -> FilmRestoring:
    """The restoring of a film by a model that restores pictures."""

    def run(observation: Observation, request: Request, name: str) -> Tensor:
        if observation.recipe.cycle is None:
            parts = [dataclasses.replace(observation, y=y) for y in observation.y.split(1)]
        else:
            parts = [observation]
        # Of the pixels of a photo, only those of a clean one count here.
        photos = [Photo(name, each.y, each) for each in parts]
        return drawn(photos, request, prior, None, 0)[0]

    def look(frames: list[Tensor]) -> Look:
        request, said, healthy = treatment.request, "", False
        if isinstance(treatment.over_time, Fields):
            frames = [one_field(each) for each in frames]
        if treatment.decision is not None:
            found = [treatment.decision.of(each, request, prior) for each in frames]
            middle = len(found) // 2
            treatment.decision.try_model(frames[middle], found[middle][0], prior)
            said = _said(found[middle][0])
            healthy = all(each.healthy for each, _ in found)
            request = pooled_request([each for _, each in found])
        elif treatment.damage.estimate:
            seen = [treatment.damage.of(Path("the frame"), each) for each in frames]
            said = "; ".join(seen[len(seen) // 2][2])
            request = pooled_request(
                [dataclasses.replace(request, recipe=r, noise=n) for r, n, _ in seen]
            )
        return Look(request, said, healthy)

    return FilmRestoring(treatment, run, look, prior.stride, say)


def one_field(frame: Tensor) -> Tensor:
    """The rows of one instant of an interlaced frame, in which grain can be told: those of two look
    like detail that is not there."""
    return frame[..., ::2, :]


def _blended(tail: Tensor, frames: Tensor) -> Tensor:
    """``frames``, whose first ones blend with the ``tail`` of the window before, as tiles do."""
    count = min(len(tail), len(frames))
    at = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    weight = (math.pi / 2 * at).sin().square().to(frames).view(-1, 1, 1, 1)
    both = torch.lerp(tail[:count], frames[:count], weight)
    return torch.cat([both, frames[count:]])


def _lengthened(x: Tensor, count: int) -> Tensor:
    """``x`` (T, ...) with its last frame again until there are ``count``."""
    return torch.cat([x, x[-1:].expand(count - len(x), *x.shape[1:])]) if count > len(x) else x


def looked_at(
    frames: list[Tensor], wish: Wish, request: Request, progress: Progress = SILENT
) -> Look:
    """What is wrong with frames (1, 3, h, w) of a shot, by the wish alone."""
    found = [
        diagnose(each, wish, progress=progress.part(k / len(frames), (k + 1) / len(frames)))
        for k, each in enumerate(frames)
    ]
    each = [dataclasses.replace(request, recipe=one.recipe, noise=one.noise_level) for one in found]
    said = _said(found[len(found) // 2])
    return Look(pooled_request(each), said, all(one.healthy for one in found))


def _said(found: Diagnosis) -> str:
    """What was found in a frame; whether that leaves nothing to repair is a matter of the film."""
    return " ".join(each for each in found.sentences if each != HEALTHY)


def _after(recipe: Recipe, then: Recipe) -> Recipe:
    return then if recipe == Identity() else Chain((recipe, then))


def _shape_for(recipe: Recipe, frames: Tensor) -> tuple[int, int, int]:
    """The shape of the images whose measurement's pictures are ``frames``."""
    height, width = recipe.image_size(frames.shape[2], frames.shape[3])
    return 3, *(-(-n // recipe.stride) * recipe.stride for n in (height, width))  # type: ignore[return-value]


def pooled_request(requests: Sequence[Request]) -> Request:
    """One request for all frames of a shot, with what was estimated of them pooled."""
    return dataclasses.replace(
        requests[0],
        recipe=pooled([each.recipe for each in requests]),
        noise=pooled_noise([each.noise for each in requests]),
    )


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
