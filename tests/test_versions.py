"""What is too old is refused by name; devices without float64 are spared it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version

import comfyui_flowdps
import pytest
import torch
from comfyui_flowdps.priors import device
from comfyui_flowdps.priors.gradients.normalised_strips import _Sums
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .operators.cases import CASES, shape_of
from .test_project import read


def ask(folder, code: str) -> subprocess.CompletedProcess[str]:
    """This Python, which finds what is in ``folder`` before all else."""
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )


@pytest.mark.parametrize(
    ("name", "found", "least"),
    [("torch", "2.2.2+cpu", "2.3"), ("Pillow", "9.4.0", "9.5"), ("numpy", "1.25.2", "1.26")],
)
def test_what_is_too_old_is_refused_by_name(tmp_path, name, found, least):
    """By the command in one line and with exit code 2, before PyTorch is imported; and by the
    pack, whose host shows the sentence."""
    info = tmp_path / f"{name}-{found}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {found}\n")
    (tmp_path / "torch.py").write_text("raise SystemExit('imported')")
    sentence = f"{name} {found} is too old; {least} or newer is needed: pip install -U {name}"
    run = ask(tmp_path, "import comfyui_flowdps.cli.command")
    assert (run.returncode, run.stderr.strip()) == (2, f"flowdps: {sentence}")
    pack = "import sys, types; sys.modules['comfy_api'] = types.ModuleType('comfy_api')"
    run = ask(tmp_path, f"{pack}; import comfyui_flowdps")
    assert run.stderr.strip().splitlines()[-1] == f"ImportError: ComfyUI-FlowDPS: {sentence}"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("AttributeError('no torch.accelerator')", "no torch.accelerator"),
        ("ImportError('tokenizers<=0.23 is needed\\nTry: pip')", "tokenizers<=0.23 is needed"),
    ],
)
def test_packages_that_do_not_go_together_are_refused_by_name(tmp_path, error, reason):
    """As diffusers 0.41 beside PyTorch 2.4, which it allows and cannot be imported with."""
    (tmp_path / "diffusers.py").write_text(f"raise {error}")
    code = "from comfyui_flowdps.priors.diffusers import load_prior; load_prior(device='cpu')"
    last = ask(tmp_path, code).stderr.strip().splitlines()[-1]
    assert re.match(r"ValueError: diffusers [\d.]+ and transformers [\d.]+ cannot be loaded", last)
    assert f"beside torch {version('torch')} ({reason}): pip install -U torch diffusers" in last


def test_an_old_python_is_refused_and_this_one_is_not(monkeypatch):
    assert comfyui_flowdps.unsupported() == ""
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert comfyui_flowdps.unsupported() == "Python 3.9 is too old; 3.10 or newer is needed"
    assert 'requires-python = ">=3.10"' in read("pyproject.toml")
    assert re.search(r'"torch>=2\.3"', read("pyproject.toml"))


class NoDouble(TorchDispatchMode):
    """The device meta has no float64, as MPS has none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            doubled = isinstance(each, torch.Tensor) and each.dtype in (
                torch.float64,
                torch.complex128,
            )
            if doubled and each.device.type == "meta":
                raise TypeError(f"{func} makes float64 on the device")
        return out


@pytest.mark.parametrize("name", CASES)
def test_no_operator_makes_float64_on_a_device(name):
    recipe = CASES[name]
    shape = shape_of(recipe, (32, 32))
    with NoDouble():
        operator = recipe.bind(shape, "meta")
        x = torch.zeros(1, *shape, device="meta")
        y = operator.A(x)
        calls = {"adjoint": (y,), "pinv": (y,), "prox": (x, y, 1.0)} if operator.linear else {}
        for call, given in calls.items():
            try:
                getattr(operator, call)(*given)
            except RuntimeError as error:
                # An iteration looks at its residual.
                if "meta tensors" not in str(error).lower():
                    raise


def test_sums_are_in_the_precision_of_the_device(monkeypatch):
    """float64 on a CPU; on a device without it float32, and nothing is made in float64."""
    assert device.accumulator(torch.device("cpu")) == torch.float64
    assert device.accumulator(torch.device("mps")) == torch.float32
    monkeypatch.setattr(device, "WITHOUT_DOUBLE", {"mps", "meta"})
    with NoDouble():
        sums, a = _Sums(), torch.zeros(1, 2, 3, device="meta")
        sums.add(a, a)
    assert torch.as_tensor(sums.first).dtype == torch.float32
    monkeypatch.undo()
    with pytest.raises(TypeError, match="makes float64"), NoDouble():
        _Sums().add(a, a)
