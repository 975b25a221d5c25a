"""Compare Samples makes of a batch what the library makes of it."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks import pictures
from comfyui_flowdps.operators import BicubicDownsample
from comfyui_flowdps.operators.observation import Observation
from comfyui_flowdps.restoration.several import Several

from .test_agreement import attempt, execute


def batch(photos: int, samples: int) -> tuple[Observation, torch.Tensor, torch.Tensor]:
    """A measurement of photos of an odd size, and samples around them, all photos first."""
    clean = pictures("test", photos)[..., :45, :53]
    draws = [torch.Generator().manual_seed(k) for k in range(photos)]
    observation = Observation.from_clean(clean, BicubicDownsample(4), 0.03, 16, draws)
    noise = torch.randn(samples, *clean.shape, generator=torch.Generator().manual_seed(9))
    strength = torch.linspace(0.02, 0.2, samples).view(-1, 1, 1, 1, 1)
    return observation, clean, (clean + strength * noise).clamp(-1, 1).flatten(0, 1)


def as_host(x: torch.Tensor) -> torch.Tensor:
    return ((x + 1) / 2).movedim(1, -1).contiguous()


@pytest.mark.parametrize(("photos", "samples"), [(1, 5), (2, 3)])
def test_mean_map_best_and_sheet(tmp_path, photos, samples):
    observation, _, x = batch(photos, samples)
    inputs = {"image": as_host(x), "measurement": observation, "calibration": 3.0}
    case = ("several", "CompareSamples", inputs)
    ((mean, spread, best, sheet, report),) = execute(tmp_path, [case])
    assert mean.shape == best.shape == (photos, 45, 53, 3)
    assert spread.shape == (photos, 45, 53)
    assert (len(sheet), sheet.shape[-1]) == (photos, 3)
    assert len(report.splitlines()) == photos
    for k in range(photos):
        own = x[k::photos]
        several = Several(own, [1.0] * samples, 3.0)
        torch.testing.assert_close(mean[k], as_host(own.mean(0, keepdim=True))[0])
        torch.testing.assert_close(spread[k], several.map[0, 0], atol=1e-5, rtol=1e-4)
        there = [i for i in range(samples) if torch.equal(best[k], as_host(own)[i])]
        distances = [float((as_host(own)[i] - best[k]).abs().max()) for i in range(samples)]
        chosen = int(torch.tensor(distances).argmin())
        assert there in ([chosen], [])
        assert f"sample {chosen + 1} fits best" in report.splitlines()[k]
    # A measurement and three pictures in the first row, the other samples below.
    assert sheet.shape[2] > sheet.shape[1] / 2
    assert 0 <= float(sheet.min()) < float(sheet.max()) <= 1


def test_a_batch_of_one_and_one_that_cannot_be_sorted_are_refused(tmp_path):
    for count in (1, 3):
        observation, _, x = batch(1 if count == 1 else 2, 2)
        inputs = {"image": as_host(x[:count]), "measurement": observation}
        (told,) = attempt(tmp_path, [("several", "CompareSamples", inputs)])
        assert "expected at least 2 restorations of every photo: raise samples" in told
