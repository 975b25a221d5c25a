"""Runs of ``flowdps restore`` that are killed at random instants, and one that ends.

python killed.py SEED KILLS [ARGUMENTS OF RESTORE]

The model is loaded once; every run is a fork of this process. Prints how many runs were killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from comfyui_flowdps.cli.command import main
from comfyui_flowdps.priors import diffusers


def started(arguments: list[str]) -> int:
    """A child that runs ``arguments``."""
    child = os.fork()
    if child == 0:
        os._exit(main(arguments))
    return child


def run() -> int:
    seed, kills, arguments = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    prior = diffusers.load_prior(device="cpu")
    diffusers.load_prior = lambda *_, **__: prior
    drawn, killed = random.Random(seed), 0
    for _ in range(kills):
        child = started(arguments)
        until = time.monotonic() + drawn.uniform(0, 2.5)
        code = None
        while time.monotonic() < until and code is None:
            done, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if done else None
            time.sleep(0.002)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
    print("killed", killed, flush=True)
    return os.waitstatus_to_exitcode(os.waitpid(started(arguments), 0)[1])


if __name__ == "__main__":
    sys.exit(run())
