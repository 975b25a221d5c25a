"""The benchmark's tasks: all degradations, each with something that classical methods can take."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps import benchmarks
from comfyui_flowdps.benchmarks.results import BLIND, Result, interval, summary
from comfyui_flowdps.benchmarks.tasks import PAPER, TASKS, found_in
from comfyui_flowdps.samplers import classical


def test_those_of_the_paper_come_first():
    assert list(TASKS)[: len(PAPER)] == PAPER
    assert len(PAPER) == 4


@pytest.mark.parametrize("task", TASKS)
def test_a_measurement_looks_like_a_picture_and_suits_the_baselines(task):
    x = benchmarks.pictures("tune", 1)
    measurement = benchmarks.measure(x, task, 0.03, seed=0)
    how, picture = benchmarks.measurement_picture(measurement)
    assert picture.shape == x.shape
    assert (how == "bicubic") == ("x" in task.split()[-1][:1])
    assert not torch.allclose(picture, x, atol=0.01)
    restored = classical.wiener(benchmarks.classical_measurement(measurement), 0.01)
    assert restored.shape == x.shape
    assert bool(restored.isfinite().all())


@pytest.mark.parametrize(
    ("degraded", "classical", "own", "verdict"),
    [
        (20, 25, 30, "yes"),
        (20, 30, 25, "no"),
        (20, 25, 25.05, "level"),
        (25, 24, 25.05, "not improved"),
        (25, 30, 20, "not improved"),
    ],
)
def test_the_summary_says_where_it_is_better_and_where_not(degraded, classical, own, verdict):
    spread = [-0.02, 0.01, 0.02, -0.01]
    means = {"degraded": degraded, "Wiener": 10, "total variation": classical, "flowdps": own}
    rows = [
        Result("blur", method, [mean + d * (k + 1) for d in spread], [], [], 0.0, 0, 0)
        for k, (method, mean) in enumerate({**means, BLIND.format("flowdps"): 21}.items())
    ]
    line = summary(rows).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    best = max(degraded, classical)
    assert cells[:3] == ["blur", f"{degraded:.2f}", f"{best:.2f}"]
    assert cells[5].startswith(f"{own - degraded:+.2f} ± 0.0")
    assert cells[6].startswith(f"{own - best:+.2f} ± 0.0")
    assert cells[7:] == [verdict, "21.00"]


def test_the_interval_is_student_s():
    """Of 1, 2, 3: mean 2, standard error 1 / √3, quantile 4.303 of two degrees of freedom."""
    centre, half = interval([1.0, 2.0, 3.0])
    assert centre == 2
    assert half == pytest.approx(4.3027 / 3**0.5, rel=1e-4)


@pytest.mark.parametrize("task", [name for name, case in TASKS.items() if case.blind])
def test_a_blind_run_finds_a_degradation_that_fits(task):
    """Of the measurement alone: an operator of its size, and the noise."""
    x = benchmarks.pictures("tune", 1)
    measurement = benchmarks.measure(x, task, 0.03, seed=0)
    recipe, level = found_in(measurement.y, TASKS[task], seed=0)
    assert recipe.bind(measurement.operator.in_shape).out_shape == measurement.operator.out_shape
    assert level == pytest.approx(0.03, abs=0.005)
