"""The tables of Find Scratches are what their script makes."""

from __future__ import annotations

from pathlib import Path

import comfyui_flowdps
import pytest
import torch
from comfyui_flowdps.estimation.scratches import find_scratches, weights
from comfyui_flowdps.training import scratches
from comfyui_flowdps.training.scratches_data import crop, damage

TUNE = Path(comfyui_flowdps.__file__).parent / "benchmarks" / "pictures" / "photos" / "tune"
FILES = sorted(TUNE.glob("*.webp"))


def test_a_short_training_makes_tables_of_the_same_shapes(monkeypatch, capsys):
    monkeypatch.setattr(scratches, "STEPS", 20)
    made = scratches.train(FILES[:3])
    assert {key: value.shape for key, value in made.items()} == {
        key: value.shape for key, value in weights().items()
    }
    assert capsys.readouterr().out.count("precision") == 4


def test_a_network_learns_what_is_linear():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 5, generator=generator)
    label = (features[:, 1] - features[:, 3] > 0.5).float()
    table = {f"it.{key}": value for key, value in scratches.fit(features, label, generator).items()}
    odds = scratches.judged("it", features, table)
    assert float(((odds > 0) == (label > 0)).float().mean()) > 0.98
    assert scratches.precision(odds, label, 0.9) > 0.98


@pytest.mark.parametrize("seed", range(6))
def test_a_photo_is_changed_where_it_is_said_to_be(seed):
    x = crop(FILES[seed], torch.Generator().manual_seed(seed))
    damaged = damage(x, seed)
    assert damaged.photo.shape == x.shape
    changed = damaged.change > 0.05
    said = torch.maximum(damaged.mask, damaged.dust)
    near = torch.nn.functional.max_pool2d(said[None], 9, 1, 4)[0] > 0
    assert not bool((changed & ~near).any())
    assert find_scratches(damaged.photo[None]).shape == damaged.mask.shape
