"""``flowdps bench --paper``: the four tasks of the FlowDPS paper on a user's own pictures.

SR x12 by bicubic and by average pooling, Gaussian and motion deblurring with kernels of 61 pixels,
at 768 x 768 with noise 0.03. The three methods of the paper run with their preset ``published``,
every method with its default preset, each with its own noise levels and guidance; one picture at a
time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import samplers
from ..operators import Operator, Recipe, recipe_for_task, simulate
from ..operators.randomness import generators
from ..priors.diffusers import DiffusersPrior, NoTextEncoders, load_prior
from ..restoration import images, metrics
from .command import PROMPT, SIDE, own_picture
from .perceptual import fid_of, lpips_of
from .results import mean

TASKS = {
    "SR x12, bicubic": ("sr_bicubic", 12),
    "SR x12, average pooling": ("sr_avgpool", 12),
    "Gaussian deblurring": ("deblur_gauss", 61),
    "motion deblurring": ("deblur_motion", 61),
}
"""Task and number (factor, or width of the kernel) by the name in the table."""


@dataclass(frozen=True)
class Entry:
    """A row of the table: a method with one of its presets."""

    method: str
    preset: str

    @property
    def name(self) -> str:
        return f"{self.method}, {self.preset}"

    @property
    def settings(self) -> samplers.MethodSettings:
        return samplers.preset(self.method, self.preset)


def entries(methods: Sequence[str], preset: str | None = None) -> list[Entry]:
    """Of every method, ``published`` where it exists and the default; or only ``preset``."""
    found = []
    for name in methods:
        row = samplers.method_named(name)
        wanted = [preset or "published", preset or row.default]
        found += [Entry(name, p) for p in dict.fromkeys(wanted) if p in row.presets]
    return sorted(found, key=lambda entry: entry.preset != "published")


def recipe(task: str, side: int, seed: int) -> Recipe:
    """The degradation of a task; kernels are at most half as wide as the picture."""
    name, number = TASKS[task]
    if name.startswith("deblur"):
        number = min(number, (side // 2 - 1) // 2 * 2 + 1)
    return recipe_for_task(name, number, seed=seed)


def prompts_of(pictures: Sequence[Path], file: Path | None, prompt: str) -> dict[str, str]:
    """The prompt of every picture by its file name.

    ``file`` has lines of file name, tabulator and prompt; pictures that it lacks get ``prompt``.
    ValueError for another line.
    """
    found = {picture.name: prompt for picture in pictures}
    for line in file.read_text(encoding="utf-8").splitlines() if file else ():
        name, tab, text = line.partition("\t")
        if line.strip() and not tab:
            raise ValueError(f"{file} has the line {line!r}; expected FILE NAME, a tab, and PROMPT")
        if name in found:
            found[name] = text.strip()
    return found


class Book:
    """The numbers of every picture, kept in a file that is replaced as a whole."""

    def __init__(self, path: Path | None):
        """ValueError for a file that is not such a book."""
        self.path, self.rows = path, list[dict[str, Any]]()
        if path and path.exists():
            try:
                self.rows = json.loads(path.read_text())["paper"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} was not written by bench --paper: name another"
                ) from error

    def find(self, **key: str) -> dict[str, Any] | None:
        """The row with these values, if there is one."""
        return next((r for r in self.rows if all(r.get(k) == v for k, v in key.items())), None)

    def keep(self, row: dict[str, Any]) -> None:
        """Add a row, and write all of them."""
        self.rows.append(row)
        if self.path:
            part = self.path.with_name(f".{self.path.name}.part")
            part.write_text(json.dumps({"paper": self.rows}, indent=1))
            os.replace(part, self.path)


def duration(seconds: float) -> str:
    """In words, such as ``1 h 20 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class PaperBench:
    """Runs every entry on every task and picture that the book does not have yet."""

    def __init__(self, args: argparse.Namespace):
        """Loads the pictures' names, the prompts and the model. ValueError without ``--prior`` or
        ``--pictures``."""
        if not (args.prior and args.pictures):
            raise ValueError("bench --paper needs --prior MODEL and --pictures FOLDER")
        self.args, self.side = args, args.side or SIDE
        self.pictures = images.find_images([args.pictures])[: args.images]
        self.prompts = prompts_of(self.pictures, args.prompts, args.prompt or PROMPT)
        self.book = Book(args.out)
        self.prior = self._load()
        divided_by = self.prior.stride, *(n for task, n in TASKS.values() if task[:2] == "sr")
        if bad := [n for n in divided_by if self.side % n]:
            raise ValueError(f"--side is {self.side}; expected a multiple of {bad[0]}")
        self.entries = entries(args.methods, args.preset)
        self.operators: dict[str, Operator] = {
            task: recipe(task, self.side, args.seed).bind(
                (3, self.side, self.side), self.prior.device
            )
            for task in TASKS
        }
        self.lpips = lpips_of(self.prior.device, args.download)
        self.fid = fid_of(self.prior.device, args.download)
        if not isinstance(self.fid, str) and not args.save:
            self.fid = "FID is left out: it needs the pictures, --save FOLDER"
        for column in (self.lpips, self.fid):
            if isinstance(column, str):
                print(column, file=sys.stderr)

    def _load(self) -> DiffusersPrior:
        how = {key: getattr(self.args, key) for key in ("device", "dtype", "memory", "config")}
        try:
            return load_prior(self.args.prior, prompts=list(set(self.prompts.values())), **how)
        except NoTextEncoders as error:
            if self.args.prompt or self.args.prompts:
                raise
            print(f"no prompts are used: {error}", file=sys.stderr)
            self.prompts = dict.fromkeys(self.prompts, "")
            return load_prior(self.args.prior, **how)

    def key(self, picture: Path, task: str, entry: Entry) -> dict[str, str]:
        """What a row is found by again."""
        args, row = self.args, samplers.METHODS[entry.method]
        setting = [self.side, args.noise, args.seed, args.steps or row.steps, row.cfg]
        setting += [str(args.prior), args.dtype, self.prompts[picture.name], str(entry.settings)]
        return {
            "task": task,
            "entry": entry.name,
            "picture": picture.name,
            "setting": json.dumps(setting),
        }

    def run(self) -> None:
        """Restore what is left, picture by picture, and say how long the rest takes."""
        todo = [
            (picture, task, entry)
            for picture in self.pictures
            for task in TASKS
            for entry in self.entries
            if self.book.find(**self.key(picture, task, entry)) is None
        ]
        done = len(self.pictures) * len(TASKS) * len(self.entries) - len(todo)
        if done:
            print(f"{done} restorations are in {self.args.out} already", file=sys.stderr)
        clean: tuple[Path | None, Tensor] = None, torch.zeros(0)
        for k, (picture, task, entry) in enumerate(todo):
            if clean[0] != picture:
                clean = picture, own_picture(picture, self.side)
                self._save(clean[1], "clean", picture)
            row = self.restored(clean[1], picture, task, entry)
            self.book.keep(row)
            left = todo[k + 1 :]
            print(
                f"{task}, {entry.name}, {picture.name}: {row['psnr']:.2f} dB,"
                f" {row['seconds']:.1f} s; {len(left)} left, about"
                f" {duration(sum(self._expected(e) for _, _, e in left))}",
                file=sys.stderr,
                flush=True,
            )

    def _expected(self, entry: Entry) -> float:
        """Seconds of a restoration, as before; where the entry has not run, as the others."""
        own = [row["seconds"] for row in self.book.rows if row["entry"] == entry.name]
        return mean(own[-10:] or [row["seconds"] for row in self.book.rows])

    def _save(self, x: Tensor, folder: str, picture: Path) -> None:
        if self.args.save:
            path = self.args.save / folder / f"{picture.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            images.save_png(x, path)

    @torch.no_grad()
    def restored(self, x: Tensor, picture: Path, task: str, entry: Entry) -> dict[str, Any]:
        """One restoration and its numbers."""
        args, row = self.args, samplers.METHODS[entry.method]
        operator = self.operators[task]
        measurement = simulate(
            x.to(self.prior.device),
            operator,
            args.noise,
            generators(args.seed, "noise", [picture.name]),
        )
        self.prior.condition(self.prompts[picture.name], row.cfg)
        began = time.perf_counter()
        sample = samplers.sample(
            entry.method,
            self.prior,
            measurement,
            sigmas=row.levels(entry.settings, args.steps or row.steps),
            settings=entry.settings,
            generators=generators(args.seed, "sampling", [picture.name]),
        )
        found = samplers.finished(self.prior, sample, measurement, entry.settings)
        ratio = float(measurement.residual_ratio(found)[0])
        found = found.float().cpu()
        seconds = time.perf_counter() - began
        self._save(found, f"{task}, {entry.name}", picture)
        numbers = {"psnr": metrics.psnr(found, x), "ssim": metrics.ssim(found, x)}
        if not isinstance(self.lpips, str):
            numbers["lpips"] = self.lpips(found, x)
        return {
            **self.key(picture, task, entry),
            **numbers,
            "residual": ratio,
            "seconds": seconds,
        }

    def table(self) -> str:
        """Markdown: one row per task and entry, means over the pictures."""
        lpips, fid = (not isinstance(column, str) for column in (self.lpips, self.fid))
        columns = ["task", "method, preset", "pictures", "PSNR, dB", "SSIM"]
        columns += ["LPIPS"] * lpips + ["FID"] * fid + ["residual / noise", "s / picture"]
        lines = [_row(columns), "|---" * len(columns) + "|"]
        for task in TASKS:
            for entry in self.entries:
                keys = (self.key(picture, task, entry) for picture in self.pictures)
                rows = [row for key in keys if (row := self.book.find(**key))]
                if rows:
                    lines.append(_row(self._cells(task, entry, rows, lpips, fid)))
        return "\n".join(lines)

    def _cells(
        self, task: str, entry: Entry, rows: list[dict[str, Any]], lpips: bool, fid: bool
    ) -> list[str]:
        def average(name: str, digits: int) -> str:
            values = [row[name] for row in rows if name in row]
            return f"{mean(values):.{digits}f}" if len(values) == len(rows) else "–"

        cells = [task, entry.name, str(len(rows)), average("psnr", 2), average("ssim", 3)]
        if lpips:
            cells.append(average("lpips", 3))
        if fid and not isinstance(self.fid, str):
            folders = (self.args.save / name for name in (f"{task}, {entry.name}", "clean"))
            cells.append(f"{self.fid(*folders):.1f}")
        return [*cells, average("residual", 2), average("seconds", 2)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def run(args: argparse.Namespace) -> int:
    """Run, and print the table, also of a run that is interrupted."""
    paper = PaperBench(args)
    try:
        paper.run()
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on, with --out {args.out}", file=sys.stderr)
        print(paper.table())
        return 130
    print(paper.table())
    return 0
