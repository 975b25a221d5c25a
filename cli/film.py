"""``flowdps film``: restore a video, or a numbered sequence of pictures."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..operators import Cadence, Exposure, Fields, Recipe
from ..operators.registry import OVER_TIME
from ..operators.sensor import FIELDS
from ..restoration import images
from ..restoration.decision import Decision
from ..restoration.film import GRAIN, OF_FILMS, Treatment, film_restoring
from ..restoration.video import Source, check_target, finished, write
from . import arguments
from .request import content_of, prior_of, request_of, wish_of
from .results import digest, shown

FIXED = {
    **dict.fromkeys(("inputs", "out", "mask", "size", "width", "height", "step_size")),
    **dict.fromkeys(("engine", "ray_address", "workers", "server")),
    **{"samples": 1, "batch": 1, "observed": True},
}
"""Options of ``flowdps restore`` that a film has no use for, and what they are for it."""

RUN = "flowdps-film.json"
"""What makes the film, in the folder of one that is not finished."""
LOCK = ".flowdps.lock"


def rate(text: str) -> Fraction:
    """Frames per second, such as 25, 23.976 or 24000/1001."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no frame rate; expected a number such as 25")
    return value


def add_film_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``flowdps film``: its own, and those that it shares with ``restore``."""
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help="a video, a folder of pictures, or frame%%04d.png")
    add("target", type=Path, metavar="OUT", help="a new video, or a new folder for pictures")
    over_time = parser.add_mutually_exclusive_group()
    over_time.add_argument(
        "--fields",
        choices=FIELDS,
        help=f"the film is {OVER_TIME['fields'].description}; which field is the earlier one. The"
        " result has twice as many frames per second. Also by --wrong 'old video': top",
    )
    over_time.add_argument(
        "--exposure",
        type=int,
        metavar="FRAMES",
        help=f"the film is {OVER_TIME['exposure'].description}; how many. The result has as many"
        " times more frames per second",
    )
    over_time.add_argument(
        "--dropped",
        type=int,
        metavar="N",
        help="every Nth frame of the film is missing, and is made",
    )
    add("--flicker", action="store_true", help="make the brightness of the frames even")
    add(
        "--dust",
        action="store_true",
        help="mend dust that lasts one frame. Also by --wrong scratched",
    )
    add("--window", type=int, default=8, metavar="FRAMES", help="frames to restore at once")
    add(
        "--reach",
        type=int,
        default=3,
        metavar="FRAMES",
        help="up to how many frames before and after one are looked at for what they show of it;"
        " 0: each frame is restored from itself",
    )
    add("--rate", type=rate, metavar="FPS", help="frames per second of IN, if not as it says")
    add(
        "--same-rate",
        action="store_true",
        help="write as many frames per second as IN has, and leave out those between",
    )
    arguments.add_restore_arguments(parser, without=FIXED)


def over_time_of(args: argparse.Namespace) -> Recipe | None:
    """What happened to the film over time, as the arguments say; ValueError for bad numbers."""
    if args.exposure is not None:
        return Exposure(args.exposure)
    if args.dropped is not None:
        row = OVER_TIME[Cadence.name]
        return row.make(args.dropped)
    first = args.fields or (FIELDS[0] if OF_FILMS.get(args.wrong or "") == "fields" else None)
    return None if first is None else Fields(first)


def treatment_of(args: argparse.Namespace) -> Treatment:
    """How the film is restored; ValueError for contradictory options or values out of range."""
    over_time = over_time_of(args)
    if args.estimate and "jpeg" in args.estimate:
        raise ValueError("--estimate jpeg reads JPEG files: for a film, say --wrong 'bad JPEG'")
    dust = args.dust or OF_FILMS.get(args.wrong or "") == "dust"
    if isinstance(over_time, Exposure) and dust:
        raise ValueError("--dust cannot be told from motion in a long exposure: leave one out")
    # Of fields, the grain can be told, and no blur: their rows are of two instants.
    unsaid = args.wrong is None and isinstance(over_time, Fields)
    stated = args.task or args.estimate or args.kernel
    if args.wrong in OF_FILMS or (unsaid and not stated):
        args.wrong = GRAIN
    request, damage = request_of(args)
    wish = wish_of(args)
    decision = None if wish is None else Decision(wish, damage, args.steps)
    return Treatment(
        request, over_time, args.flicker, dust, damage, decision, args.window, args.reach
    )


def run_of(args: argparse.Namespace, source: Source) -> str:
    """The same for films of one content, made in one way."""
    given = {k: str(v) for k, v in vars(args).items() if k not in ("source", "target", "verb")}
    files = source.files or (source.path,)
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    models = [content_of(name) for name in (args.prior, args.config, args.tiny_vae, args.kernel)]
    return digest(json.dumps([given, stats, models, __version__], sort_keys=True).encode())


@contextlib.contextmanager
def unfinished(target: Path, run: str) -> Iterator[Path]:
    """The folder in which ``run`` makes a film, with what is finished of it.

    It is in NAME.unfinished beside the film, where one process works at a time, and is gone once
    the film is complete, or where nothing was finished. ValueError where that is of another run, or
    is no such folder.
    """
    work = target.with_name(f"{target.name}.unfinished")
    made, mark, lock = work / "film", work / RUN, FileLock(work / LOCK, timeout=0)
    ours = not work.exists() or mark.is_file() or not any(map(_visible, work.iterdir()))
    if not ours or (finished(made) and mark.read_text("utf-8") != run):
        raise ValueError(
            f"{work} has the beginning of another film, or of this one with other options: finish"
            " that with the same command, remove it, or choose another name"
        )
    work.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"another run is making {target}") from error
    try:
        images.write_file(mark, run.encode())
        yield made
    finally:
        lock.release()
        if target.exists() or not finished(made):
            shutil.rmtree(work, ignore_errors=True)


def _visible(file: Path) -> bool:
    return not file.name.startswith(".flowdps")


def run_film(args: argparse.Namespace) -> int:
    """``flowdps film``. What is given is checked before the model is loaded."""
    for name, value in FIXED.items():
        setattr(args, name, value)
    treatment = treatment_of(args)
    source = Source.of(args.source, args.rate)
    check_target(args.target)
    every = Fraction(treatment.rate).limit_denominator(1000)
    each = every if args.same_rate else Fraction(1)  # Of so many restored frames, one is written.
    sound = source.path if source.sound and args.target.suffix else None
    with (
        unfinished(args.target, run_of(args, source)) as work,
        tqdm(total=source.count or None, unit="frame", disable=None, leave=False) as bar,
    ):
        there = finished(work)
        if there:
            tqdm.write(f"{there} frames were finished before; going on with the next")
        restoring = film_restoring(treatment, prior_of(args), lambda x: tqdm.write(shown(x)))

        def read() -> Iterator[Tensor]:
            for frame in source.frames():
                yield frame
                bar.update()

        frames = thinned(restoring(read(), math.ceil(there * each)), each, there)
        count = write(args.target, frames, source.rate * every / each, sound, work)
    if not count:
        raise ValueError(f"{args.source} holds no frame")
    sound_too = ", with its sound" if sound else ""
    print(
        f"{count} frames in {restoring.shots} shot{'s' * (restoring.shots > 1)}{sound_too}:"
        f" {shown(str(args.target))}"
    )
    return 0


def thinned(frames: Iterable[Tensor], every: Fraction, written: int) -> Iterator[Tensor]:
    """Of ``every`` frames one, evenly, beginning with the first; ``written`` of them were there
    before, and ``frames`` are those after."""
    for k, frame in enumerate(frames, math.ceil(written * every)):
        if k >= written * every:
            written += 1
            yield frame
