"""One bad picture, name or console never ends a batch: one line each, and exit code 2."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from comfyui_flowdps.cli import command, folders, work
from comfyui_flowdps.restoration import images
from PIL import Image

from .test_command import records, restore
from .test_results import POSIX, QUICK, photo

__all__ = ["photo"]


def said(capsys) -> list[str]:
    """The lines on standard error, all of them sentences of the command."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("flowdps: ") for line in lines), lines
    return lines


@POSIX
def test_a_folder_of_troubles(tmp_path, photo, capsys, monkeypatch):
    """Every picture that can be read is restored; every other one gets one line that names it."""
    for package in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, package, None)
    good = [photo("good.png"), photo("画" * 76 + ".png"), photo("new\nline.png")]
    good.append(photo("n.png").rename(tmp_path / "in" / os.fsdecode(b"caf\xe9.png")))
    folder = tmp_path / "in"
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    (folder / "next.jxl").write_bytes(b"\xff\x0a" + bytes(99))
    (folder / "camera.NEF").write_bytes(b"II*\0" + bytes(99))
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "nowhere.png").symlink_to("missing.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no picture")
    wrong = {
        "phone.heic": "is HEIC, which needs a package: pip install pillow-heif",
        "next.jxl": "is JPEG XL, which needs a package: pip install pillow-jxl-plugin",
        "camera.NEF": "is a camera's raw file; develop it",
        "itself.png": "is a link to itself",
        "nowhere.png": "is a link to nothing",
        "pipe.png": "is a pipe or a device",
        "empty.png": "is not an image",
        "absent.png": "no such file",
        "loop": "is a link to itself",
    }
    (tmp_path / "loop").symlink_to("loop")
    missing, empty = folder / "absent.png", tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "o"
    assert restore(folder, missing, tmp_path / "loop", empty, *QUICK, "--out", out) == 2
    lines = said(capsys)
    for name, words in wrong.items():
        assert [line for line in lines if f"/{name}" in line and words in line], (name, lines)
    assert len(lines) == len(wrong) + 1
    assert "no images in the folder" in lines[-1]
    assert {record["input"] for record in records(out)} == {str(file) for file in good}
    names = {path.name.encode("utf-8") for path in out.glob("*_restored.png")}
    assert names == {
        b"good_restored.png",
        ("画" * 76 + "_restored.png").encode(),
        b"new\nline_restored.png",
        b"caf%E9_restored.png",
    }


@POSIX
@pytest.mark.parametrize("console", ["cp1252", "ascii", "utf-8"])
def test_a_console_of_another_code_page_and_one_that_is_gone(tmp_path, photo, console):
    for name in ("画.png", os.fsdecode(b"caf\xe9.png"), "ok.png"):
        photo("n.png").rename(tmp_path / "in" / name)
    (tmp_path / "in" / "画bad.png").touch()
    command = [sys.executable, "-m", "comfyui_flowdps.cli", "restore", str(tmp_path / "in")]
    # Buffered, as usual: what a console that is gone does not take fails at the end only.
    environment = {**os.environ, "PYTHONIOENCODING": console, "PYTHONUNBUFFERED": ""}
    environment["OMP_NUM_THREADS"] = "1"
    gone, ours = os.pipe()
    if console == "utf-8":
        os.close(gone)
    run = subprocess.run(
        [*command, *map(str, QUICK), "--out", str(tmp_path / "o")],
        stdout=ours if console == "utf-8" else subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    lines = run.stderr.decode(console).strip().splitlines()
    assert (run.returncode, len(lines)) == (2, 1), lines
    (line,) = lines
    assert ("画" if console == "utf-8" else "\\u753b") + "bad.png is not an image" in line
    assert len(records(tmp_path / "o")) == 3


def test_a_full_disk_costs_the_photo_and_not_the_batch(tmp_path, photo, capsys, monkeypatch):
    files = [photo(f"{k}.png", shift=k) for k in range(3)]
    real = images.write_file

    def full(path, content):
        if path.name == "1_restored.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    monkeypatch.setattr(images, "write_file", full)
    out = tmp_path / "o"
    assert restore(*files, *QUICK, "--out", out) == 2
    (line,) = said(capsys)
    assert line == "flowdps: 1.png: No space left on device"
    assert [record["input"] for record in records(out)] == [str(files[0]), str(files[2])]
    monkeypatch.undo()
    assert restore(*files, *QUICK, "--out", out) == 0
    assert "2 finished before" in capsys.readouterr().out


def test_a_folder_where_nothing_can_be_written_is_said_before_long_work(
    tmp_path, photo, capsys, monkeypatch
):
    def readonly(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(work.Work, "prior", property(lambda _: pytest.fail("loaded")))
    (tmp_path / "file").touch()
    assert restore(photo(), *QUICK, "--out", tmp_path / "file" / "o") == 2
    monkeypatch.setattr(folders.FileLock, "acquire", readonly)
    assert restore(photo(), *QUICK, "--out", tmp_path / "o") == 2
    first, second = said(capsys)
    assert "nothing can be written (Not a directory)" in first
    assert "nothing can be written (Read-only file system); choose another folder" in second


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("the restoration is not finite"), "1.png: the restoration is not finite"),
        (RuntimeError("out of memory"), "1.png: out of memory: choose a smaller --tile"),
        (RuntimeError("strange\nthing"), "1.png: RuntimeError: strange"),
        (ZeroDivisionError("no"), "1.png: ZeroDivisionError: no"),
    ],
)
def test_one_photo_that_fails_in_a_batch(tmp_path, photo, capsys, monkeypatch, error, words):
    files = [photo(f"{k}.png", shift=k) for k in range(3)]
    real = work.restore

    def failing(photos, *rest):
        if "1.png" in [each.name for each in photos]:
            raise error
        return real(photos, *rest)

    monkeypatch.setattr(work, "restore", failing)
    assert restore(*files, *QUICK, "--batch", 3, "--out", tmp_path / "o") == 2
    (line,) = said(capsys)
    assert words in line
    assert len(records(tmp_path / "o")) == 2


def test_a_photo_that_vanishes_or_changes_meanwhile(tmp_path, photo, capsys, monkeypatch):
    files = [photo(f"{k}.png", shift=k) for k in range(2)]
    real = command.list_photos

    def vanish(*arguments):
        found = real(*arguments)
        files[1].unlink()
        return found

    monkeypatch.setattr(command, "list_photos", vanish)
    assert restore(*files, *QUICK, "--out", tmp_path / "o") == 2
    (line,) = said(capsys)
    assert "no such file" in line
    assert len(records(tmp_path / "o")) == 1


def test_heic_is_read_where_its_package_is(tmp_path, monkeypatch):
    """A stand-in for the package, which opens the file once it is registered."""
    Image.new("RGB", (20, 30), "red").save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + data)
    opened, registered = Image.open, []

    class Package:
        @staticmethod
        def register_heif_opener():
            registered.append(True)

    def reads(stream, *rest, **more):
        if registered and stream.getvalue()[4:12] == b"ftypheic":
            stream = images.io.BytesIO(stream.getvalue()[12:])
        return opened(stream, *rest, **more)

    monkeypatch.setitem(sys.modules, "pillow_heif", Package)
    monkeypatch.setattr(images.Image, "open", reads)
    assert images.read_image(tmp_path / "a.heic")[0].shape == (1, 3, 30, 20)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--batch=--"], "--batch=-- gives no value"),
        (["--noise", "1e300"], "and at most 100"),
        (["--size", "99999"], "expected 16x16 to 4096x4096"),
        (["--width", "9" * 5000, "--height", "64"], "argument --width: invalid int value"),
        (["--task", "sr_bicubic", "--deg-scale", "1e12"], "expected at most 256"),
        (["--task", "deblur_uni", "--deg-scale", "inf"], "expected at most 1023"),
        (["--task", "outpainting", "--deg-scale", "3000", "--observed"], "at most 4096 a side"),
        (["--task", "deblur_motion", "--seed", str(2**64)], "expected a whole number of 64 bits"),
    ],
)
def test_numbers_beyond_everything_cost_one_sentence(tmp_path, photo, capsys, words, told):
    assert restore(photo(), *QUICK, *words, "--out", tmp_path / "o") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("flowdps")
    assert told in line


@POSIX
@pytest.mark.parametrize("name", ["results.jsonl", ".flowdps.lock"])
def test_a_link_among_the_results_leads_nowhere(tmp_path, photo, capsys, name):
    """What it leads to is neither emptied nor written to."""
    out, precious = tmp_path / "o", tmp_path / "precious"
    out.mkdir()
    precious.write_text("precious")
    (out / name).symlink_to(precious)
    assert restore(photo(), *QUICK, "--out", out) == 2
    assert f"{name} in it is a link to another file; remove it" in said(capsys)[0]
    assert precious.read_text() == "precious"
