"""``flowdps bench --paper`` with a tiny random model: what it runs, keeps, and prints."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from comfyui_flowdps.benchmarks import paper
from comfyui_flowdps.cli.command import main
from comfyui_flowdps.restoration import images
from comfyui_flowdps.samplers import METHODS

SIDE = 24
NAMES = ("a.png", "b.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for k, name in enumerate(NAMES):
        generator = torch.Generator().manual_seed(k)
        images.save_png(2 * torch.rand(1, 3, 30 + k, 40, generator=generator) - 1, path / name)
    return path


@pytest.fixture
def command(folder, pipeline, tmp_path):
    """Runs the command with two methods, one picture unless told, and a file for the numbers."""
    out = tmp_path / "out.json"

    def run(*more: str, methods=("flowdps", "refine"), count=1) -> int:
        words = ["bench", "--paper", "--prior", str(pipeline.folder), "--pictures", str(folder)]
        words += ["--side", str(SIDE), "--steps", "2", "--device", "cpu", "--out", str(out)]
        return main([*words, "--images", str(count), "--methods", *methods, *more])

    return SimpleNamespace(run=run, out=out, rows=lambda: json.loads(out.read_text())["paper"])


def cells(printed: str) -> list[list[str]]:
    """The rows of a Markdown table."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_has_every_task_and_entry(command, capsys):
    assert command.run() == 0
    table = cells(capsys.readouterr().out)
    assert table[0][:5] == ["task", "method, preset", "pictures", "PSNR, dB", "SSIM"]
    assert {len(row) for row in table} == {7}
    entries = ["flowdps, published", "flowdps, tuned", "refine, tuned"]
    assert [row[:3] for row in table[2:]] == [[t, e, "1"] for t in paper.TASKS for e in entries]
    found = {(r["task"], r["entry"]): r for r in command.rows()}
    for task, entry, _, psnr, ssim, residual, _ in table[2:]:
        row = found[task, entry]
        want = [f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", f"{row['residual']:.2f}"]
        assert [psnr, ssim, residual] == want


def test_the_entries_are_the_published_presets_and_every_default():
    found = [entry.name for entry in paper.entries(list(METHODS))]
    having = [name for name, row in METHODS.items() if "published" in row.presets]
    published = [f"{name}, published" for name in having]
    assert {"flowdps, published", "flowchef, published", "psld, published"} <= set(published)
    assert found[: len(published)] == published
    assert found[len(published) :] == [f"{name}, {row.default}" for name, row in METHODS.items()]


def test_the_tasks_are_those_of_the_paper():
    """At 768 pixels: factor 12 to 64 pixels, and kernels of 61."""
    made = [paper.recipe(task, 768, seed=0) for task in paper.TASKS]
    shapes = [recipe.bind((3, 768, 768)).out_shape for recipe in made]
    assert shapes == [(3, 64, 64)] * 2 + [(3, 768, 768)] * 2
    assert [recipe.size for recipe in made[2:]] == [61, 61]


def test_a_killed_run_goes_on_where_it_was(command, monkeypatch, capsys):
    """The rest of a run after a kill: nothing is redone, and the numbers are those of one run."""
    restored, calls = paper.PaperBench.restored, []

    def killed(self, x, picture, task, entry):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append((picture.name, task, entry.name))
        return restored(self, x, picture, task, entry)

    monkeypatch.setattr(paper.PaperBench, "restored", killed)
    one = {"methods": ("refine",), "count": 2}
    assert command.run(**one) == 130
    first = command.rows()
    assert len(first) == 5
    assert len(cells(capsys.readouterr().out)) == 2 + 4
    calls.clear()
    calls.append(None)
    assert command.run(**one) == 0
    assert len(calls) == 1 + 3
    printed = capsys.readouterr()
    assert "5 restorations are in" in printed.err
    assert "2 left, about" in printed.err
    assert {row[2] for row in cells(printed.out)[2:]} == {"2"}
    assert command.rows()[:5] == first
    whole = {(r["task"], r["picture"]): r["psnr"] for r in command.rows()}
    monkeypatch.undo()
    command.out.unlink()
    assert command.run(**one) == 0
    assert {(r["task"], r["picture"]): r["psnr"] for r in command.rows()} == whole


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    book = paper.Book(tmp_path / "book.json")
    book.keep({"psnr": 1.0})
    before = book.path.read_text()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(paper.os, "replace", fail)
    with pytest.raises(OSError, match="space"):
        book.keep({"psnr": 2.0})
    assert book.path.read_text() == before
    assert paper.Book(book.path).rows == [{"psnr": 1.0}]


def test_another_seed_or_prompt_is_another_run(command):
    command.run(methods=("refine",))
    command.run("--seed", "1", methods=("refine",))
    command.run("--prompt", "a cat", methods=("refine",))
    rows = command.rows()
    assert len(rows) == 3 * len(paper.TASKS)
    assert len({row["psnr"] for row in rows}) == len(rows)


def test_every_picture_has_its_prompt(tmp_path, folder):
    file = tmp_path / "prompts.txt"
    file.write_text("b.png\ta photo of a cat\n\nother.png\tno picture of ours\n")
    pictures = images.find_images([folder])
    want = {"a.png": "a photo", "b.png": "a photo of a cat"}
    assert paper.prompts_of(pictures, file, "a photo") == want
    file.write_text("a photo of a cat")
    with pytest.raises(ValueError, match="FILE NAME, a tab"):
        paper.prompts_of(pictures, file, "a photo")


def test_lpips_and_fid_where_their_packages_are(command, tmp_path, monkeypatch, capsys):
    """Stand-ins for both packages: their columns come last but two; without, a line says why."""

    class Network:
        def __init__(self, **_):
            pass

        def to(self, _):
            return self

        eval = lambda self: self  # noqa: E731
        __call__ = lambda self, x, y: (x - y).abs().mean()  # noqa: E731

    def calculate_metrics(input1, input2, **_):
        count = (len(list(paper.Path(p).glob("*.png"))) for p in (input1, input2))
        return {"frechet_inception_distance": float(sum(count))}

    monkeypatch.setitem(sys.modules, "lpips", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    command.run(methods=("refine",))
    said = capsys.readouterr().err
    assert "LPIPS is left out: pip install lpips" in said
    assert "FID is left out: pip install torch-fidelity" in said
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Network))
    fidelity = SimpleNamespace(calculate_metrics=calculate_metrics)
    monkeypatch.setitem(sys.modules, "torch_fidelity", fidelity)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "empty"))
    command.run(methods=("refine",))
    said = capsys.readouterr().err
    assert "233 MB" in said
    assert "91 MB" in said
    command.out.unlink()
    command.run("--download", "--save", str(tmp_path / "kept"), methods=("refine",))
    table = cells(capsys.readouterr().out)
    assert table[0][5:7] == ["LPIPS", "FID"]
    lpips = {row["task"]: row["lpips"] for row in command.rows()}
    assert [row[5:7] for row in table[2:]] == [[f"{lpips[t]:.3f}", "2.0"] for t in paper.TASKS]


def test_own_pictures_without_paper(folder, capsys):
    """The normal benchmark takes a folder, cut to squares."""
    words = ["bench", "--pictures", str(folder), "--side", "32", "--tune-images", "1"]
    words += ["--tasks", "SR x4", "--methods", "refine", "--steps", "1", "--images", "1"]
    assert main([*words, "--device", "cpu"]) == 0
    rows = cells(capsys.readouterr().out)
    assert [row[1] for row in rows if row[0] == "SR x4" and row[1] == "refine"] == ["refine"]


def test_the_centre_is_kept_and_resized():
    x = torch.zeros(1, 3, 20, 40)
    x[..., 10:30] = 1
    assert bool((images.square(x, 20) == 1).all())
    half = images.square(x, 10)
    assert half.shape == (1, 3, 10, 10)
    assert float(half[..., 2:-2].min()) > 0.95
