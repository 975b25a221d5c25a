"""``--engine ray``: nothing is lost when workers die, in a stand-in for Ray and in Ray itself."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from comfyui_flowdps.benchmarks.attack import Still
from comfyui_flowdps.cli import request
from comfyui_flowdps.cli.engines import cluster

from .test_command import records, restore
from .test_many import CHEAP
from .test_results import photo, pictures

__all__ = ["photo"]


class Died(Exception):
    """As Ray's RayError."""


class Raised(Died):
    """As Ray's RayTaskError."""


class Actor:
    """A worker in a thread; ``dies`` says of each call whether the worker dies in it."""

    def __init__(self, kind: Callable[..., Any], given: tuple[Any, ...], dies: Any):
        self.kind, self.given, self.dies, self.dead = kind, given, dies, threading.Event()
        self.worker: Any = None
        self.guard = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: Ref(self, name, given))

    def call(self, name: str, given: tuple[Any, ...]) -> Any:
        with self.guard:
            if self.worker is None:
                self.worker = self.kind(*self.given)
        if self.dies(name, *given):
            self.dead.set()
        return getattr(self.worker, name)(*given)


class Ref:
    """A call that is on its way."""

    def __init__(self, actor: Actor, name: str, given: tuple[Any, ...]):
        self.actor, self.done = actor, threading.Event()
        self.value: Any = None
        self.error: Exception | None = None
        threading.Thread(target=self.run, args=(name, given), daemon=True).start()

    def run(self, name: str, given: tuple[Any, ...]) -> None:
        try:
            self.value = self.actor.call(name, given)
        except Exception as error:
            self.error = Raised(f"trace\n{error}")
        self.done.set()

    @property
    def ready(self) -> bool:
        return self.done.is_set() or self.actor.dead.is_set()

    def get(self) -> Any:
        if self.actor.dead.is_set():
            raise Died("the actor died")
        if self.error is not None:
            raise self.error
        return self.value


def stand_in(dies: Callable[..., bool]) -> ModuleType:
    """As much of Ray as the engine needs."""
    ray: Any = ModuleType("ray")
    ray.started, ray.open, ray.actors = [], 0, []

    def init(address: str, **options: Any) -> None:
        ray.started.append((address, options))
        ray.open += 1

    def shutdown() -> None:
        ray.open -= 1

    def remote(kind: Callable[..., Any]) -> Any:
        def made(*given: Any) -> Actor:
            ray.actors.append(Actor(kind, given, dies))
            return ray.actors[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=made))

    def wait(refs: list[Ref], timeout: float) -> tuple[list[Ref], list[Ref]]:
        until = time.monotonic() + timeout
        while not (done := [ref for ref in refs if ref.ready]) and time.monotonic() < until:
            time.sleep(0.002)
        return done[:1], []

    ray.init, ray.shutdown, ray.remote, ray.wait = init, shutdown, remote, wait
    ray.kill = lambda actor: actor.dead.set()
    ray.put, ray.get = lambda value: value, lambda ref: ref.get()
    ray.cluster_resources = lambda: {"CPU": 2.0}
    ray.exceptions = SimpleNamespace(RayError=Died, RayTaskError=Raised)
    return ray


@pytest.fixture
def ray(monkeypatch):
    """Makes ``import ray`` give a stand-in whose workers die as told, with a prior that costs
    nothing."""
    monkeypatch.setattr(request, "prior_of", lambda _: Still())

    def make(dies: Callable[..., bool] = lambda *_: False) -> Any:
        found = stand_in(dies)
        monkeypatch.setitem(sys.modules, "ray", found)
        return found

    return make


@pytest.fixture
def folder(photo):
    """Thirty small photos of two sizes."""
    files = [photo(f"{k:02}.png", shift=k, size=(16, 16 + 8 * (k % 2))) for k in range(30)]
    return files[0].parent


ON_RAY = (*CHEAP, "--engine", "ray", "--workers", 3)


def test_files_names_and_log_are_those_of_the_plain_run(tmp_path, folder, ray, capsys):
    there = ray()
    assert restore(folder, *CHEAP, "--out", tmp_path / "plain") == 0
    assert there.started == []
    assert restore(folder, *ON_RAY, "--out", tmp_path / "ray") == 0
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "plain")
    logs = [{each["run"]: each for each in records(tmp_path / name)} for name in ("ray", "plain")]
    assert logs[0] == logs[1]
    assert (len(there.actors), there.open) == (3, 0)
    capsys.readouterr()
    assert restore(folder, *ON_RAY, "--out", tmp_path / "ray") == 0
    assert "30 finished before" in capsys.readouterr().out
    assert len(there.started) == 1, "nothing is left to do, and no cluster is joined"


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_done_twice_where_workers_die_at_random(tmp_path, folder, ray, seed):
    """In every third call, also while the model is loaded; every photo is done all the same, as
    deaths that a photo has no part in seldom meet it alone so often."""
    drawn = random.Random(seed)
    deaths = itertools.count()
    there = ray(lambda *_: drawn.random() < 0.35 and next(deaths) >= 0)
    assert restore(folder, *CHEAP, "--out", tmp_path / "plain") == 0
    code = restore(folder, *ON_RAY, "--out", tmp_path / "ray")
    assert next(deaths) > 1
    found, wanted = pictures(tmp_path / "ray"), pictures(tmp_path / "plain")
    assert len(records(tmp_path / "ray")) == len(found) / 3
    if code == 0:
        assert found == wanted
    else:
        assert found.items() < wanted.items()
        ray()
        assert restore(folder, *ON_RAY, "--out", tmp_path / "ray") == 0
        assert pictures(tmp_path / "ray") == wanted
    assert len(records(tmp_path / "ray")) == 30
    assert there.open == 0


def test_a_photo_that_kills_workers_is_set_aside_and_the_others_are_done(
    tmp_path, folder, ray, capsys
):
    def dies(name, *given):
        return name == "restored" and any(job.name == "07.png" for job in given[0])

    there = ray(dies)
    assert restore(folder, *ON_RAY, "--out", tmp_path / "ray") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "07.png: 3 workers died on it, and it is set aside" in line
    assert len(records(tmp_path / "ray")) == 29
    assert len(there.actors) == 3 + 1 + cluster.TRIES


def test_workers_that_die_while_they_load_end_the_run(tmp_path, folder, ray, capsys):
    there = ray(lambda name, *_: name == "load")
    assert restore(folder, *ON_RAY, "--out", tmp_path / "ray") == 2
    assert "workers in a row died while they loaded the model" in capsys.readouterr().err
    assert there.open == 0


def test_a_model_that_cannot_be_loaded_is_told_in_its_own_words(
    tmp_path, folder, ray, capsys, monkeypatch
):
    def none(_):
        raise ValueError("no such model")

    there = ray()
    monkeypatch.setattr(request, "prior_of", none)
    assert restore(folder, *ON_RAY, "--out", tmp_path / "ray") == 2
    assert capsys.readouterr().err.strip() == "flowdps: no such model"
    assert there.open == 0


def test_ctrl_c_ends_the_cluster_and_the_next_run_goes_on(tmp_path, folder, ray, monkeypatch):
    from comfyui_flowdps.cli.command import main

    there = ray()
    real, calls = there.wait, itertools.count()

    def wait(*given, **more):
        if next(calls) == 6:
            raise KeyboardInterrupt
        return real(*given, **more)

    there.wait = wait
    words = [str(word) for word in (*ON_RAY, "--out", tmp_path / "ray")]
    assert main(["restore", str(folder), *words]) == 130
    assert there.open == 0
    assert all(actor.dead.is_set() for actor in there.actors)
    ray()
    assert restore(folder, *ON_RAY, "--out", tmp_path / "ray") == 0
    assert restore(folder, *CHEAP, "--out", tmp_path / "plain") == 0
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "plain")
    assert len(records(tmp_path / "ray")) == 30


def test_no_more_photos_are_in_flight_than_workers_can_have(tmp_path, folder, ray):
    most, guard, there = [0, 0], threading.Lock(), None

    def dies(name, *given):
        if name == "restored":
            with guard:
                most[0] += len(given[0])
                most[1] = max(most)
            time.sleep(0.05)
            with guard:
                most[0] -= len(given[0])
        return False

    there = ray(dies)
    assert restore(folder, *ON_RAY[:-1], 1, "--out", tmp_path / "ray") == 0
    assert 1 < most[1] <= cluster.AT_ONCE * cluster.MOST
    assert there.started[0][1]["num_cpus"] >= 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--workers", -1), "--workers is -1; expected 0"),
        ((), '--engine ray needs Ray: pip install "flowdps[ray]"'),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, folder, ray, monkeypatch, capsys, words, told):
    ray()
    if not words:
        monkeypatch.setitem(sys.modules, "ray", None)
    assert restore(folder, *CHEAP, "--engine", "ray", *words, "--out", tmp_path / "o") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_workers_of_ray_itself_are_killed_and_nothing_is_lost():
    """The benchmark in small; with more kills: python -m comfyui_flowdps.benchmarks.many."""
    pytest.importorskip("ray", reason="Ray is not installed: its own workers are not tested")
    words = ["--kills", "2", "--photos", "24", "--workers", "2"]
    command = [sys.executable, "-m", "comfyui_flowdps.benchmarks.many", *words]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 kills in all" in run.stdout
    assert "0 lost, 0 too many, 0 differ" in run.stdout
