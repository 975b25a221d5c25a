"""The command ``flowdps``: restore photos, or benchmark the methods."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ..priors.base import is_out_of_memory
from .arguments import parse
from .folders import folder_at, is_same, list_photos
from .request import engine_of, task_for
from .results import shown
from .runs import Restoring


def run_restore(args: argparse.Namespace) -> int:
    """``flowdps restore``. What is given is listed before anything is written."""
    out = folder_at(args.out)
    if isinstance(out, Path) and ".." in out.parts:
        # Otherwise, to make a/../b would make a as well. Path.resolve raises for a link to itself.
        out = Path(os.path.realpath(out))
    task = task_for(args)
    engine = engine_of(args, task)
    if any(is_same(each, out) for each in args.inputs):
        raise ValueError(f"--out is {out}, an input as well; choose another folder for results")
    if isinstance(out, Path) and out.exists() and not out.is_dir():
        raise ValueError(f"--out is {out}, a file; expected a folder")
    files, wrong = list_photos(args.inputs)
    code = 0
    if files:
        try:
            restoring = Restoring(task, engine, out)
        except OSError as error:
            raise ValueError(
                f"--out is {out}, where nothing can be written"
                f" ({error.strerror or error}); choose another folder"
            ) from error
        with warnings.catch_warnings():
            # Several threads read at once, and what each of them ignores is not its own.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            code = restoring.run(files)
    for sentence in wrong:
        tell(sentence)
    return 2 if wrong else code


def tell(sentence: object) -> None:
    """Print one line on standard error; a console that is gone ends nothing."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"flowdps: {shown(str(sentence))}", file=sys.stderr, flush=True)


def unlimited(*streams: object) -> None:
    """Let ``streams`` print any name: what their code page lacks is escaped."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def settle(*streams: object) -> None:
    """Print what ``streams`` still hold. If a console is gone, it is dropped here: at its exit,
    Python would tell of it, and end with a code of its own.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            try:
                stream.flush()
            except (OSError, ValueError):
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run_bench(args: argparse.Namespace) -> int:
    """``flowdps bench``."""
    from .. import benchmarks

    return benchmarks.run(args)


def run_film(args: argparse.Namespace) -> int:
    """``flowdps film``."""
    from .film import run_film

    return run_film(args)


RUNS = {"restore": run_restore, "film": run_film, "bench": run_bench}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 on success, 2 for bad input, 130 when interrupted."""
    unlimited(sys.stdout, sys.stderr)
    # Of a damaged file, Pillow's decoders tell the log what its exception says again.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
        return run(parse(arguments))
    finally:
        settle(sys.stdout, sys.stderr)


def run(args: argparse.Namespace) -> int:
    """What the verb does, with every failure in one sentence."""
    try:
        return RUNS[args.verb](args)
    except (ValueError, OSError) as error:
        tell(error)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        tell("out of memory: choose a smaller --tile, --size or --batch")
        return 2
    except KeyboardInterrupt:
        rest = "frames" if args.verb == "film" else "photos"
        tell(f"stopped; run it again to restore the remaining {rest}")
        return 130


if __name__ == "__main__":
    sys.exit(main())
