"""Gradients inside the executor equal plain float32 gradients of the same weights.

The reference is the standalone prior, in another process and another version of torch, on the
weights that the host holds, in float32; for autoencoders that it does not know, a plain copy.
Tolerances are of the relative error ‖g − r‖ / ‖r‖.
"""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import Measurement, recipe_for_task
from comfyui_flowdps.priors.diffusers import DiffusersPrior, load_prior
from comfyui_flowdps.samplers.data_loss import DataLoss
from comfyui_flowdps.samplers.psld import psld_loss
from safetensors.torch import load_file, save_file

from .files import LORA, LORA_LAYERS, lora_change
from .graphs import CONTEXT, POOLED, TINY, Problem, demo, recorded, tiny, told, value

CFG = 3.0
EXACT = 1e-4
"""For weights that are computed with in float32 on both sides."""


def random_text(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the Conditioning node of the tests gives for a seed."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(1, 3, CONTEXT, generator=generator)
    return context, torch.randn(1, POOLED, generator=generator)


def gradient(server, problem: Problem, name: str, through: str, emulate="", mode="", protect=True):
    """What the Gradient node wrote, with the measurement ``y`` and the host's weights."""
    p, negative = problem.prompt, problem.negative or problem.positive
    p.test(
        "Gradient",
        model=problem.model,
        vae=problem.vae,
        positive=problem.positive,
        negative=negative,
        cfg=CFG if problem.negative else 1.0,
        measurement=problem.measurement[0],
        latent=problem.measurement[2],
        through=through,
        emulate=emulate,
        mode=mode,
        protect=protect,
        name=name,
    )
    p.record(problem.measurement[0], f"{name}_y")
    weights = p.test("Weights", model=problem.model, vae=problem.vae, name=f"{name}_weights")
    kinds = told(server.run(p), weights)
    found = recorded(server, name)
    return found, value(server, f"{name}_y"), kinds


def expected(file, found, y, through: str, task="sr_bicubic", guided=True) -> torch.Tensor:
    """The gradient at the same place by the standalone prior on the weights in ``file``."""
    prior: DiffusersPrior = load_prior(file, device="cpu", dtype="float32")
    if guided:
        rows = [random_text(seed) for seed in (2, 1)]
        prior.context, prior.pooled = (torch.cat(part) for part in zip(*rows, strict=True))
        prior.cfg = CFG
    size = 9 if task.startswith("deblur") else 4
    operator = recipe_for_task(task, size, seed=0).bind((3, 64, 64))
    loss = DataLoss(prior, Measurement(y, operator, 0.03), "norm")
    z = found["start"]
    if through == "decoder":
        return loss.gradient(z)[1]
    with torch.enable_grad():
        z = z.requires_grad_()
        made = psld_loss(loss, prior.denoise(z, 1.0), None)
        return torch.autograd.grad(made.sum(), z)[0]


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    assert float(want.norm()) > 1e-3, "a gradient of zero proves nothing"
    return float((got - want).norm() / want.norm())


def weights_file(server, name: str):
    """The host's weights as a checkpoint; scales that are no parameters come from the file."""
    original = load_file(server.base / "models" / "checkpoints" / TINY)
    held = recorded(server, f"{name}_weights")
    state = {key: held.get(key, tensor) for key, tensor in original.items()}
    path = server.base / f"{name}_held.safetensors"
    save_file(state, path)
    return path


@pytest.mark.parametrize("emulate", ["", "cast", "buffer"])
@pytest.mark.parametrize("loader", ["CheckpointLoaderSimple", "LoadFlowPrior"])
def test_decoder(server, loader, emulate):
    name = f"decoder_{loader}_{emulate}"
    found, y, _ = gradient(server, tiny(loader=loader), name, "decoder", emulate)
    want = expected(server.base / "models" / "checkpoints" / TINY, found, y, "decoder")
    assert error(found["gradient"], want) < EXACT
    assert error(found["reference"], want) < EXACT


@pytest.mark.parametrize("task", ["deblur_motion", "sr_avgpool"])
def test_decoder_of_the_demo_prior(server, task):
    found, y, _ = gradient(server, demo(task=task), f"decoder_demo_{task}", "decoder")
    want = expected(None, found, y, "decoder", task, guided=False)
    assert error(found["gradient"], want) < EXACT


@pytest.mark.parametrize("mode", ["full", "checkpointed", "strips"])
@pytest.mark.parametrize("emulate", ["", "buffer"])
def test_decoder_with_attention(server, emulate, mode):
    problem = tiny()
    problem.vae = problem.prompt.test("LoadKL", file="tiny_kl.safetensors")[0]
    problem.prompt[problem.measurement.id]["inputs"]["vae"] = problem.vae
    name = f"decoder_kl_{emulate}_{mode}"
    found, y, _ = gradient(server, problem, name, "decoder", emulate, mode)
    assert error(found["gradient"], found["reference"]) < EXACT
    state = load_file(server.base / "models" / "checkpoints" / TINY)
    state = {k: v for k, v in state.items() if not k.startswith("first_stage_model.")}
    kl = load_file(server.base / "models" / "vae" / "tiny_kl.safetensors")
    path = server.base / "with_kl.safetensors"
    save_file(state | {f"first_stage_model.{k}": v for k, v in kl.items()}, path)
    assert error(found["gradient"], expected(path, found, y, "decoder")) < EXACT


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.15)])
def test_decoder_in_half_precision(server, dtype, tolerance):
    """The decoder also computes in that precision, which the tolerance is for."""
    problem = tiny(loader="Load", dtype=dtype)
    found, _, kinds = gradient(server, problem, f"decoder_{dtype}", "decoder")
    assert kinds[1] == [f"torch.{dtype}"]
    assert error(found["gradient"], found["reference"]) < tolerance


@pytest.mark.parametrize("emulate", ["", "buffer"])
def test_checkpointed_decoder(server, emulate):
    """Computed a second time on the way back, with weights streamed a second time."""
    name = f"decoder_checkpointed_{emulate}"
    found, y, _ = gradient(server, tiny(), name, "decoder", emulate, "checkpointed")
    want = expected(server.base / "models" / "checkpoints" / TINY, found, y, "decoder")
    assert error(found["gradient"], want) < EXACT


@pytest.mark.parametrize("emulate", ["", "cast", "buffer", "lowvram"])
@pytest.mark.parametrize("loader", ["CheckpointLoaderSimple", "LoadFlowPrior"])
def test_through_model_and_guidance(server, loader, emulate):
    name = f"model_{loader}_{emulate}"
    found, y, _ = gradient(server, tiny(loader=loader), name, "model", emulate)
    want = expected(server.base / "models" / "checkpoints" / TINY, found, y, "model")
    assert error(found["gradient"], want) < EXACT
    assert float(found["slope"]) == pytest.approx(float(want.norm()), rel=0.05)


@pytest.mark.parametrize("emulate", ["", "buffer"])
def test_through_a_control_network(server, emulate):
    """The loss rises along the gradient as steeply as the gradient says."""
    problem = tiny()
    p, name = problem.prompt, f"model_control_{emulate}"
    controlled = p.add(
        "ControlNetApplySD3",
        positive=problem.positive,
        negative=problem.negative,
        control_net=p.add("ControlNetLoader", control_net_name="tiny_control.safetensors")[0],
        vae=problem.vae,
        image=p.add("LoadImage", image="other.png")[0],
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    problem.positive, problem.negative = controlled[0], controlled[1]
    found, y, _ = gradient(server, problem, name, "model", emulate)
    assert float(found["slope"]) == pytest.approx(float(found["gradient"].norm()), rel=0.05)
    plain = expected(server.base / "models" / "checkpoints" / TINY, found, y, "model")
    assert error(found["gradient"], plain) > 0.01, "the control network changes nothing"


def test_through_the_demo_prior(server):
    found, y, _ = gradient(server, demo(), "model_demo", "model")
    want = expected(None, found, y, "model", guided=False)
    assert error(found["gradient"], want) < 5 * EXACT


@pytest.mark.parametrize("emulate", ["", "buffer", "lowvram"])
def test_through_a_lora(server, emulate):
    problem = tiny()
    lora = {"lora_name": LORA, "strength_model": 0.8}
    problem.model = problem.prompt.add("LoraLoaderModelOnly", model=problem.model, **lora)[0]
    found, y, _ = gradient(server, problem, f"model_lora_{emulate}", "model", emulate)
    original = server.base / "models" / "checkpoints" / TINY
    state = load_file(original)
    for layer in LORA_LAYERS:
        key = f"model.diffusion_model.{layer}.weight"
        up, down = lora_change(state[key].shape, layer)
        state[key] = state[key] + 0.8 * up @ down
    path = server.base / "with_lora.safetensors"
    save_file(state, path)
    assert error(found["gradient"], expected(path, found, y, "model")) < EXACT
    assert error(found["gradient"], expected(original, found, y, "model")) > 0.01


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_through_rounded_weights(server, dtype):
    """On a CPU the host computes with such weights in float32; the autoencoder is a plain one."""
    problem = tiny(loader="Load", dtype=dtype)
    problem.vae = problem.prompt.add("CheckpointLoaderSimple", ckpt_name=TINY)[2]
    found, y, kinds = gradient(server, problem, f"model_{dtype}", "model")
    assert kinds[0] == [f"torch.{dtype}"]
    want = expected(weights_file(server, f"model_{dtype}"), found, y, "model")
    assert error(found["gradient"], want) < 5 * EXACT


@pytest.mark.parametrize("emulate", ["", "buffer"])
def test_through_fp8_weights(server, emulate):
    problem = tiny()
    loader = {"unet_name": TINY, "weight_dtype": "fp8_e4m3fn"}
    problem.model = problem.prompt.add("UNETLoader", **loader)[0]
    name = f"model_fp8_{emulate}"
    found, y, kinds = gradient(server, problem, name, "model", emulate)
    assert "torch.float8_e4m3fn" in kinds[0]
    want = expected(weights_file(server, name), found, y, "model")
    assert error(found["gradient"], want) < 5 * EXACT
    original = server.base / "models" / "checkpoints" / TINY
    assert error(found["gradient"], expected(original, found, y, "model")) > 5 * EXACT


@pytest.mark.parametrize("through", ["decoder", "model"])
def test_the_reused_buffer_would_be_noticed(server, through):
    """Without our clones of the weights the emulated host gives wrong gradients, silently."""
    name = f"unprotected_{through}"
    found, y, _ = gradient(server, tiny(), name, through, "buffer", protect=False)
    want = expected(server.base / "models" / "checkpoints" / TINY, found, y, through)
    assert error(found["gradient"], want) > 0.05
