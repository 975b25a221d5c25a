"""The benchmark's tasks: all degradations, each with something that classical methods can take."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps import baselines, bench
from comfyui_flowdps.bench.tasks import TASKS
from comfyui_flowdps.operators import REGISTRY, Chain


def names(recipe) -> set[str]:
    if isinstance(recipe, Chain):
        return {name for each in recipe.recipes for name in names(each)}
    return {recipe.name}


def test_every_degradation_is_measured():
    """All but ``sr_area``, which is ``sr_avgpool``."""
    measured = {name for task in TASKS.values() for name in names(task.recipe(0))}
    assert measured | {"sr_area"} == set(REGISTRY)


@pytest.mark.parametrize("task", TASKS)
def test_a_measurement_looks_like_a_picture_and_suits_the_baselines(task):
    x = bench.pictures("tune", 1)
    measurement = bench.measure(x, task, 0.03, seed=0)
    how, picture = bench.looks(measurement)
    assert picture.shape == x.shape
    assert (how == "bicubic") == ("x" in task.split()[-1][:1])
    assert not torch.allclose(picture, x, atol=0.01)
    restored = baselines.wiener(bench.classical(measurement), 0.01)
    assert restored.shape == x.shape
    assert bool(restored.isfinite().all())
