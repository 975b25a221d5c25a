"""Runs of ``flowdps`` that are killed at random instants, and one that ends.

python killed.py SEED KILLS SECONDS [ARGUMENTS]

SECONDS is how long an undisturbed run takes: every kill comes at a random instant of what is left
of it, and the first run that comes to its end is the last one. The model is loaded once; every run
is a fork of this process. Prints how many runs were killed, and how long the last one took.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from comfyui_flowdps.cli.command import main
from comfyui_flowdps.priors import diffusers
from comfyui_flowdps.restoration import video


def started(arguments: list[str]) -> int:
    """A child that runs ``arguments``."""
    child = os.fork()
    if child == 0:
        os._exit(main(arguments))
    return child


def run() -> int:
    seed, kills, left, arguments = *map(int, sys.argv[1:3]), float(sys.argv[3]), sys.argv[4:]
    prior = diffusers.load_prior(device="cpu")
    diffusers.load_prior = lambda *_, **__: prior
    video.PART = 4  # So that a short film has several.
    drawn, killed, code = random.Random(seed), 0, None
    for _ in range(kills):
        child = started(arguments)
        lasts = drawn.uniform(0, left)
        until, code = time.monotonic() + lasts, None
        while time.monotonic() < until and code is None:
            done, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if done else None
            time.sleep(0.002)
        if code is not None:
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1
        left -= lasts
    else:
        code = None
    begun = time.monotonic()
    if code is None:
        code = os.waitstatus_to_exitcode(os.waitpid(started(arguments), 0)[1])
    print("killed", killed, "seconds", time.monotonic() - begun, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(run())
