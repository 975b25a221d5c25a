"""The example of how to add a method, as nodes of a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import howto
from . import comfyui, files
from .comfyui import ROOT
from .graphs import demo, inputs_of, value
from .test_sampling import advanced


@pytest.fixture(scope="module")
def added(comfy_folder: Path, tmp_path_factory):
    """A server with a copy of the pack to which the page's example was added."""
    copy = howto.copied(tmp_path_factory.mktemp("adding"))
    howto.follow("docs/samplers.md", "Adding a method", copy)
    base = tmp_path_factory.mktemp("comfyui")
    files.pictures(base / "input", ROOT / "benchmarks" / "pictures" / "test")
    (base / "output").mkdir()
    packs = {"ComfyUI-FlowDPS": copy, "flowdps-tests": Path(__file__).parent / "pack"}
    running = comfyui.Server(comfy_folder, base, packs)
    yield running
    running.stop()


def test_it_restores_all_in_one_and_as_a_sampler(added):
    nodes = added.get("/object_info")
    for suffix in ("Sampler", "SamplerObject"):
        glide, like = (nodes[f"FlowDPS_{title}{suffix}"] for title in ("Glide", "FlowChef"))
        assert list(inputs_of(glide)) == list(inputs_of(like))
    problem = demo()
    alone = problem.sampler("Glide")
    problem.prompt.record(alone[0], "alone")
    problem.prompt.record(advanced(problem, problem.object("Glide"))[0], "custom")
    added.run(problem.prompt)
    assert float((value(added, "alone") - value(added, "custom")).abs().max()) < 1e-5
    assert float(value(added, "alone").std()) > 0.1
