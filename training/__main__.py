"""Train a prior on a folder of pictures: ``python -m comfyui_flowdps.training --images FOLDER``.

The result is one file, which ComfyUI's CheckpointLoaderSimple and ``flowdps --prior FILE`` load.
A run that was stopped goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import flow, photos, prior
from .taesd import STRIDE


def parser() -> argparse.ArgumentParser:
    """The command line; times are minutes of training without the encoding of pictures."""
    top = argparse.ArgumentParser(
        prog="python -m comfyui_flowdps.training",
        description="Train a prior on a folder of your own pictures.",
    )
    add = top.add_argument
    add("--images", type=Path, required=True, help="folder of pictures, with the folders in it")
    add("--out", type=Path, default=Path("prior.safetensors"), help="file to write")
    time = top.add_mutually_exclusive_group()
    time.add_argument("--minutes", type=float, default=60.0, help="how long to train (60)")
    time.add_argument("--steps", type=int, help="how many steps to train")
    add(
        "--start",
        type=Path,
        required=True,
        help="prior to begin with; its autoencoder is kept. A folder with the files taesd3_encoder"
        " and taesd3_decoder gives an autoencoder alone, and a flow is trained from scratch",
    )
    add("--from-scratch", action="store_true", help="keep the autoencoder alone of --start")
    add("--work", type=Path, default=Path("runs"), help="folder of latents, state and log (runs)")
    add("--held-out", nargs="*", default=(), help="patterns of pictures to measure on, not train")
    add("--exclude", nargs="*", default=(), help="patterns of pictures to leave out")
    add("--layers", type=int, default=4, help="of a flow from scratch: 4 make a file of 25 MB")
    add("--side", type=int, default=128, help="pixels a side of most crops (128)")
    add("--batch", type=int, default=64, help="such crops per step (64)")
    add("--measure", type=int, default=128, help="held-out crops to measure on (128)")
    add("--windows", type=int, default=50, help="pictures that are encoded at a time (50)")
    add("--shards", type=int, default=120, help="how many times, at most, while it trains (120)")
    add("--write-only", action="store_true", help="write the file of a run as it is now")
    return top


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    plan = flow.Plan(
        steps=args.steps,
        minutes=args.minutes if args.steps is None else None,
        layers=args.layers,
        side=args.side // STRIDE,
        cells=args.batch * (args.side // STRIDE) ** 2,
        held_out=args.measure,
        windows=args.windows,
        first_shards=min(4, args.shards),
        shards=args.shards,
    )
    try:
        autoencoder = prior.read_autoencoder(args.start)
        if args.write_only:
            model = flow.read(args.work)
        else:
            scratch = args.from_scratch or args.start.is_dir()
            start = None if scratch else prior.read_flow(args.start)
            train, held_out = photos.load(args.images, args.held_out, args.exclude)
            print(f"{len(train)} pictures to train on, {len(held_out)} to measure on", flush=True)
            model = flow.train(args.work, autoencoder, train, held_out, plan, start)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    prior.write(args.out, model, autoencoder, title=args.out.stem)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
