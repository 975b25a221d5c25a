"""Whoever waits for an estimator is told how far it is, in time, and can stop it."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves, noisy
from comfyui_flowdps.estimation.example import operator_from_example
from comfyui_flowdps.estimation.progress import Progress
from comfyui_flowdps.estimation.registry import Photo, estimate
from comfyui_flowdps.estimation.rounding import rounded_away
from comfyui_flowdps.estimation.scratches import find_scratches
from comfyui_flowdps.operators import GaussianBlur, Identity, Jpeg
from comfyui_flowdps.restoration.diagnosis import Wish, diagnose
from comfyui_flowdps.restoration.film import looked_at
from comfyui_flowdps.restoration.pipeline import Request
from comfyui_flowdps.samplers import METHODS


class Stopped(Exception):
    pass


SCENE = dead_leaves(96, 3)
REQUEST = Request(Identity(), "refine", METHODS["refine"].preset("fast"), 3, observed=True)
WORK = {
    "noise": lambda x, progress: estimate("noise", Photo(x, progress=progress)),
    "blur": lambda x, progress: estimate("blur", Photo(x, progress=progress)),
    "free": lambda x, progress: estimate("free", Photo(x, kernel_size=9, progress=progress)),
    "example": lambda x, progress: operator_from_example(x, 0.9 * x, 5, progress),
    "film": lambda x, progress: looked_at([x, x], Wish("blurred"), REQUEST, progress),
    "scratches": lambda x, progress: find_scratches(x, progress=progress),
    "rounding": lambda x, progress: rounded_away(Jpeg(20), x.tile(8, 1, 2, 2), progress),
    "diagnosis": lambda x, progress: diagnose(x, Wish("several at once"), progress=progress),
}


@pytest.mark.parametrize("name", WORK)
def test_the_part_that_is_done_rises_and_an_exception_stops_the_work(name):
    heard = []
    WORK[name](SCENE, Progress(heard.append))
    assert heard == sorted(heard)
    assert heard[0] >= 0
    assert heard[-1] <= 1
    assert heard[-1] >= 0.5

    def stop(done: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        WORK[name](SCENE, Progress(stop))


def test_an_operation_that_cannot_be_interrupted_is_left_at_once():
    """Cancelled while it runs: the exception comes long before its end, and it ends unheard."""
    going, ended = threading.Event(), threading.Event()

    def work() -> None:
        going.set()
        assert not torch.is_grad_enabled()
        time.sleep(2)
        ended.set()

    def stop(done: float) -> None:
        assert going.wait(1)
        raise Stopped

    start = time.monotonic()
    with pytest.raises(Stopped):
        Progress(stop).during(work)
    assert time.monotonic() - start < 1
    assert not ended.is_set()
    assert ended.wait(5)


def test_what_an_operation_gives_or_raises_is_passed_on():
    for progress in (Progress(), Progress(lambda done: None)):
        assert progress.during(lambda: 7) == 7
        with pytest.raises(ValueError, match="too small"):
            progress.during(lambda: int("too small"))


@pytest.mark.parametrize("name", ["blur", "free"])
def test_a_photo_is_never_silent_for_half_a_second(name):
    """In processor time, so that other programs do not count."""
    x = noisy(
        GaussianBlur(13, 2.0).bind((3, 600, 800)).A(torch.rand(1, 3, 600, 800) * 2 - 1), 0.01, 1
    )
    last, gaps = time.process_time(), []

    def hear(done: float) -> None:
        nonlocal last
        now = time.process_time()
        gaps.append(now - last)
        last = now
        if len(gaps) == 60:
            raise Stopped

    with pytest.raises(Stopped):
        estimate(name, Photo(x, kernel_size=61, progress=Progress(hear)))
    assert max(gaps) < 0.5


def test_a_piece_of_the_work_is_told_as_its_share():
    heard = []
    piece = Progress(heard.append).part(0.5, 1).part(0, 0.5)
    for done in (0, 1, None, 7):
        piece(done)
    assert heard == pytest.approx([0.5, 0.75, 0.75, 0.75])
