"""Restoration of a list of files; finished files are skipped when a run is repeated."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ..priors.base import FlowPrior
from ..restoration import images
from ..restoration.degradation import Damage
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
from ..samplers.method import Step

PARTS = ("measurement", "restored", "sheet")


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A photo waiting for its batch: its request, its file, its output files and the run's id."""

    photo: Photo
    request: Request
    file: Path
    place: dict[str, Path]
    run: str


def outputs(folder: Path, files: Sequence[Path], samples: int = 1) -> list[dict[str, Path]]:
    """Output files for every input file, named by its stem; repeated stems get a suffix."""
    parts = [*PARTS]
    if samples > 1:
        parts += ["spread", *(f"sample{k}" for k in range(1, samples + 1))]
    taken: set[str] = set()
    result = []
    for file in files:
        suffix = file.suffix[1:]
        names = [file.stem, f"{file.stem}_{suffix}"]
        names += [f"{file.stem}_{suffix}_{k}" for k in range(2, len(files) + 2)]
        name = next(n for n in names if n.lower() not in taken)
        taken.add(name.lower())
        result.append({part: folder / f"{name}_{part}.png" for part in parts})
    return result


class Log:
    """``results.jsonl``: one line per finished image; existing lines are never changed."""

    def __init__(self, folder: Path):
        self.path = folder / "results.jsonl"
        self.finished: set[str] = set()
        self.cut = False
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            self.cut = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    self.finished.add(json.loads(line)["run"])
                except (ValueError, KeyError, TypeError):
                    continue  # An incomplete line, after a crash: that image is restored again.

    def add(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("\n" * self.cut + json.dumps(record, ensure_ascii=False) + "\n")
        self.cut = False


@dataclasses.dataclass(frozen=True)
class Run:
    """The settings of one run of ``flowdps restore``.

    request: settings for all photos; damage: the degradation, which may be estimated per photo.
    load: loads the model; called once, after the first photo has been read.
    record: values for the log, which also identify the run.
    out: folder of the results. batch: number of photos to restore at once.
    """

    request: Request
    damage: Damage
    load: Callable[[], FlowPrior]
    record: dict[str, Any]
    out: Path
    batch: int = 1


class Restoring:
    """Restores a list of files and logs the results."""

    def __init__(self, run: Run):
        self.asked, self.request, self.damage = run, run.request, run.damage
        self.log = Log(run.out)
        self.failed = self.done = self.skipped = 0

    @cached_property
    def prior(self) -> FlowPrior:
        """The model, loaded on first access; ValueError if it cannot be loaded."""
        return self.asked.load()

    def say(self, text: str, *, error: bool = False) -> None:
        """Print one line above the progress bar."""
        tqdm.write(text, file=sys.stderr if error else sys.stdout)

    def refuse(self, error: Exception) -> None:
        """Count and report a failure."""
        self.failed += 1
        self.say(f"flowdps: {error}", error=True)

    def run(self, files: Sequence[Path]) -> int:
        """Restore all files and return the exit code."""
        places = outputs(self.asked.out, files, self.request.samples)
        waiting: dict[tuple[object, ...], list[Waiting]] = {}
        steps = self.request.steps * self.request.samples
        total = len(files) * steps
        with tqdm(total=total, unit="step", disable=None, leave=False) as self.bar:
            for file, place in zip(files, places, strict=True):
                try:
                    pixels, notes = images.read_image(file)
                except ValueError as error:
                    self.refuse(error)
                    continue
                key = json.dumps([self.asked.record, str(file)]).encode() + file.read_bytes()
                run = hashlib.sha256(key).hexdigest()[:16]
                if run in self.log.finished and all(p.exists() for p in place.values()):
                    self.skipped += 1
                    self.bar.update(steps)
                    continue
                prior = self.prior  # Outside of what is caught: no photo could be restored.
                try:
                    request, told = self.request_for(file, pixels)
                    photo = prepare(pixels, file.name, request, prior)
                except ValueError as error:
                    self.refuse(error)
                    continue
                photo.notes[:0] = notes + told
                alike = (photo.observation.image_size, request)
                group = waiting.setdefault(alike, [])
                group.append(Waiting(photo, request, file, place, run))
                if len(group) == self.asked.batch:
                    self.finish(waiting.pop(alike))
            for group in waiting.values():
                self.finish(group)
        if self.skipped:
            self.say(f"{self.skipped} finished before, with the same settings; skipped")
        if self.done:
            self.say(f"{self.done} restored: {self.asked.out}")
        return 2 if self.failed else 0

    def request_for(self, file: Path, pixels: Tensor) -> tuple[Request, list[str]]:
        """The request with degradation and noise estimated from the photo, and notes on them."""
        if not self.damage.estimate:
            return self.request, []
        try:
            recipe, noise, notes = self.damage.of(file, pixels)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
        return dataclasses.replace(self.request, recipe=recipe, noise=noise), notes

    def finish(self, group: list[Waiting]) -> None:
        """Restore a batch and write its results."""
        photos = [each.photo for each in group]

        def advance(_: Step) -> None:
            self.bar.update(len(photos))

        several = self.request.samples > 1
        function = restore_several if several else restore
        try:
            results = function(photos, group[0].request, self.prior, advance)
        except ValueError as error:
            names = ", ".join(photo.name for photo in photos)
            self.refuse(ValueError(f"{names}: {error}"))
            return
        for each, result in zip(group, results, strict=True):
            if isinstance(result, RestoredSeveral):
                self.write_several(each, result)
            else:
                self.write(each, result, [(self.request.method, result.restored)])

    def write_several(self, each: Waiting, result: RestoredSeveral) -> None:
        """Write mean, samples and spread of a photo, and their line of the log."""
        several = result.several
        images.save_png((2 * several.map - 1).expand(-1, 3, -1, -1), each.place["spread"])
        for k, one in enumerate(result.samples, 1):
            images.save_png(one.restored, each.place[f"sample{k}"])
        told = {
            "sample_scores": [scores(one) for one in result.samples],
            "best_sample": several.best + 1,
            "spread_rms": several.rms_spread,
            "spread_factor": several.factor,
            "spread_white": WHITE,
        }
        each.photo.notes.append(several.report)
        self.write(each, result.mean, several.pictures, told, PER_ROW)

    def write(
        self,
        each: Waiting,
        result: Restored,
        columns: list[tuple[str, Tensor]],
        more: dict[str, Any] | None = None,
        per_row: int | None = None,
    ) -> None:
        """Write the pictures, and then the line of the log that marks them as finished.

        ``columns`` of the sheet stand between the measurement and the clean picture.
        """
        photo, request, place = each.photo, each.request, each.place
        columns = [("measurement", result.measurement), *columns]
        if result.clean is not None:
            columns.append(("clean", result.clean))
        images.save_png(result.measurement, place["measurement"])
        images.save_png(result.restored, place["restored"])
        images.save_png(images.sheet(columns, per_row), place["sheet"])
        known = scores(result)
        self.log.add(
            {
                "input": str(each.file),
                **{f"{part}_file": path.name for part, path in place.items()},
                "height": result.restored.shape[2],
                "width": result.restored.shape[3],
                **known,
                **(more or {}),
                **self.asked.record,
                "operator": request.recipe.to_dict(),
                "noise": request.noise,
                "device": str(self.prior.device),
                "batch": self.asked.batch,
                "work": result.work,
                "notes": photo.notes,
                "run": each.run,
            }
        )
        self.done += 1
        told = {
            "psnr": "PSNR {:.2f} dB",
            "ssim": "SSIM {:.3f}",
            "residual_ratio": "residual/noise {:.2f}",
        }
        parts = [told[k].format(v) for k, v in known.items() if v is not None] + photo.notes
        self.say(f"{each.file.name}: {', '.join(parts)}")


def scores(result: Restored) -> dict[str, float | None]:
    """PSNR, SSIM and ratio of residual to noise."""
    return {key: getattr(result, key) for key in ("psnr", "ssim", "residual_ratio")}
