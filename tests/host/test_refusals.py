"""What cannot work is refused before any sampling, in a sentence that names value and remedy."""

from __future__ import annotations

import pytest

from .comfyui import Failed
from .graphs import Problem, demo, read_log, tiny
from .test_sampling import NAMES, advanced


def picture(problem: Problem, name: str = "small.png"):
    return problem.prompt.add("LoadImage", image=name)[0]


def operator(problem: Problem):
    return problem.prompt[problem.measurement.id]["inputs"]["operator"]


def size_of_latent(method):
    problem = demo()
    latent = problem.prompt.add("EmptySD3LatentImage", width=128, height=96, batch_size=1)
    return problem, problem.sampler(method, latent=latent[0])[0]


def channels(method):
    problem = demo()
    vae = problem.prompt.add("VAELoader", vae_name="four_channels.safetensors")
    latent = problem.prompt.add("VAEEncode", pixels=picture(problem), vae=vae[0])
    return problem, problem.sampler(method, latent=latent[0])[0]


def autoencoder(method):
    problem = demo()
    vae = problem.prompt.add("VAELoader", vae_name="four_channels.safetensors")
    return problem, problem.sampler(method, vae=vae[0])[0]


def mask(method):
    problem = demo()
    p = problem.prompt
    given = p.add("SolidMask", value=1.0, width=48, height=40)
    latent = p.add("SetLatentNoiseMask", samples=problem.measurement[2], mask=given[0])
    return problem, problem.sampler(method, latent=latent[0])[0]


def pooled(method):
    problem = tiny()
    text = problem.prompt.test("Conditioning", width=64, pooled=0, seed=1)
    return problem, problem.sampler(method, positive=text[0])[0]


def pooled_negative(method):
    problem = tiny()
    text = problem.prompt.test("Conditioning", width=64, pooled=0, seed=1)
    return problem, problem.sampler(method, negative=text[0])[0]


def counts(method):
    problem = demo()
    p = problem.prompt
    pair = p.add("ImageBatch", image1=picture(problem), image2=picture(problem, "other.png"))
    p[problem.measurement.id]["inputs"]["image"] = pair[0]
    latent = p.add("EmptySD3LatentImage", width=64, height=64, batch_size=3)
    return problem, problem.sampler(method, latent=latent[0])[0]


def sigmas(method):
    problem = demo()
    rising = problem.prompt.add(
        "FlipSigmas", sigmas=problem.prompt.ours("Sigmas", steps=3, shift=4.0)[0]
    )
    return problem, problem.sampler(method, sigmas=rising[0])[0]


def long_sigmas(method):
    problem = demo()
    p = problem.prompt
    rising = p.add("FlipSigmas", sigmas=p.ours("Sigmas", steps=1000, shift=4.0)[0])
    return problem, problem.sampler(method, sigmas=rising[0])[0]


def video(method):
    problem = demo()
    size = {"width": 64, "height": 64, "length": 1, "batch_size": 1}
    latent = problem.prompt.add("EmptyHunyuanLatentVideo", **size)
    return problem, problem.sampler(method, latent=latent[0])[0]


SAMPLER_CASES = {
    size_of_latent: "the latent is 128x96 pixels and the measurement belongs to an image of 64x64:"
    " use the latent of Encode Measurement",
    channels: "the latent has 4 channels and the MODEL 16: encode it with the VAE of the same",
    autoencoder: "the VAE has 4 latent channels and the MODEL 16: they belong to different model",
    mask: "the mask is 48x40 and the restoration 64x64; expected a mask of that size",
    pooled: "the positive conditioning has no pooled output, which this MODEL needs: encode",
    pooled_negative: "the negative conditioning has no pooled output, which this MODEL needs",
    counts: "the measurement holds 2 images and 3 samples are asked for; expected as many, or one",
    sigmas: "of 4 sigmas, 0.0001 is followed by 0.0118694 (at place 1)",
    long_sigmas: "of 1001 sigmas, 0.0001 is followed by 0.0118694 (at place 1)",
    video: "the latent is of a video model, and this MODEL makes pictures: use the latent",
}


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("case", SAMPLER_CASES, ids=lambda case: case.__name__)
def test_samplers_refuse(server, case, method):
    problem, link = case(method)
    problem.prompt.record(link, "never")
    before = read_log(server)
    with pytest.raises(Failed) as refused:
        server.run(problem.prompt)
    assert SAMPLER_CASES[case] in str(refused.value)
    assert len(str(refused.value)) < 400, "a thousand numbers are no sentence"
    assert "it/s" not in read_log(server)[len(before) :], "sampling had begun"


def object_size(problem):
    latent = problem.prompt.add("EmptySD3LatentImage", width=128, height=96, batch_size=1)
    custom = advanced(problem, problem.object())
    problem.prompt[custom.id]["inputs"]["latent_image"] = latent[0]
    return custom[0]


def object_autoencoder(problem):
    vae = problem.prompt.add("VAELoader", vae_name="four_channels.safetensors")
    return advanced(problem, problem.object(vae=vae[0]))[0]


def object_model(problem):
    model = {"model": problem.model, "sampling": "v_prediction", "zsnr": False}
    problem.model = problem.prompt.add("ModelSamplingDiscrete", **model)[0]
    return advanced(problem, problem.object())[0]


def not_finite(problem):
    inputs = {"width": 64, "pooled": 32, "seed": -1}
    text = problem.prompt.test("Conditioning", **inputs)
    return problem.sampler(positive=text[0], step_scale=0.0)[0]


def broken_picture(problem):
    given = {"operator": operator(problem), "mode": "simulate", "noise": 0.03, "seed": 0}
    broken = problem.prompt.test("NaN", image=picture(problem))
    return problem.prompt.ours("EncodeMeasurement", image=broken[0], **given)[2]


def broken_restoration(problem):
    given = {"measurement": problem.measurement[0], "tolerance": 1.2}
    broken = problem.prompt.test("NaN", image=picture(problem))
    return problem.prompt.ours("MeasurementCheck", image=broken[0], **given)[0]


def several_of_several(problem):
    pair = problem.prompt.add(
        "ImageBatch", image1=picture(problem), image2=picture(problem, "other.png")
    )
    given = {"operator": operator(problem), "mode": "simulate", "noise": 0.03, "seed": 0}
    node = problem.prompt.ours("EncodeMeasurement", image=pair[0], batch_size=3, **given)
    return node[2]


def other_size(problem):
    given = {"measurement": problem.measurement[0], "tolerance": 1.2}
    image = picture(problem, "wide.png")
    return problem.prompt.ours("MeasurementCheck", image=image, **given)[0]


def even_kernel(problem):
    return problem.prompt.ours("GaussianBlur", sigma=2.0, size=12, boundary="symmetric")[0]


def no_flow(problem):
    model = {"model": problem.model, "sampling": "eps", "zsnr": False}
    other = problem.prompt.add("ModelSamplingDiscrete", **model)
    return problem.prompt.ours("EmptyConditioning", model=other[0], tokens=1)[0]


OTHER_CASES = {
    object_size: "the latent is 128x96 pixels and the measurement belongs to an image of 64x64",
    object_autoencoder: "the VAE has 4 latent channels and the MODEL 16",
    object_model: "the MODEL is not a flow model: it predicts noise or another target, as Stable",
    not_finite: "the restoration is not finite: choose a smaller step_scale, or run the model in",
    broken_picture: "the image holds NaN or infinite values; expected numbers from 0 to 1: look",
    broken_restoration: "the restoration holds NaN or infinite values; expected numbers from 0",
    several_of_several: "batch_size is 3 and there are 2 images; expected one image, or batch_size",
    other_size: "the image is 96x64 and the measurement belongs to an image of 64x64: connect the",
    even_kernel: "odd number, such as 13",
    no_flow: "the MODEL is not a flow model: it predicts noise or another target, as Stable",
}


@pytest.mark.parametrize("case", OTHER_CASES, ids=lambda case: case.__name__)
def test_others_refuse(server, case):
    problem = tiny()
    problem.prompt.record(case(problem), "never")
    with pytest.raises(Failed) as refused:
        server.run(problem.prompt)
    assert OTHER_CASES[case] in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", 0, "smaller than min of 1"),
        ("steps", 1001, "bigger than max of 1000"),
        ("cfg", -1.0, "smaller than min of 0"),
        ("cfg", 31.0, "bigger than max of 30"),
        ("step_scale", -0.5, "smaller than min of 0"),
        ("inner_steps", 65, "bigger than max of 64"),
        ("seed", -1, "smaller than min of 0"),
        ("measurement", None, "FLOWDPS_MEASUREMENT"),
        ("vae", None, "VAE"),
    ],
)
def test_values_out_of_range_are_refused_at_validation(server, name, value, words):
    """The host answers at once, without running anything, and names node, input and bound."""
    problem = demo()
    # A link of the wrong type stands for what a user cannot leave out.
    given = problem.positive if value is None else value
    problem.prompt.record(problem.sampler(**{name: given})[0], "never")
    with pytest.raises(Failed) as refused:
        server.queue(problem.prompt)
    assert words in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("DegradationOperator", {"deg_scale": 0}, "deg_scale is 0; expected a whole number from 1"),
        ("FlowDPSSampler", {"preset": "tuned", "inner_steps": 2}, "these settings have none"),
        ("DegradationOperator", {"task": "deblur_gauss", "deg_scale": 12}, "odd number, such as"),
        ("EncodeMeasurement", {"noise": 1.5}, "bigger than max of 1"),
        ("EncodeMeasurement", {"batch_size": 0}, "smaller than min of 1"),
        ("LoadFlowPrior", {"shift": 0.0}, "smaller than min of 0.1"),
    ],
)
def test_other_nodes_are_validated_too(server, kind, changes, words):
    problem = demo()
    p = problem.prompt
    p.record(problem.sampler()[0], "never")
    (node,) = (n for n in p.values() if n["class_type"] == f"FlowDPS_{kind}")
    node["inputs"].update(changes)
    with pytest.raises(Failed) as refused:
        server.queue(p)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "name", "bad", "good"),
    [
        ("FlowDPSSampler", "preset", "best", "tuned"),
        # Newer hosts name no more than 20 choices.
        ("DegradationOperator", "task", "sr_cubic", ""),
        ("EncodeMeasurement", "mode", "guess", "observed"),
        ("LoadFlowPrior", "checkpoint", "none.safetensors", ""),
        ("LoadFlowPrior", "vae", "none.safetensors", ""),
        ("LoadFlowPrior", "diffusion_model", "none.safetensors", ""),
    ],
)
def test_unknown_choices_are_refused(server, kind, name, bad, good):
    """Newer hosts know the choices; on older ones, which do not look, the node itself refuses."""
    problem = demo()
    p = problem.prompt
    p.record(problem.sampler()[0], "never")
    (node,) = (n for n in p.values() if n["class_type"] == f"FlowDPS_{kind}")
    node["inputs"][name] = bad
    with pytest.raises(Failed) as refused:
        server.run(p)
    assert bad in str(refused.value)
    assert good in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "name", "old", "new"),
    [
        ("FlowDPSSampler", "memory", "tiled", "strips"),
        ("GaussianBlur", "boundary", "reflect", "symmetric"),
        ("MotionBlur", "boundary", "reflect", "symmetric"),
    ],
)
def test_a_choice_that_was_renamed_is_told_by_its_new_name(server, kind, name, old, new):
    """At validation, where old workflow files have it, on older hosts as well."""
    problem = demo()
    p = problem.prompt
    if kind != "FlowDPSSampler":
        blur = p.ours(kind, size=5, **({"sigma": 1.0} if kind == "GaussianBlur" else {}))
        p[blur.id]["inputs"] |= {} if kind == "GaussianBlur" else {"intensity": 0.5, "seed": 0}
        p[problem.measurement.id]["inputs"]["operator"] = blur[0]
        p[blur.id]["inputs"][name] = old
    sampler = problem.sampler()
    if kind == "FlowDPSSampler":
        p[sampler.id]["inputs"][name] = old
    p.record(sampler[0], "never")
    with pytest.raises(Failed, match=f"{name} '{old}' is now called '{new}'"):
        server.queue(p)
