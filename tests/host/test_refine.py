"""Refine with models as people run them: weights in fp8, with a LoRA, and compiled.

No gradient goes through a network, so that all of them serve as they are.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from .files import LORA, LORA_LAYERS, lora_change
from .graphs import DEMO, TINY, Problem, Prompt, recorded, tiny, told, value

RUN = {"preset": "fast", "steps": 2, "denoise": 0.6}
PREFIX = "model.diffusion_model."
EXACT = 1e-4
"""How far two runs with the same weights may be apart, relative to their latents."""


def checkpoint(server, name: str, change) -> str:
    """The tiny checkpoint with weights of its transformer changed: ``change(key, weight)``."""
    state = load_file(server.base / "models" / "checkpoints" / TINY)
    changed = {
        key: change(key.removeprefix(PREFIX), value) if key.startswith(PREFIX) else value
        for key, value in state.items()
    }
    save_file(changed, server.base / "models" / "checkpoints" / name)
    return name


def restored(server, problem: Problem, name: str) -> torch.Tensor:
    """Latents of a run."""
    node = problem.sampler("Refine", **RUN)
    problem.prompt.record(node[0], name)
    server.run(problem.prompt)
    found = recorded(server, name)["value"]
    assert bool(found.isfinite().all())
    return found


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The distance of two latents, relative to the second."""
    return float((one - other).norm() / other.norm())


def test_fp8_weights_serve_as_they_are(server):
    """As good as the same rounded weights in float32, and near the run with exact ones."""
    problem = tiny()
    loader = {"unet_name": TINY, "weight_dtype": "fp8_e4m3fn"}
    problem.model = problem.prompt.add("UNETLoader", **loader)[0]
    fp8 = restored(server, problem, "refine_fp8")
    plain = restored(server, tiny(), "refine_plain")
    rounded = checkpoint(
        server, "rounded.safetensors", lambda _, w: w.to(torch.float8_e4m3fn).to(w.dtype)
    )
    same = restored(server, tiny(file=rounded), "refine_rounded")
    print(f"fp8: {apart(fp8, same):.1e} of rounded, {apart(fp8, plain):.1e} of plain")
    assert apart(fp8, same) < 5 * EXACT
    assert 1e-4 < apart(fp8, plain) < 0.1


def test_a_lora_serves_as_its_weights_would(server):
    problem = tiny()
    lora = {"lora_name": LORA, "strength_model": 0.8}
    problem.model = problem.prompt.add("LoraLoaderModelOnly", model=problem.model, **lora)[0]
    with_lora = restored(server, problem, "refine_lora")

    def added(key: str, weight: torch.Tensor) -> torch.Tensor:
        layer = key.removesuffix(".weight")
        if layer not in LORA_LAYERS:
            return weight
        up, down = lora_change(weight.shape, layer)
        return weight + 0.8 * up @ down

    merged = tiny(file=checkpoint(server, "merged.safetensors", added))
    same = restored(server, merged, "refine_merged")
    plain = restored(server, tiny(), "refine_without_lora")
    print(f"LoRA: {apart(with_lora, same):.1e} of merged, {apart(with_lora, plain):.1e} of plain")
    assert apart(with_lora, same) < EXACT
    assert apart(with_lora, plain) > 10 * EXACT


def test_a_compiled_model_serves_as_it_is(server):
    """Its graphs are traced and called, and the picture is the same."""
    plain = restored(server, tiny(), "refine_not_compiled")
    problem = tiny()
    problem.model = problem.prompt.test("Compile", model=problem.model)[0]
    p, node = problem.prompt, problem.sampler("Refine", **RUN)
    p.record(node[0], "refine_compiled")
    count = p.test("CompiledCalls", after=node[0])
    outputs = server.run(p)
    graphs, times = told(outputs, count)
    compiled = recorded(server, "refine_compiled")["value"]
    print(f"compiled: {graphs} graphs, {times} calls, {apart(compiled, plain):.1e} of plain")
    assert graphs >= 1
    assert times >= 4, "two levels with a pair of noises each"
    assert apart(compiled, plain) < EXACT


@pytest.mark.skipif(shutil.which("g++") is None, reason="the host's compiler needs g++")
def test_the_hosts_own_compile_node_serves(server):
    """Compiled by inductor: other kernels, and so other rounding."""
    plain = restored(server, tiny(), "refine_plain_again")
    problem = tiny()
    chosen = {"model": problem.model, "backend": "inductor"}
    problem.model = problem.prompt.add("TorchCompileModel", **chosen)[0]
    compiled = restored(server, problem, "refine_inductor")
    print(f"inductor: {apart(compiled, plain):.1e} of plain")
    assert apart(compiled, plain) < 1e-3


def test_a_photo_with_nonlinear_damage_is_refined(server):
    """The photo comes from a node, in the host's inference mode; the descent needs a gradient."""
    p = Prompt()
    prior = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    photo = p.ours("ReadJpeg", file="FlowDPS example.jpg [temp]")
    given = {"mode": "observed", "noise": photo[4], "seed": 0}
    measured = p.ours("EncodeMeasurement", image=photo[0], operator=photo[1], **given)
    text = p.ours("EmptyConditioning", model=prior[0], tokens=1)
    problem = Problem(p, prior[0], prior[2], text[0], measured)
    run = problem.sampler("Refine", preset="fast")
    p.record(photo[0], "nonlinear_given")
    p.record(run[1], "nonlinear")
    server.run(p)
    given, image = value(server, "nonlinear_given"), value(server, "nonlinear")
    assert image.shape == given.shape
    assert 0 < float((image - given).abs().mean()) < 0.1
