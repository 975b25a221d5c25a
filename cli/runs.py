"""Restoration of a list of files; finished files are skipped when a run is repeated."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

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
from .results import Place, Results, digest, shown

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


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A photo waiting for its batch: its request, its file, where its results go, the run's id, the
    SHA-256 of the file, the conversion of its colours that is still to do, and what was found to be
    wrong; None where that was stated.
    """

    photo: Photo
    request: Request
    file: Path
    place: Place
    run: str
    sha256: str
    to_srgb: Conversion | None
    diagnosis: Diagnosis | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """The settings of one run of ``flowdps restore``.

    request: settings for all photos; damage: the degradation, which may be estimated per photo.
    load: loads the model; called once, after the first photo has been read.
    record: values for the log, which also identify the run.
    out: folder of the results. batch: number of photos to restore at once.
    decision: what is done with photos whose damage is found in each of them; None: it is stated.
    """

    request: Request
    damage: Damage
    load: Callable[[], FlowPrior]
    record: dict[str, Any]
    out: Path
    batch: int = 1
    decision: Decision | None = None

    @property
    def in_srgb(self) -> bool:
        """Whether photos are looked at in sRGB: the compression of a JPEG belongs to the colours of
        its file."""
        wish = self.decision and self.decision.wish
        return "jpeg" not in (WRONGS[wish.wrong] if wish else self.damage.estimate)


class Restoring:
    """Restores a list of files and logs the results.

    A photo that fails costs one line, and the others go on. Raises OSError where nothing can be
    written.
    """

    def __init__(self, run: Run):
        self.asked, self.request, self.damage = run, run.request, run.damage
        self.results = Results(run.out, run.request.samples)
        self.failed = self.done = self.skipped = 0

    @cached_property
    def prior(self) -> FlowPrior:
        """The model, loaded on first access; ValueError if it cannot be loaded."""
        return self.asked.load()

    def say(self, text: str, *, error: bool = False) -> None:
        """Print one line above the progress bar; a console that is gone ends nothing."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            tqdm.write(shown(text), file=sys.stderr if error else sys.stdout)

    def refuse(self, error: Exception | str) -> None:
        """Count and report a failure."""
        self.failed += 1
        self.say(f"flowdps: {error}", error=True)

    def fresh(self, files: Sequence[Path]) -> list[Path]:
        """``files`` without the results of earlier runs into the same folder."""
        kept = [file for file in files if not self.results.is_result(file)]
        if left := len(files) - len(kept):
            self.say(f"{left} results of earlier runs in {self.asked.out} are no input; left out")
        return kept

    def run(self, files: Sequence[Path]) -> int:
        """Restore all files and return the exit code."""
        files = self.fresh(files)
        places = self.results.plan(files)
        waiting: dict[tuple[object, ...], list[Waiting]] = {}
        steps = self.request.steps * self.request.samples
        total = len(files) * steps
        with tqdm(total=total, unit="step", disable=None, leave=False) as self.bar:
            for file, place in zip(files, places, strict=True):
                try:
                    picture = images.read(file, srgb=self.asked.in_srgb)
                except ValueError as error:
                    self.refuse(error)
                    continue
                key = json.dumps([self.asked.record, file.name]).encode()
                run = digest(key, picture.content)
                if self.results.finished(place, run):
                    self.skipped += 1
                    self.bar.update(steps)
                    continue
                prior = self.prior  # Outside of what is caught: no photo could be restored.
                with self.caught(file.name):
                    sha256 = hashlib.sha256(picture.content).hexdigest()
                    photo, request, found = self.looked_at(file, picture, prior)
                    rest = (file, place, run, sha256, picture.to_srgb, found)
                    one = Waiting(photo, request, *rest)
                    self.bar.total += (request.steps - self.request.steps) * self.request.samples
                    if found is not None and found.healthy:
                        self.bar.update(request.steps * request.samples)
                        self.pass_on(one)
                        continue
                    alike = (photo.observation.image_size, request)
                    group = waiting.setdefault(alike, [])
                    group.append(one)
                    if len(group) == self.asked.batch:
                        self.finish(waiting.pop(alike))
            for group in waiting.values():
                self.finish(group)
        if self.skipped:
            self.say(f"{self.skipped} finished before, with the same settings; skipped")
        if self.done:
            self.say(f"{self.done} restored: {self.asked.out}")
        return 2 if self.failed else 0

    @contextlib.contextmanager
    def caught(self, name: str) -> Iterator[None]:
        """Report whatever goes wrong with the photos called ``name``, in one line."""
        try:
            yield
        except ValueError as error:
            self.refuse(str(error) if name in str(error) else f"{name}: {error}")
        except OSError as error:
            self.refuse(f"{name}: {error.strerror or error}")
        except Exception as error:
            if is_out_of_memory(error):
                self.refuse(f"{name}: out of memory: choose a smaller --tile, --size or --batch")
            else:
                first = str(error).strip().split("\n", 1)[0]
                self.refuse(f"{name}: {type(error).__name__}: {first}")

    def looked_at(
        self, file: Path, picture: images.Picture, prior: FlowPrior
    ) -> tuple[Photo, Request, Diagnosis | None]:
        """The photo with its measurement, the request with its degradation and noise, and what was
        found to be wrong, which is printed."""
        request, told, found = self.request, [], None
        if self.asked.decision is not None:
            found, request = self.asked.decision.of(picture.pixels, request, prior)
            self.say(f"{file.name}: {' '.join(found.sentences)}")
        elif self.damage.estimate:
            recipe, noise, told = self.damage.of(file, picture.pixels)
            request = dataclasses.replace(request, recipe=recipe, noise=noise)
        x = picture.pixels
        if found is not None and found.healthy:
            same = Observation.from_photo(x, request.recipe, request.noise, prior.stride)
            photo = Photo(file.name, x, same)
        else:
            photo = prepare(x, file.name, request, prior)
        shape = photo.observation.measurement_picture.shape
        stretched = self.damage.stretched(shape[2], shape[3])
        photo.notes[:0] = [*self.damage.notes, *stretched, *picture.notes, *told]
        if found is not None and found.only_lost:
            photo.lost = found.lost
        return photo, request, found

    def pass_on(self, each: Waiting) -> None:
        """Write a photo with nothing to repair as its own restoration."""
        x, count = each.photo.pixels, each.request.samples
        pictures = {f"sample{k}": x for k in range(1, count + 1)} | {"spread": -torch.ones_like(x)}
        result = Restored(x, x, None, None, None, 0.0, {})
        self.write(each, result, [("as it was", x)], pictures if count > 1 else {})

    def finish(self, group: list[Waiting]) -> None:
        """Restore a batch and write its results; one by one if the batch fails."""
        photos = [each.photo for each in group]

        def advance(_: Step) -> None:
            self.bar.update(len(photos))

        several = self.request.samples > 1
        function = restore_several if several else restore
        results: Sequence[Restored | RestoredSeveral] = ()
        if len(group) == 1:
            with self.caught(photos[0].name):
                results = function(photos, group[0].request, self.prior, advance)
        else:
            try:
                results = function(photos, group[0].request, self.prior, advance)
            except Exception:
                for each in group:
                    self.finish([each])
                return
        for each, result in zip(group, results, strict=False):
            with self.caught(each.file.name):
                if isinstance(result, RestoredSeveral):
                    self.write_several(each, result)
                else:
                    self.write(each, result, [(self.request.method, result.restored)])

    def write_several(self, each: Waiting, result: RestoredSeveral) -> None:
        """Write mean, samples and spread of a photo, and their line of the log."""
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
        self.write(each, result.mean, several.pictures, pictures, told, PER_ROW)

    def write(
        self,
        each: Waiting,
        result: Restored,
        columns: list[tuple[str, Tensor]],
        pictures: dict[str, Tensor] | None = None,
        more: dict[str, Any] | None = None,
        per_row: int | None = None,
    ) -> None:
        """Write all pictures, and then the line of the log that marks them as finished.

        ``columns`` of the sheet stand between the measurement and the clean picture; ``pictures``
        are those beside measurement, restoration and sheet.
        """
        photo, request = each.photo, each.request
        if each.to_srgb is not None:
            photo.notes.append("results converted to sRGB")
        written = {"measurement": result.measurement, "restored": result.restored}
        written |= pictures or {}
        columns = [("measurement", result.measurement), *columns]
        if result.clean is not None:
            columns.append(("clean", result.clean))
        columns = [(name, images.in_srgb(x, each.to_srgb)) for name, x in columns]
        known = scores(result)
        record = {**self.asked.record, **recorded(request), "noise": request.noise}
        made = {key: record[key] for key in MADE if key in record}
        notes, parts = photo.notes, []
        if (found := each.diagnosis) is not None:
            parts = [] if found.healthy else [verdict(result.residual_ratio, "grain")]
            made["report"] = [*found.sentences, *parts]
            notes = [*made["report"], *notes]
        else:
            told = {
                "psnr": "PSNR {:.2f} dB",
                "ssim": "SSIM {:.3f}",
                "residual_ratio": "residual/noise {:.2f}",
            }
            parts = [told[k].format(v) for k, v in known.items() if v is not None]
        self.results.write(
            each.file,
            each.place,
            each.run,
            {
                "sheet": images.sheet(columns, per_row),
                **{name: images.in_srgb(x, each.to_srgb) for name, x in written.items()},
            },
            {"input": shown(each.file.name), "input_sha256": each.sha256, **made},
            {
                "input": str(each.file),
                "input_sha256": each.sha256,
                "height": result.restored.shape[2],
                "width": result.restored.shape[3],
                **known,
                **(more or {}),
                **record,
                "operator": request.recipe.to_dict(),
                "device": str(self.prior.device),
                "batch": self.asked.batch,
                "work": result.work,
                "notes": notes,
            },
        )
        self.done += 1
        if parts := [*parts, *photo.notes]:
            self.say(f"{each.file.name}: {', '.join(parts)}")


def recorded(request: Request) -> dict[str, Any]:
    """What the log says of a request's settings."""
    values = flat(request.settings).items()
    plain = {k: v if isinstance(v, int | float | None) else str(v) for k, v in values}
    return {**plain, "steps": request.steps}


def scores(result: Restored) -> dict[str, float | None]:
    """PSNR, SSIM and ratio of residual to noise."""
    return {key: getattr(result, key) for key in ("psnr", "ssim", "residual_ratio")}
