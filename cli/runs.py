"""A list of files, restored one after the other; what is finished is not done again."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ..priors.base import FlowPrior
from ..restoration import images
from ..restoration.degradation import Damage
from ..restoration.pipeline import Photo, Request, Restored, prepare, restore
from ..samplers.method import Step

PARTS = ("measurement", "restored", "sheet")


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A photo that waits for its batch: what to do, its file, where its results go, and the run's
    name."""

    photo: Photo
    request: Request
    file: Path
    place: dict[str, Path]
    run: str


def outputs(folder: Path, files: Sequence[Path]) -> list[dict[str, Path]]:
    """Where the pictures of every file go: named by the stem, and by more where stems repeat."""
    taken: set[str] = set()
    result = []
    for file in files:
        suffix = file.suffix[1:]
        names = [file.stem, f"{file.stem}_{suffix}"]
        names += [f"{file.stem}_{suffix}_{k}" for k in range(2, len(files) + 2)]
        name = next(n for n in names if n.lower() not in taken)
        taken.add(name.lower())
        result.append({part: folder / f"{name}_{part}.png" for part in PARTS})
    return result


class Log:
    """``results.jsonl``: one line per finished image; older lines are never touched."""

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
                    continue  # A line that a crash cut off: that image is restored again.

    def add(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("\n" * self.cut + json.dumps(record, ensure_ascii=False) + "\n")
        self.cut = False


class Restoring:
    """Works through a list of files; the model is loaded when the first photo can be read."""

    def __init__(self, args: argparse.Namespace, request: Request, damage: Damage, task: str):
        self.args, self.request, self.damage = args, request, damage
        self.settings = {
            "task": task,
            "operator": request.recipe.to_dict(),
            "mask": None if args.mask is None else str(args.mask),
            "kernel": None if args.kernel is None else str(args.kernel),
            "observed": request.observed,
            "estimate": list(damage.estimate),
            "noise": request.noise,
            "method": request.method,
            "preset": args.preset,
            **dataclasses.asdict(request.settings),
            "steps": request.steps,
            "prior": args.prior or "demo",
            "config": args.config,
            "prompt": args.prompt,
            "negative": args.negative,
            "cfg": args.cfg,
            "size": args.size,
            "tile": args.tile,
            "seed": request.seed,
            "dtype": args.dtype,
            # Only these change the picture beyond rounding.
            "guide": args.tiny_vae or "tiny" if args.memory == "tiny" else "vae",
        }
        self.prior: FlowPrior | None = None
        self.log = Log(args.out)
        self.failed = self.done = self.skipped = 0

    def load(self) -> FlowPrior:
        """The prior; ValueError for one that does not serve."""
        if self.prior is None:
            from ..priors.diffusers import load_prior

            args = self.args
            self.prior = load_prior(
                args.prior,
                device=args.device,
                dtype=args.dtype,
                prompt=args.prompt,
                negative=args.negative,
                cfg=args.cfg,
                config=args.config,
                memory=args.memory,
                tiny=args.tiny_vae,
            )
        return self.prior

    def say(self, text: str, *, error: bool = False) -> None:
        """One line, above the progress bar."""
        tqdm.write(text, file=sys.stderr if error else sys.stdout)

    def refuse(self, error: Exception) -> None:
        """Report one photo that cannot be restored."""
        self.failed += 1
        self.say(f"flowdps: {error}", error=True)

    def run(self, files: Sequence[Path]) -> int:
        """Restore all files; the exit code."""
        places = outputs(self.args.out, files)
        waiting: dict[tuple[object, ...], list[Waiting]] = {}
        total = len(files) * self.request.steps
        with tqdm(total=total, unit="step", disable=None, leave=False) as self.bar:
            for file, place in zip(files, places, strict=True):
                try:
                    pixels, notes = images.read_image(file)
                except ValueError as error:
                    self.refuse(error)
                    continue
                key = json.dumps([self.settings, str(file)]).encode() + file.read_bytes()
                run = hashlib.sha256(key).hexdigest()[:16]
                if run in self.log.finished and all(p.exists() for p in place.values()):
                    self.skipped += 1
                    self.bar.update(self.request.steps)
                    continue
                prior = self.load()
                try:
                    request, told = self.request_for(file, pixels)
                    photo = prepare(pixels, file.name, request, prior)
                except ValueError as error:
                    self.refuse(error)
                    continue
                photo.notes[:0] = notes + told
                alike = (photo.size, tuple(photo.padded.shape), photo.recipe, request)
                group = waiting.setdefault(alike, [])
                group.append(Waiting(photo, request, file, place, run))
                if len(group) == self.args.batch:
                    self.finish(waiting.pop(alike))
            for group in waiting.values():
                self.finish(group)
        if self.skipped:
            self.say(f"{self.skipped} finished before, with the same settings; skipped")
        if self.done:
            self.say(f"{self.done} restored: {self.args.out}")
        return 2 if self.failed else 0

    def request_for(self, file: Path, pixels: Tensor) -> tuple[Request, list[str]]:
        """The request with what the photo tells by itself, and notes on that."""
        if not self.damage.estimate:
            return self.request, []
        try:
            recipe, noise, notes = self.damage.of(file, pixels)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
        return dataclasses.replace(self.request, recipe=recipe, noise=noise), notes

    def finish(self, group: list[Waiting]) -> None:
        """Restore one batch and write its results."""
        photos = [each.photo for each in group]

        def advance(_: Step) -> None:
            self.bar.update(len(photos))

        try:
            results = restore(photos, group[0].request, self.load(), advance)
        except ValueError as error:
            names = ", ".join(photo.name for photo in photos)
            self.refuse(ValueError(f"{names}: {error}"))
            return
        for each, result in zip(group, results, strict=True):
            self.write(each, result)

    def write(self, each: Waiting, result: Restored) -> None:
        """The pictures first, then the line that says they are there."""
        photo, request, place = each.photo, each.request, each.place
        columns = [("measurement", result.measurement), (self.request.method, result.restored)]
        if result.clean is not None:
            columns.append(("clean", result.clean))
        images.save_png(result.measurement, place["measurement"])
        images.save_png(result.restored, place["restored"])
        images.save_png(images.sheet(columns), place["sheet"])
        scores = {key: getattr(result, key) for key in ("psnr", "ssim", "residual_ratio")}
        self.log.add(
            {
                "input": str(each.file),
                **{f"{part}_file": path.name for part, path in place.items()},
                "height": result.restored.shape[2],
                "width": result.restored.shape[3],
                **scores,
                **self.settings,
                "operator": request.recipe.to_dict(),
                "noise": request.noise,
                "device": str(self.load().device),
                "batch": self.args.batch,
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
        parts = [told[k].format(v) for k, v in scores.items() if v is not None] + photo.notes
        self.say(f"{each.file.name}: {', '.join(parts)}")
