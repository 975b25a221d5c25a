"""Nobody's picture lost: results in one folder, whatever ran into it, in any order, and killed."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from comfyui_flowdps.cli import folders, results
from comfyui_flowdps.cli.folders import LocalStore
from comfyui_flowdps.cli.results import Results, mark_of
from comfyui_flowdps.restoration import images
from PIL import Image

from .test_command import records, restore

QUICK = ("--task", "sr_bicubic", "--method", "refine", "--preset", "fast", "--steps", 1)
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs fork, links and names that are bytes")


@pytest.fixture
def photo(tmp_path, picture):
    """Makes a photo out of a part of a held-out picture; another ``shift`` is another photo."""

    def make(name="x.png", folder="in", shift=0, size=(40, 32)):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        with Image.open(picture) as image:
            image.convert("RGB").crop((30 + shift, 30, 30 + shift + size[0], 30 + size[1])).save(
                path
            )
        return path

    return make


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def pictures(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.png")}


def alone(tmp_path, *arguments) -> dict[str, bytes]:
    """The results of a run into a folder of its own."""
    folder = tmp_path / f"alone{len(list(tmp_path.glob('alone*')))}"
    assert restore(*arguments, *QUICK, "--out", folder) == 0
    return pictures(folder)


def test_what_is_there_is_always_what_was_asked_last(tmp_path, photo, capsys):
    """Seed 0, 1, 0, and 0 again: three restorations, one skipped, never the wrong picture."""
    file, out = photo(), tmp_path / "o"
    wanted = {seed: alone(tmp_path, file, "--seed", seed) for seed in (0, 1)}
    assert wanted[0]["x_restored.png"] != wanted[1]["x_restored.png"]
    capsys.readouterr()
    for seed, skipped in ((0, False), (1, False), (0, False), (0, True)):
        assert restore(file, *QUICK, "--out", out, "--seed", seed) == 0
        assert ("1 finished before" in capsys.readouterr().out) == skipped
        assert pictures(out) == wanted[seed]
    assert [record["seed"] for record in records(out)] == [0, 1, 0]


def test_every_picture_says_what_made_it(tmp_path, photo):
    file, out = photo(), tmp_path / "o"
    assert restore(file, *QUICK, "--seed", 7, "--out", out) == 0
    (record,) = records(out)
    for part in ("restored", "measurement", "sheet"):
        mark = mark_of(out / record[f"{part}_file"])
        assert mark is not None
        assert (mark["part"], mark["run"], mark["seed"]) == (part, record["run"], 7)
        assert (mark["input"], mark["method"], mark["steps"]) == ("x.png", "refine", 1)
        assert mark["input_sha256"] == record["input_sha256"]
    assert str(tmp_path) not in (out / "x_restored.png").read_bytes().decode("latin-1")


@pytest.mark.parametrize("together", [True, False])
def test_two_photos_of_one_name_get_two_names(tmp_path, photo, together):
    """In one run or one after the other; then again, when all are skipped."""
    files, out = [photo(), photo(folder="other", shift=20)], tmp_path / "o"
    wanted = [alone(tmp_path, file)["x_restored.png"] for file in files]
    runs = [files] if together else [files[:1], files[1:]]
    for _ in range(2):
        for inputs in runs:
            assert restore(*inputs, *QUICK, "--out", out) == 0
    found = {record["input"]: record["restored_file"] for record in records(out)}
    assert len(records(out)) == 2
    for file, want in zip(files, wanted, strict=True):
        same = pixels(out / found[str(file)])
        (tmp_path / "want.png").write_bytes(want)
        assert np.array_equal(same, pixels(tmp_path / "want.png"))
    assert restore(files[1], *QUICK, "--out", out) == 0
    assert len(records(out)) == 2


def test_a_file_of_the_user_is_read_and_never_written_over(tmp_path, photo, capsys):
    """``restore d/*.png --out d``, twice: what the user has is an input, results are not."""
    files = [photo("x.png", "d"), photo("x_restored.png", "d", 20), photo("x_sheet.png", "d", 30)]
    folder, before = tmp_path / "d", pictures(tmp_path / "d")
    assert restore(*files, *QUICK, "--out", folder) == 0
    assert {name: pictures(folder)[name] for name in before} == before
    assert len(records(folder)) == 3
    after = pictures(folder)
    assert len(after) == 3 + 9
    capsys.readouterr()
    assert restore(*sorted(folder.glob("*.png")), *QUICK, "--out", folder) == 0
    assert "9 results of earlier runs" in (said := capsys.readouterr().out)
    assert "3 finished before" in said
    assert pictures(folder) == after


def test_a_result_that_was_painted_over_is_the_users(tmp_path, photo):
    """Its text stayed as it was, as many programs keep it; its pixels did not."""
    file, out = photo(), tmp_path / "o"
    assert restore(file, *QUICK, "--out", out) == 0
    with Image.open(out / "x_restored.png") as image:
        text, image = images.PngInfo(), image.copy()
        text.add_text(results.KEY, image.info[results.KEY])
        image.putpixel((3, 3), (1, 2, 3))
        image.save(out / "x_restored.png", pnginfo=text)
    painted = (out / "x_restored.png").read_bytes()
    assert restore(file, *QUICK, "--out", out, "--seed", 1) == 0
    assert (out / "x_restored.png").read_bytes() == painted
    assert (out / records(out)[-1]["restored_file"]).name == "x_png_restored.png"


@pytest.mark.parametrize(
    "change",
    ["--noise 0.05", "--steps 2", "--estimate noise", "--prior", "--task identity", "--tile 64"],
)
def test_whatever_matters_is_another_run(tmp_path, photo, capsys, monkeypatch, change):
    file, out = photo(size=(64, 64)), tmp_path / "o"
    first = ["--observed", "--task", "sr_bicubic", "--deg-scale", 2]
    if change == "--estimate noise":
        # The level that is estimated, and the usual one given by hand.
        first += ["--estimate", "noise"]
        change = "--noise 0.03"
    if change == "--prior":
        from comfyui_flowdps.priors.built_in import DEMO

        shutil.copy(DEMO.file, tmp_path / "m.safetensors")
        first += ["--prior", tmp_path / "m.safetensors"]
        change = ""
    assert restore(file, *QUICK, *first, "--out", out) == 0
    if not change:
        os.utime(tmp_path / "m.safetensors", (1, 1))
    assert restore(file, *QUICK, *first, "--out", out, *change.split()) == 0
    assert "finished before" not in capsys.readouterr().out
    assert len(records(out)) == 2


def test_samples_of_an_earlier_run_do_not_stay_beside_another_restoration(tmp_path, photo):
    file, out = photo(), tmp_path / "o"
    assert restore(file, *QUICK, "--samples", 3, "--out", out) == 0
    Image.new("RGB", (9, 9)).save(out / "x_sample9.png")
    assert restore(file, *QUICK, "--samples", 2, "--out", out) == 0
    names = {path.name for path in out.glob("*_sample*.png")}
    assert names == {"x_sample1.png", "x_sample2.png", "x_sample9.png"}
    assert restore(file, *QUICK, "--out", out) == 0
    assert {path.name for path in out.glob("*.png")} == {
        *(f"x_{part}.png" for part in results.PARTS),
        "x_sample9.png",
    }


def test_a_name_taken_while_the_photo_was_restored_is_left_alone(tmp_path, photo):
    """Between the plan and the writing another run, or the user, wrote x_restored.png."""
    folder = tmp_path / "o"
    folder.mkdir()
    ours = Results(folder)
    file = photo()
    place = ours.place_for(file, set())
    shutil.copy(photo(shift=30), folder / "x_restored.png")
    before = (folder / "x_restored.png").read_bytes()
    x, source = images.read_image(file)[0], results.source_of(file)
    made = {part: results.marked(x, part, "run", source, {}) for part in results.PARTS}
    written = ours.write(file, place, "run", made, {})
    assert written.name == "x_png"
    assert ours.finished(written, "run")
    assert not ours.finished(place, "run")
    assert (folder / "x_restored.png").read_bytes() == before


@POSIX
@pytest.mark.parametrize("seed", range(2))
def test_runs_killed_at_random_end_as_one_undisturbed_run(tmp_path, photo, seed):
    """Bit by bit the same pictures and the same lines, in whatever order, and nothing else."""
    for k, size in enumerate([(40, 32), (32, 40), (40, 32), (24, 24), (40, 32)]):
        photo(f"{k}.png", shift=7 * k, size=size)
    photo("0.jpg", shift=50)
    inputs = [str(file) for file in sorted((tmp_path / "in").iterdir())]
    arguments = ["restore", *inputs, *map(str, QUICK), "--batch", "2", "--out"]
    script = [sys.executable, str(Path(__file__).with_name("killed.py")), str(seed)]

    def run(kills: int, seconds: float, out: str) -> list[str]:
        done = subprocess.run(
            [*script, str(kills), str(seconds), *arguments, str(tmp_path / out)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("killed ")[1].split()

    seconds = float(run(0, 0, "calm")[-1])
    assert int(run(8, seconds, "killed")[0]) > 1, "no run was killed"
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert pictures(killed) == pictures(calm)
    lines = [{record["run"]: record for record in records(folder)} for folder in (killed, calm)]
    assert lines[0] == lines[1]
    assert len(records(killed)) == len(inputs)
    assert {f.name for f in killed.iterdir()} == {f.name for f in calm.iterdir()}


@POSIX
def test_several_runs_into_one_folder_at_once(tmp_path, photo):
    """Four runs: two of one name from two folders, one twice, and one with another seed."""
    files, out = [photo(), photo(folder="other", shift=20)], tmp_path / "o"
    script = [sys.executable, "-m", "comfyui_flowdps.cli", "restore"]
    given = [(0, 0), (0, 0), (1, 0), (0, 1)]
    running = [
        subprocess.Popen(
            [*script, str(files[k]), *map(str, QUICK), "--seed", str(seed), "--out", str(out)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for k, seed in given
    ]
    assert [run.wait() for run in running] == [0, 0, 0, 0]
    wanted = [alone(tmp_path, files[k], "--seed", seed)["x_restored.png"] for k, seed in given]
    names = {
        record["input"]: record["restored_file"][: -len("restored.png")] for record in records(out)
    }
    assert len(set(names.values())) == 2
    for k, file in enumerate(files):
        marks = [mark_of(out / f"{names[str(file)]}{part}.png") for part in results.PARTS]
        assert len({mark["run"] for mark in marks if mark}) == 1, "pictures of two runs are mixed"
        found = (out / f"{names[str(file)]}restored.png").read_bytes()
        assert found in [w for w, (j, _) in zip(wanted, given, strict=True) if j == k]


def test_the_log_is_as_it_was_where_a_line_cannot_be_written(tmp_path, monkeypatch):
    store, path = LocalStore(tmp_path), tmp_path / results.LOG
    log = results.Log(store)
    log.add({"run": "a", "input": "bad\udcff"})
    before = path.read_bytes()
    real = Path.open

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def write(self, data):
            if len(data) > 5:
                return self.stream.write(data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *a, **k: Full(real(*a, **k)))
    with pytest.raises(OSError, match="No space"):
        log.add({"run": "b"})
    assert path.read_bytes() == before
    monkeypatch.undo()
    log.add({"input": "line\u2028separator", "run": "c"})
    lines = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert [line["run"] for line in lines] == ["a", "c"]
    assert lines[0]["input"] == "bad\udcff"
    assert results.Log(store).finished == {"a", "c"}


def test_names_of_any_length_and_alphabet_fit_and_stay_apart(tmp_path):
    """A law of 200 random names: valid UTF-8, short enough, different, and the same next time."""
    drawn = random.Random(3)
    alphabet = "aZ 0é画🎨.\udcff\n%"
    names = {"".join(drawn.choices(alphabet, k=drawn.randint(1, 120))) for _ in range(200)}
    names |= {"画" * 76, "画" * 84, "画" * 83 + "a", "画" * 83 + "b"}
    files = [tmp_path / "in" / f"{name}.png" for name in sorted(names)]
    files += [tmp_path / "in" / f"a.{end}" for end in ("x" * 200, "画" * 80, "png")]
    folder = tmp_path / "o"
    folder.mkdir()
    ours = Results(folder, samples=12)
    taken, again = set(), set()
    places = [ours.place_for(file, taken) for file in files]
    written = [name for place in places for name in place.files.values()]
    assert max(len(name.encode("utf-8")) for name in written) <= 255
    assert len({name.casefold() for name in written}) == len(written)
    assert [ours.place_for(file, again) for file in files] == places
    assert places[files.index(tmp_path / "in" / f"{'画' * 76}.png")].name == "画" * 76


def test_names_for_file_systems_that_take_not_every_character(tmp_path, photo, monkeypatch):
    """Reasoned, as no such system is at hand: a memory card refuses what Linux takes."""
    names = ("a:b?.png", "a%3Ab%3F.png", "CON.png", "dot..png", "line\n.png", "画.png")
    files = [photo(name, shift=k) for k, name in enumerate(names)]
    real = Path.touch

    def strict(path, *words, **options):
        if set(path.name) & folders.FOREIGN:
            raise OSError(errno.EINVAL, "Invalid argument", str(path))
        real(path, *words, **options)

    monkeypatch.setattr(Path, "touch", strict)
    out = tmp_path / "o"
    assert restore(*files, *QUICK, "--out", out) == 0
    written = {path.name for path in out.glob("*_restored.png")}
    assert written == {
        "a%3Ab%3F_restored.png",
        "a%3Ab%3F_png_restored.png",
        "CON_restored.png",
        "dot._restored.png",
        "line%0A_restored.png",
        "画_restored.png",
    }
    reserved = {"con", "prn", "aux", "nul"}
    for path in out.iterdir():
        assert not set(path.name) & folders.FOREIGN
        assert path.name.split(".")[0].casefold() not in reserved
        assert path.name[-1] not in ". "


def test_paths_fit_into_what_windows_takes(tmp_path, photo, monkeypatch):
    """Of the whole path, not only of the name."""
    folder = tmp_path / ("deep" * 20)
    folder.mkdir()
    monkeypatch.setattr(folders, "WINDOWS", True)
    files = [tmp_path / f"{'x' * 200}{k}.png" for k in range(3)]
    ours, taken = Results(folder), set()
    places = [ours.place_for(file, taken) for file in files]
    longest = max(len(str(folder / name)) for place in places for name in place.files.values())
    assert folders.LONGEST_PATH - 8 < longest <= folders.LONGEST_PATH
    assert len({place.name for place in places}) == 3


def test_a_folder_is_known_however_it_is_written(tmp_path, photo, monkeypatch, capsys):
    """As on macOS and Windows, where IN is in: results are no input, and no folder of inputs is
    that of the results.
    """
    file = photo()
    real = os.path.samefile

    def folded(one, other):
        return real(*(str(path).replace("/IN", "/in") for path in (one, other)))

    monkeypatch.setattr(os.path, "samefile", folded)
    assert restore(file.parent, *QUICK, "--out", tmp_path / "IN") == 2
    assert "an input as well" in capsys.readouterr().err
    ours = Results(tmp_path / "in")
    assert restore(file, *QUICK, "--out", tmp_path / "in") == 0
    ours.folder = tmp_path / "IN"
    assert ours.is_result(tmp_path / "in" / "x_restored.png")


def test_a_result_that_is_open_on_windows_is_waited_for(tmp_path, photo, monkeypatch, capsys):
    """A viewer that lets go of it, and one that does not: one line, and the old result stays."""
    file, out = photo(), tmp_path / "o"
    assert restore(file, *QUICK, "--out", out) == 0
    before = (out / "x_restored.png").read_bytes()
    monkeypatch.setattr(images, "WINDOWS", True)
    monkeypatch.setattr(images.time, "sleep", lambda seconds: None)
    real, left = Path.replace, [3]

    def used(path, target):
        if target.name == "x_restored.png" and left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        return real(path, target)

    monkeypatch.setattr(Path, "replace", used)
    left[0] = 10**6
    assert restore(file, *QUICK, "--seed", 1, "--out", out) == 2
    assert capsys.readouterr().err.strip() == "flowdps: x.png: Access is denied"
    assert (out / "x_restored.png").read_bytes() == before
    assert not list(out.glob("*.part"))
    left[0] = 3
    assert restore(file, *QUICK, "--seed", 1, "--out", out) == 0
    assert (out / "x_restored.png").read_bytes() != before


def test_patterns_are_understood_where_the_console_leaves_them(tmp_path, photo, capsys):
    """cmd.exe and PowerShell hand ``*.png`` over as it is; a file of that very name is meant."""
    for k, name in enumerate(("b.png", "a.png", "c.jpg", "[x].png")):
        photo(name, shift=k)
    folder, out = tmp_path / "in", tmp_path / "o"
    assert restore(folder / "*.png", folder / "[x].png", *QUICK, "--out", out) == 0
    assert [Path(record["input"]).name for record in records(out)] == ["[x].png", "a.png", "b.png"]
    assert restore(folder / "*.webp", *QUICK, "--out", out) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_way_to_the_folder_of_results_makes_no_other_folder(tmp_path, photo):
    assert restore(photo(), *QUICK, "--out", tmp_path / "never" / ".." / "o") == 0
    assert not (tmp_path / "never").exists()
    assert len(records(tmp_path / "o")) == 1
