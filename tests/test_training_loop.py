"""What every training promises: a plan that is kept, and interruptions that change nothing."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from comfyui_flowdps.training.loop import PACE, Run, optimisers, orthogonalise


def tiny_run(folder, **plan) -> Run:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    return Run("tiny", folder, model, optimisers([model.weight], [model.bias], 0.02, 1e-3), **plan)


def advance(run: Run, steps: int) -> None:
    for _ in range(steps):
        x = torch.randn(8, 4, generator=run.generator)
        (run.model(x) - 2 * x).square().mean().backward()
        run.update()


def assert_same(a: Run, b: Run) -> None:
    for key, value in a.model.state_dict().items():
        assert torch.equal(b.model.state_dict()[key], value)
        assert torch.equal(b.ema[key], a.ema[key])


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path, capsys):
    whole = tiny_run(tmp_path / "a", steps=80)
    advance(whole, 80)
    first = tiny_run(tmp_path / "b", steps=80)
    advance(first, 50)
    first.save()
    advance(first, 1)  # Not saved: a killed process loses it.
    again = tiny_run(tmp_path / "b", steps=80)
    assert "resumed at step 50" in capsys.readouterr().out
    advance(again, 30)
    assert again.finished
    assert_same(whole, again)


def test_a_plan_can_be_lengthened_before_its_cooldown(tmp_path):
    whole = tiny_run(tmp_path / "a", steps=200, cooldown=0.3)
    advance(whole, 200)
    first = tiny_run(tmp_path / "b", steps=100, cooldown=0.3)
    advance(first, 70)
    first.save()
    again = tiny_run(tmp_path / "b", steps=200, cooldown=0.3)
    advance(again, 130)
    assert_same(whole, again)


def test_the_rate_rises_stays_and_falls_to_nothing(tmp_path):
    run = tiny_run(tmp_path, steps=1000, cooldown=0.3)
    rates = []
    for run.step in range(1001):
        rates.append(run.rate())
    assert rates[0] == 0.02
    assert rates[60] == rates[700] == 1
    assert rates[850] == pytest.approx(0.5)
    assert rates[1000] == pytest.approx(0)


def test_minutes_become_steps_at_the_pace_of_the_first_ones(tmp_path, monkeypatch, capsys):
    # A clock that ticks a second a look, and every step looks once.
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    run = tiny_run(tmp_path, minutes=2)
    assert run.progress == 0
    advance(run, PACE[1])
    assert (run.pace, run.steps) == (1, 120)
    assert "120 steps of 1.00 s, 2 minutes" in capsys.readouterr().out
    run.save()
    again = tiny_run(tmp_path, minutes=2)
    assert (again.step, again.steps) == (PACE[1], 120)
    longer = tiny_run(tmp_path, minutes=3)
    assert longer.steps == 180


def test_a_run_needs_one_plan(tmp_path):
    with pytest.raises(ValueError, match="steps or minutes"):
        tiny_run(tmp_path)
    with pytest.raises(ValueError, match="got 3 and 2"):
        tiny_run(tmp_path, steps=3, minutes=2)


def test_the_log_holds_a_line_per_call(tmp_path, capsys):
    run = tiny_run(tmp_path, steps=1)
    advance(run, 1)
    run.log(loss=1.23456, gain={"0.1": -0.55555})
    assert "step=1" in capsys.readouterr().out
    (line,) = (tmp_path / "tiny.log.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] == 1.2346
    assert json.loads(line)["gain"] == {"0.1": -0.5555} or json.loads(line)["gain"] == {
        "0.1": -0.5556
    }


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_orthogonalising_leaves_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrix, steps=8))
    assert 0.6 < float(values.min()) < float(values.max()) < 1.3
