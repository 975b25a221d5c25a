"""The command ``flowdps``: restore photos, or benchmark the methods."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..priors.base import is_out_of_memory
from ..restoration import images
from .arguments import parse
from .request import run_of
from .runs import Restoring


def run_restore(args: argparse.Namespace) -> int:
    """``flowdps restore``."""
    run = run_of(args)
    files = images.find_images(args.inputs)
    missing = [file for file in files if not file.exists()]
    if missing:
        raise ValueError(f"no such file: {missing[0]}")
    if args.out.resolve() in {Path(given).resolve() for given in args.inputs}:
        raise ValueError(
            f"--out is {args.out}, an input as well; choose another folder for results"
        )
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"--out is {args.out}, a file; expected a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    return Restoring(run).run(files)


def run_bench(args: argparse.Namespace) -> int:
    """``flowdps bench``."""
    from .. import benchmarks

    return benchmarks.run(args)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 on success, 2 for bad input, 130 when interrupted."""
    args = parse(arguments)
    try:
        return run_restore(args) if args.verb == "restore" else run_bench(args)
    except (ValueError, OSError) as error:
        print(f"flowdps: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print("flowdps: out of memory: choose a smaller --tile, --size or --batch", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("flowdps: stopped; run it again to restore the remaining photos", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
