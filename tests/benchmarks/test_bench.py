"""The benchmark's tasks: all degradations, each with something that classical methods can take."""

from __future__ import annotations

import sys

import pytest
import torch
from comfyui_flowdps import benchmarks
from comfyui_flowdps.benchmarks.command import own_pictures
from comfyui_flowdps.benchmarks.perceptual import flip_of
from comfyui_flowdps.benchmarks.results import BLIND, Result, interval, paired, summary
from comfyui_flowdps.benchmarks.tasks import PAPER, TASKS, found_in
from comfyui_flowdps.cli.command import main
from comfyui_flowdps.samplers import classical
from PIL import Image


@pytest.mark.parametrize(("kind", "least"), [("test", 24), ("tune", 8)])
def test_the_photographs_are_there_and_each_is_credited(kind, least):
    folder = benchmarks.HELD_OUT / "photos" / kind
    x = benchmarks.pictures(f"photos/{kind}")
    assert x.shape[0] == len(list(folder.iterdir())) >= least
    assert x.shape[1:] == (3, 256, 256)
    credits = (folder.parent / "LICENSE.md").read_text(encoding="utf-8")
    part = credits.split(f"## {kind}/")[1].split("## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line[:1] == "|"][2:]
    assert sorted(row[0] for row in rows) == sorted(file.stem for file in folder.iterdir())
    free = ("public domain", "CC0", "[CC BY ")
    assert all(row[3].startswith(free) and row[2] and row[4] for row in rows)


def test_no_photograph_is_in_both_sets():
    test, tune = (benchmarks.pictures(f"photos/{kind}").flatten(1) for kind in ("test", "tune"))
    both = torch.cat([test, tune])
    alike = torch.corrcoef(both - both.mean(1, keepdim=True)) - torch.eye(len(both))
    assert float(alike.max()) < 0.9


def test_flip_sees_what_psnr_does_not():
    """Of two errors of equal size, the one that a person sees less is the finer one."""
    pytest.importorskip("flip_evaluator")
    flip = flip_of()
    assert not isinstance(flip, str)
    x = benchmarks.pictures("photos/tune", 1)
    fine = 0.1 * torch.sign(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    coarse = fine[..., ::32, ::32].repeat_interleave(32, 2).repeat_interleave(32, 3)
    assert flip(x, x) == pytest.approx(0, abs=1e-6)
    assert 0 < flip(x + fine / 4, x) < flip(x + fine, x) < flip(x + coarse, x) < 1


def test_without_its_package_flip_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    assert flip_of() == "FLIP is left out: pip install flip-evaluator"


def test_a_pair_is_better_by_its_sign():
    """PSNR and SSIM: more is better; FLIP: less is."""
    own, other = ([level, level + 1] for level in (3.0, 1.0))
    rows = [
        Result("blur", name, values, values, [], 0.0, 0, 0, flip=values)
        for name, values in (("refine", own), ("Wiener", other))
    ]
    cells = paired(rows, "refine").splitlines()[-1].strip("| ").split(" | ")
    assert cells[1:] == ["Wiener", "+2.00 ± 0.00", "+2.0000 ± 0.0000", "-2.0000 ± 0.0000"]


def test_photographs_are_a_benchmark_of_their_own(tmp_path, capsys):
    """By their name, with strengths tuned on photographs, and resumed from a file."""
    args = ["bench", "--pictures", "photos", "--images", "2", "--tune-images", "1", "--tasks"]
    args += ["noise only", "--preset", "fast", "--batch", "1", "--out", str(tmp_path / "r.json")]
    assert main(args) == 0
    table = capsys.readouterr().out
    assert "| noise only | refine |" in table
    assert "| noise only | refine, no flow |" in table
    assert "| noise only | total variation |" in table
    assert main(args) == 0
    assert capsys.readouterr().out == table


def test_those_of_the_paper_come_first():
    assert list(TASKS)[: len(PAPER)] == PAPER
    assert len(PAPER) == 4


@pytest.mark.parametrize("task", TASKS)
def test_a_measurement_looks_like_a_picture_and_suits_the_baselines(task):
    x = benchmarks.pictures("tune", 1)
    measurement = benchmarks.measure(x, task, 0.03, seed=0)
    how, picture = benchmarks.measurement_picture(measurement)
    assert picture.shape == x.shape
    assert (how == "bicubic") == ("x" in task.split()[-1][:1])
    assert not torch.allclose(picture, x, atol=0.01)
    restored = classical.wiener(benchmarks.classical_measurement(measurement), 0.01)
    assert restored.shape == x.shape
    assert bool(restored.isfinite().all())


@pytest.mark.parametrize(
    ("degraded", "classical", "own", "verdict"),
    [
        (20, 25, 30, "yes"),
        (20, 30, 25, "no"),
        (20, 25, 25.05, "level"),
        (25, 24, 25.05, "not improved"),
        (25, 30, 20, "not improved"),
    ],
)
def test_the_summary_says_where_it_is_better_and_where_not(degraded, classical, own, verdict):
    spread = [-0.02, 0.01, 0.02, -0.01]
    means = {"degraded": degraded, "Wiener": 10, "total variation": classical, "flowdps": own}
    rows = [
        Result("blur", method, [mean + d * (k + 1) for d in spread], [], [], 0.0, 0, 0)
        for k, (method, mean) in enumerate({**means, BLIND.format("flowdps"): 21}.items())
    ]
    line = summary(rows).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    best = max(degraded, classical)
    assert cells[:3] == ["blur", f"{degraded:.2f}", f"{best:.2f}"]
    assert cells[5].startswith(f"{own - degraded:+.2f} ± 0.0")
    assert cells[6].startswith(f"{own - best:+.2f} ± 0.0")
    assert cells[7:] == [verdict, "21.00"]


def test_the_interval_is_student_s():
    """Of 1, 2, 3: mean 2, standard error 1 / √3, quantile 4.303 of two degrees of freedom."""
    centre, half = interval([1.0, 2.0, 3.0])
    assert centre == 2
    assert half == pytest.approx(4.3027 / 3**0.5, rel=1e-4)


@pytest.mark.parametrize("task", [name for name, case in TASKS.items() if case.blind])
def test_a_blind_run_finds_a_degradation_that_fits(task):
    """Of the measurement alone: an operator of its size, and the noise."""
    x = benchmarks.pictures("tune", 1)
    measurement = benchmarks.measure(x, task, 0.03, seed=0)
    recipe, level = found_in(measurement.y, TASKS[task], seed=0)
    assert recipe.bind(measurement.operator.in_shape).out_shape == measurement.operator.out_shape
    assert level == pytest.approx(0.03, abs=0.005)


def test_what_is_converted_of_own_pictures_is_told(tmp_path, capsys):
    """Of the benchmark's pictures, too: alpha is put on white, and the user knows."""
    Image.new("RGBA", (64, 48), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (64, 48), "grey").save(tmp_path / "plain.png")
    x = own_pictures(tmp_path, 32)
    assert x.shape == (2, 3, 32, 32)
    assert float(x[0].min()) > 0.99
    assert capsys.readouterr().err.splitlines() == ["clear.png: alpha composited on white"]
