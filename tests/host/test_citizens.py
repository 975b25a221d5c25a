"""How the samplers behave towards the host: progress, cancelling, caching, and no traces left."""

from __future__ import annotations

import time

import pytest

from .comfyui import Failed
from .graphs import TINY, Problem, demo, recorded, tiny, told, value
from .test_sampling import NAMES, advanced

every = pytest.mark.parametrize("method", NAMES)
STEPS = 4


def messages(server, prompt, client):
    """What the server says while the prompt runs."""
    server.wait_until_idle()
    with server.listen(client) as socket:
        prompt_id = server.queue(prompt, client)
        return list(socket.until_done(prompt_id))


@every
@pytest.mark.parametrize("kind", ["alone", "custom"])
def test_progress_and_preview_of_every_step(server, method, kind):
    problem = demo()
    if kind == "alone":
        node = problem.sampler(method, steps=STEPS)
    else:
        node = advanced(problem, problem.object(method), steps=STEPS)
    problem.prompt.record(node[0], "seen")
    heard = messages(server, problem.prompt, f"progress-{method}-{kind}")
    steps = [
        (m["data"]["value"], m["data"]["max"])
        for m in heard
        if isinstance(m, dict) and m["type"] == "progress" and m["data"]["node"] == node.id
    ]
    previews = [m for m in heard if isinstance(m, bytes)]
    assert steps == [(i + 1, STEPS) for i in range(STEPS)]
    assert len(previews) == STEPS
    assert len(set(previews)) == STEPS, "each preview is another picture"


def sabotaged(problem: Problem, at: int, how: str):
    """A VAE in which decoding number ``at`` cancels or fails."""
    return problem.prompt.test("Saboteur", vae=problem.vae, at=at, how=how)[0]


def decodings(server) -> int:
    problem = tiny()
    node = problem.prompt.test("Count")
    return told(server.run(problem.prompt), node)


@pytest.mark.parametrize(("method", "at"), [("FlowDPS", 2), ("FlowChef", 2), ("PSLD", 2)])
def test_cancel_stops_within_one_inner_step(server, method, at):
    """The user cancels during a decoding: no other one follows, and the queue goes on."""
    problem = tiny()
    vae = sabotaged(problem, at, "interrupt")
    problem.prompt.record(problem.sampler(method, vae=vae)[0], "never")
    with pytest.raises(Failed, match="interrupted"):
        server.run(problem.prompt)
    assert decodings(server) == at
    after = tiny()
    after.prompt.record(after.sampler(method)[0], "after_cancel")
    server.run(after.prompt)
    assert value(server, "after_cancel").shape == (1, 16, 8, 8)


def test_cancel_button(server):
    """/interrupt, from outside, in the middle of a noise level that would take much longer."""
    problem = demo()
    # One noise level first, whose time tells how long they take.
    p = problem.prompt
    p.record(problem.sampler(steps=1000, inner_steps=64)[0], "never")
    with server.listen("cancel") as socket:
        prompt_id = server.queue(p, "cancel")
        times = []
        for message in socket.until_done(prompt_id):
            if isinstance(message, dict) and message["type"] == "progress":
                times.append(time.monotonic())
                if len(times) == 2:
                    time.sleep(0.3 * (times[1] - times[0]))
                    asked = time.monotonic()
                    server.post("/interrupt", {})
        took = time.monotonic() - asked
    assert len(times) == 2, "no other noise level was finished"
    assert took < 0.5 * (times[1] - times[0])
    quick = demo()
    quick.prompt.record(quick.sampler()[0], "after_button")
    server.run(quick.prompt)


def fingerprint(server, problem: Problem, after=None):
    more = {} if after is None else {"maybe_after": after[0]}
    node = problem.prompt.test("Attributes", model=problem.model, vae=problem.vae, **more)
    return told(server.run(problem.prompt), node)


def patched_problem() -> Problem:
    """One in which there is much to patch: weights cast when needed, and attention in the VAE."""
    problem = tiny()
    fp8 = {"unet_name": TINY, "weight_dtype": "fp8_e4m3fn"}
    problem.model = problem.prompt.add("UNETLoader", **fp8)[0]
    problem.vae = problem.prompt.test("LoadKL", file="tiny_kl.safetensors")[0]
    return problem


@every
@pytest.mark.parametrize("how", ["raise", "interrupt", "succeed"])
def test_no_module_is_left_patched(server, method, how):
    """Loaded modules carry the same attributes before and after, and the next run is the same."""
    untouched = patched_problem()
    p = untouched.prompt
    euler = p.add(
        "SamplerCustom",
        model=untouched.model,
        add_noise=True,
        noise_seed=1,
        cfg=1.0,
        positive=untouched.positive,
        negative=untouched.negative,
        sampler=p.add("KSamplerSelect", sampler_name="euler")[0],
        sigmas=p.ours("Sigmas", steps=1, shift=4.0)[0],
        latent_image=untouched.measurement[2],
    )
    before = fingerprint(server, untouched, p.add("VAEDecode", samples=euler[0], vae=untouched.vae))
    good = patched_problem()
    good.prompt.record(good.sampler(method)[0], "before_failure")
    server.run(good.prompt)
    broken = patched_problem()
    vae = sabotaged(broken, 2, how)
    broken.prompt.record(broken.sampler(method, vae=vae, seed=77)[0], "never")
    if how == "succeed":
        server.run(broken.prompt)
    else:
        with pytest.raises(Failed, match="interrupted" if how == "interrupt" else "stops here"):
            server.run(broken.prompt)
    again = patched_problem()
    assert fingerprint(server, again) == before
    # Another name, so that it is not the cache that answers.
    again.prompt.record(again.sampler(method)[0], "after_failure")
    server.run(again.prompt)
    assert (value(server, "before_failure") == value(server, "after_failure")).all()


@every
def test_the_same_graph_is_served_from_the_cache(server, method):
    problem = demo()
    node = problem.sampler(method, seed=41)
    p = problem.prompt
    image = p.add("SaveImage", images=node[1], filename_prefix="cached")
    assert node.id in server.ran(p)
    assert server.ran(p) == set()
    p[node.id]["inputs"]["seed"] = 42
    assert server.ran(p) == {node.id, image.id}, "only what depends on the seed"
    p[problem.measurement.id]["inputs"]["noise"] = 0.1
    assert problem.measurement.id in server.ran(p)


@every
def test_samplers_leave_torchs_generator_alone(server, method):
    problem = demo()
    name = f"random_{method}"
    watched = problem.prompt.test("Watch", sampler=problem.object(method)[0], name=name)
    problem.prompt.record(advanced(problem, watched)[0], "unused")
    server.run(problem.prompt)
    assert bool(recorded(server, name)["rng_untouched"])


def test_other_nodes_leave_torchs_generator_alone(server):
    problem = demo()
    image = problem.prompt.add("LoadImage", image="small.png")
    node = problem.prompt.test("Randomness", image=image[0])
    assert told(server.run(problem.prompt), node) is False


def test_loading_says_nothing_alarming(server):
    log = server.log.read_text(errors="replace")
    loaded = log.split("Starting server")[0]
    assert "IMPORT FAILED" not in loaded
    assert "ComfyUI-FlowDPS" in loaded
