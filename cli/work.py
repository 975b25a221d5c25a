"""What is done with one photo: it is looked at, restored with others of its kind, and described."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..estimation.progress import SILENT, Progress
from ..operators.observation import Observation
from ..priors.base import FlowPrior, is_out_of_memory
from ..restoration import images
from ..restoration.colour import Conversion
from ..restoration.decision import Decision
from ..restoration.degradation import Damage
from ..restoration.diagnosis import WRONGS, Diagnosis
from ..restoration.pipeline import (
    Photo,
    Request,
    Restored,
    RestoredSeveral,
    prepare,
    restore,
    restore_several,
)
from ..restoration.several import PER_ROW, WHITE
from ..restoration.verdict import verdict
from ..samplers import flat
from ..samplers.method import Step
from .engines import Job, Outcome
from .results import marked, shown

MADE = (
    "task",
    "wrong",
    "strength",
    "invent",
    "enlarge",
    "method",
    "preset",
    "steps",
    "noise",
    "seed",
    "samples",
    "prior",
    "prompt",
    "version",
)
"""What of the record goes into every picture; the whole of it is in the log."""
MOST = 8
"""Most photos of a batch whose size is not given."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be done with all photos of a run of ``flowdps restore``.

    request: settings for all photos; damage: the degradation, which may be estimated per photo.
    load: loads the model. record: values for the log, which also identify the run.
    batch: number of photos to restore at once; 0: as many as suit.
    decision: what is done with photos whose damage is found in each of them; None: it is stated.
    """

    request: Request
    damage: Damage
    load: Callable[[], FlowPrior]
    record: dict[str, Any]
    batch: int = 0
    decision: Decision | None = None

    @property
    def in_srgb(self) -> bool:
        """Whether photos are looked at in sRGB: the compression of a JPEG belongs to the colours of
        its file."""
        wish = self.decision and self.decision.wish
        return "jpeg" not in (WRONGS[wish.wrong] if wish else self.damage.estimate)


@dataclasses.dataclass(frozen=True)
class Looked:
    """A photo that was looked at: its job, its request, the conversion of its colours that is still
    to do, and what was found to be wrong; None where that was stated.
    """

    job: Job
    photo: Photo
    request: Request
    to_srgb: Conversion | None
    diagnosis: Diagnosis | None = None

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to repair."""
        return self.diagnosis is not None and self.diagnosis.healthy

    @property
    def kind(self) -> tuple[object, ...]:
        """The same for photos that can be restored together."""
        return self.photo.observation.image_size, self.request


class Work:
    """Does a task, with one model that is kept loaded.

    Its methods may be called in any thread. Those that run the model wait for each other.
    """

    def __init__(self, task: Task):
        self.task = task
        self._model = threading.Lock()

    @cached_property
    def prior(self) -> FlowPrior:
        """The model, loaded on first access; ValueError if it cannot be loaded."""
        return self.task.load()

    def looked(self, job: Job, progress: Progress = SILENT) -> Looked:
        """The photo with its measurement, and the request with its degradation and noise.

        Needs the model's sizes, and does not run it. ``progress`` may stop it. ValueError, in one
        sentence, for a photo that cannot be read or restored.
        """
        task, prior = self.task, self.prior
        picture = images.read(job.address, srgb=task.in_srgb, content=job.content)
        request, told, found = task.request, [], None
        x = picture.pixels
        if task.decision is not None:
            found, request = task.decision.of(x, request, prior, progress)
        elif task.damage.estimate:
            recipe, noise, told = task.damage.of(job.address, x, job.content, progress)
            request = dataclasses.replace(request, recipe=recipe, noise=noise)
        if found is not None and found.healthy:
            same = Observation.from_photo(x, request.recipe, request.noise, prior.stride)
            photo = Photo(job.name, x, same)
        else:
            photo = prepare(x, job.name, request, prior)
        shape = photo.observation.measurement_picture.shape
        stretched = task.damage.stretched(shape[2], shape[3])
        photo.notes[:0] = [*task.damage.notes, *stretched, *picture.notes, *told]
        if found is not None and found.only_lost:
            photo.lost = found.lost
        return Looked(job, photo, request, picture.to_srgb, found)

    def try_model(self, each: Looked) -> str:
        """What was found to be wrong with a photo, in sentences, after the model was tried on it;
        empty where that was stated."""
        if each.diagnosis is None or self.task.decision is None:
            return ""
        with self._model:
            self.task.decision.try_model(each.photo.pixels, each.diagnosis, self.prior)
        return f"{each.job.name}: {' '.join(each.diagnosis.sentences)}"

    def batch_of(self, each: Looked) -> int:
        """How many photos of this kind are restored at once.

        It depends on nothing but the settings and the photo's size, so that the bits of a result do
        not depend on what else there is to do. If it is not given: as many as have together a
        quarter of the pixels that the model is made for. Where each photo gets what it needs, it is
        alone.
        """
        if self.task.batch:
            return self.task.batch
        if self.task.decision is not None or self.task.damage.estimate:
            return 1
        height, width = each.photo.observation.padded_size
        fitting = (self.prior.usual // 2) ** 2 // (height * width)
        return max(k for k in (1, 2, 4, MOST) if k <= max(1, fitting))

    def restored(
        self, group: Sequence[Looked], advance: Callable[[float], None], fill: bool = True
    ) -> list[Restored | RestoredSeveral]:
        """The results of photos of one kind, at most as many as ``batch_of`` says.

        Incomplete batches are filled up with repeats, unless ``fill`` is False: the arithmetic of
        the networks rounds otherwise for another number of photos.
        """
        request = group[0].request
        steps = request.steps * request.samples

        def step(_: Step) -> None:
            advance(len(group) / steps)

        photos = [each.photo for each in group]
        if fill:
            photos += [photos[-1]] * (self.batch_of(group[0]) - len(photos))
        function = restore_several if request.samples > 1 else restore
        with self._model:
            return [*function(photos, request, self.prior, step)][: len(group)]

    def described(self, each: Looked, result: Restored | RestoredSeveral | None) -> Outcome:
        """All pictures, and the record; ``result`` None: the photo is passed on as it is."""
        if isinstance(result, RestoredSeveral):
            return self._described_several(each, result)
        if result is not None:
            return self._described(each, result, [(self.task.request.method, result.restored)])
        x, count = each.photo.pixels, each.request.samples
        pictures = {f"sample{k}": x for k in range(1, count + 1)} | {"spread": -torch.ones_like(x)}
        same = Restored(x, x, None, None, None, 0.0, {})
        return self._described(each, same, [("as it was", x)], pictures if count > 1 else {})

    def _described_several(self, each: Looked, result: RestoredSeveral) -> Outcome:
        several = result.several
        pictures = {"spread": (2 * several.map - 1).expand(-1, 3, -1, -1)}
        for k, one in enumerate(result.samples, 1):
            pictures[f"sample{k}"] = one.restored
        told = {
            "sample_scores": [scores(one) for one in result.samples],
            "best_sample": several.best + 1,
            "spread_rms": several.rms_spread,
            "spread_factor": several.factor,
            "spread_white": WHITE,
        }
        each.photo.notes.append(several.report)
        return self._described(each, result.mean, several.pictures, pictures, told, PER_ROW)

    def _described(
        self,
        each: Looked,
        result: Restored,
        columns: list[tuple[str, Tensor]],
        pictures: dict[str, Tensor] | None = None,
        more: dict[str, Any] | None = None,
        per_row: int | None = None,
    ) -> Outcome:
        """``columns`` of the sheet stand between the measurement and the clean picture;
        ``pictures`` are those beside measurement, restoration and sheet.
        """
        job, photo, request = each.job, each.photo, each.request
        if each.to_srgb is not None:
            photo.notes.append("results converted to sRGB")
        written = {"measurement": result.measurement, "restored": result.restored}
        written |= pictures or {}
        columns = [("measurement", result.measurement), *columns]
        if result.clean is not None:
            columns.append(("clean", result.clean))
        columns = [(name, images.in_srgb(x, each.to_srgb)) for name, x in columns]
        known = scores(result)
        notes, parts, report = photo.notes, [], list[str]()
        if (found := each.diagnosis) is not None:
            parts = [] if found.healthy else [verdict(result.residual_ratio, "grain")]
            report = [*found.sentences, *parts]
            notes = [*report, *notes]
        else:
            told = {
                "psnr": "PSNR {:.2f} dB",
                "ssim": "SSIM {:.3f}",
                "residual_ratio": "residual/noise {:.2f}",
            }
            parts = [told[k].format(v) for k, v in known.items() if v is not None]
        every: dict[str, Image.Image | Tensor] = {"sheet": images.sheet(columns, per_row)}
        every |= {name: images.in_srgb(x, each.to_srgb) for name, x in written.items()}
        record = {
            "height": result.restored.shape[2],
            "width": result.restored.shape[3],
            **known,
            **(more or {}),
            **self.task.record,
            **recorded(request),
            "noise": request.noise,
            "operator": request.recipe.to_dict(),
            "device": str(self.prior.device),
            "batch": self.batch_of(each) if result.work else 1,
            "work": result.work,
            "notes": notes,
        }
        return finished(job, every, record, report, [*parts, *photo.notes])


def finished(
    job: Job,
    pictures: Mapping[str, Image.Image | Tensor],
    record: Mapping[str, Any],
    report: Sequence[str],
    said: Sequence[str],
) -> Outcome:
    """The outcome of a photo that was restored. report: what goes into the pictures, where it was
    found out what is wrong; said: what the user is told."""
    given = {"input_sha256": hashlib.sha256(job.content).hexdigest()}
    made: dict[str, Any] = {"input": shown(job.name), **given}
    made |= {key: record[key] for key in MADE if key in record}
    made |= {"report": list(report)} if report else {}
    return Outcome(
        job,
        {part: marked(x, part, job.run, job.source, made) for part, x in pictures.items()},
        {"input": job.address, **given, **record},
        f"{job.name}: {', '.join(said)}" if said else "",
    )


def sentence(name: str, error: BaseException) -> str:
    """Whatever went wrong with the photo called ``name``, in one line."""
    if isinstance(error, ValueError):
        return str(error) if name in str(error) else f"{name}: {error}"
    if isinstance(error, Exception) and is_out_of_memory(error):
        return f"{name}: out of memory: choose a smaller --tile, --size or --batch"
    if isinstance(error, OSError):
        return f"{name}: {error.strerror or error}"
    first = str(error).strip().split("\n", 1)[0]
    return f"{name}: {type(error).__name__}: {first}"


def recorded(request: Request) -> dict[str, Any]:
    """What the log says of a request's settings."""
    values = flat(request.settings).items()
    plain = {k: v if isinstance(v, int | float | None) else str(v) for k, v in values}
    return {**plain, "steps": request.steps}


def scores(result: Restored) -> dict[str, float | None]:
    """PSNR, SSIM and ratio of residual to noise."""
    return {key: getattr(result, key) for key in ("psnr", "ssim", "residual_ratio")}
