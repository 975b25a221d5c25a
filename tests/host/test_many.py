"""``flowdps restore --engine comfyui`` with this server, over its own API."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import torch
from comfyui_flowdps.cli.command import main
from comfyui_flowdps.cli.results import mark_of
from PIL import Image

from . import comfyui
from .comfyui import ROOT
from .graphs import DEMO, Prompt, value

QUICK = ("--wrong", "grainy", "--effort", "fast", "--invent", "0.2", "--prior", "demo")


def photo(file):
    """A held-out picture of 64 pixels with grain."""
    clean = Image.open(min((ROOT / "benchmarks" / "pictures" / "test").glob("*.png")))
    x = np.asarray(clean.convert("RGB").resize((64, 64)), float)
    grain = np.random.default_rng(len(file.name)).normal(0, 15, x.shape)
    Image.fromarray(np.uint8((x + grain).round().clip(0, 255))).save(file)
    return file


def test_a_folder_is_restored_as_the_node_does_it_and_skipped_afterwards(server, tmp_path, capsys):
    """Two photos and one that is none; the result is that of Restore Photo run by hand."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    files = [photo(folder / name) for name in ("画 1.png", "two.png")]
    (folder / "none.png").write_text("no picture")
    where = f"http://127.0.0.1:{server.port}"
    words = ["restore", str(folder), *QUICK, "--seed", "5", "--engine", "comfyui"]
    words += ["--server", where, "http://127.0.0.1:9", "--out", str(out)]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "none.png is not an image" in said.err
    assert "no ComfyUI answers at http://127.0.0.1:9" in said.err
    lines = (out / "results.jsonl").read_text("utf-8").splitlines()
    found = {record["input"]: record for record in map(json.loads, lines)}
    assert set(found) == {str(file) for file in files}
    for file in files:
        record = found[str(file)]
        assert record["server"] == where
        assert any("grain" in note for note in record["notes"])
        mark = mark_of(out / f"{file.stem}_restored.png")
        assert mark is not None
        assert (mark["run"], mark["seed"]) == (record["run"], 5)

    # The same by hand.
    (server.base / "input" / "many.png").write_bytes(files[1].read_bytes())
    p = Prompt()
    prior = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    given = {"wrong": "grainy", "strength": "as found", "invent": 0.2, "enlarge": 0}
    run = p.ours(
        "RestorePhoto",
        image=p.add("LoadImage", image="many.png")[0],
        model=prior[0],
        vae=prior[2],
        **given,
        effort="fast",
        seed=5,
    )
    p.record(run[0], "many_image")
    server.run(p)
    wanted = (value(server, "many_image")[0] * 255).round().clamp(0, 255)
    kept = torch.from_numpy(np.array(Image.open(out / "two_restored.png").convert("RGB")))
    assert float((wanted - kept.float()).abs().max()) <= 1, "rounded as PreviewImage does it"

    assert main(words) == 2
    assert "2 finished before" in capsys.readouterr().out
    assert len((out / "results.jsonl").read_text("utf-8").splitlines()) == 2


def test_a_checkpoint_that_the_server_does_not_have_is_refused(server, tmp_path, capsys):
    file = photo(tmp_path / "x.png")
    words = ["--engine", "comfyui", "--server", f"127.0.0.1:{server.port}", "--prior", "sd9.ckpt"]
    assert main(["restore", str(file), *words, "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert f"127.0.0.1:{server.port} has no checkpoint 'sd9.ckpt'; expected one of" in said


def records(out):
    """The lines of the log."""
    try:
        return [
            json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()
        ]
    except OSError:
        return []


def test_of_two_servers_one_is_killed_and_nothing_is_lost(
    server, comfy_folder, tmp_path, tmp_path_factory, capsys
):
    """While it restores its second photo or a later one. The other does the rest, every photo is
    there once, and whoever restored it, it is the same."""
    packs = {"ComfyUI-FlowDPS": ROOT}
    victim = comfyui.Server(comfy_folder, tmp_path_factory.mktemp("victim"), packs)
    try:
        folder, out = tmp_path / "in", tmp_path / "out"
        folder.mkdir()
        files = [photo(folder / f"{'x' * k}.png") for k in range(1, 9)]
        urls = [f"http://127.0.0.1:{each.port}" for each in (server, victim)]

        def kill():
            def has_done(url):
                return any(record["server"] == url for record in records(out))

            until = time.monotonic() + 240
            while time.monotonic() < until and not (
                all(map(has_done, urls)) and victim.get("/queue")["queue_running"]
            ):
                time.sleep(0.05)
            victim.process.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        words = ["restore", str(folder), *QUICK, "--engine", "comfyui", "--out"]
        assert main([*words, str(out), "--server", *urls]) == 0
        killer.join()
        said = capsys.readouterr().err.strip().splitlines()
        assert said
        assert all(f"{urls[1]} does not answer" in line for line in said), said
        assert sorted(record["input"] for record in records(out)) == sorted(map(str, files))
        done = {record["server"] for record in records(out)}
        assert done == set(urls)

        assert main([*words, str(out), "--server", *urls]) == 0
        assert "8 finished before" in capsys.readouterr().out
        assert main([*words, str(tmp_path / "one"), "--server", urls[0]]) == 0
        assert len(records(out)) == 8
        for file in files:
            one, two = (
                Image.open(at / f"{file.stem}_restored.png") for at in (out, tmp_path / "one")
            )
            assert one.tobytes() == two.tobytes()
    finally:
        victim.stop()
