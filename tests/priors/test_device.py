"""Devices and number formats by name."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.priors.device import device_named, dtype_named


def test_devices_and_precisions_by_default(monkeypatch):
    assert dtype_named("auto", torch.device("cpu")) == torch.float32
    assert dtype_named("auto", torch.device("cuda")) == torch.float16
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_named("auto").type == "mps"
    with pytest.raises(ValueError, match="'cuda' is not available"):
        device_named("cuda")
    with pytest.raises(ValueError, match="float64 does not exist on mps"):
        dtype_named("float64", torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_named("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="'cuda:1' is not available here, where there is 1 device"):
        device_named("cuda:1")


@pytest.mark.parametrize("name", ["vulkan", "meta", "hpu", "mkldnn", "toaster", "", "cuda:x"])
def test_devices_that_no_model_runs_on_get_one_sentence(name):
    with pytest.raises(
        ValueError, match=r"^unknown device [^\n]*; expected auto, cpu, cuda[^\n]*$"
    ):
        device_named(name)


@pytest.mark.parametrize("name", ["xpu", "mps", "cuda"])
def test_a_device_that_is_not_there_is_refused_and_one_that_is_holds_numbers(name):
    there = {"mps": torch.backends.mps, "cuda": torch.cuda}.get(name) or getattr(torch, name, None)
    if there is not None and there.is_available():
        assert torch.zeros(1, device=device_named(name)).device.type == name
    else:
        with pytest.raises(ValueError, match=f"device '{name}' is not available here"):
            device_named(name)
