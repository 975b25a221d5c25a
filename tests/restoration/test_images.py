"""Reading every kind of file that users drop in, and writing pictures that are never half there."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from comfyui_flowdps.restoration import images, png
from PIL import Image


def stripes(mode="RGB", size=(24, 20)) -> Image.Image:
    wide, tall = size
    pixels = np.zeros((tall, wide, 3), np.uint8)
    pixels[:, ::3] = (255, 40, 0)
    pixels[: tall // 2, 1::3] = (10, 200, 90)
    return Image.fromarray(pixels).convert(mode)


def read(tmp_path, image, name="a.png", **save):
    path = tmp_path / name
    image.save(path, **save)
    return images.read_image(path)


def test_what_is_written_is_read_again(tmp_path):
    x = torch.rand(1, 3, 17, 23, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images.save_png(x, tmp_path / "x.png")
    y, notes = images.read_image(tmp_path / "x.png")
    assert notes == []
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert float((x - y).abs().max()) <= 1.0001 / 255
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("mode", "name", "words"),
    [
        ("L", "a.png", "grey converted to RGB"),
        ("1", "a.png", "black and white"),
        ("P", "a.png", "palette"),
        ("CMYK", "a.jpg", "CMYK converted to RGB"),
        ("YCbCr", "a.jpg", ""),
    ],
)
def test_other_modes_become_rgb_and_it_is_said(tmp_path, mode, name, words):
    x, notes = read(tmp_path, stripes(mode), name)
    assert x.shape == (1, 3, 20, 24)
    assert words in " ".join(notes)


def test_alpha_is_composited_on_white(tmp_path):
    image = stripes("RGBA")
    image.putalpha(0)
    x, notes = read(tmp_path, image)
    assert torch.equal(x, torch.ones(1, 3, 20, 24))
    assert notes == ["RGBA converted to RGB", "alpha composited on white"] or notes == [
        "alpha composited on white"
    ]


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    ramp = np.linspace(0, 65535, 24 * 20).reshape(20, 24).astype(np.uint16)
    x, notes = read(tmp_path, Image.fromarray(ramp), "a.png")
    torch.testing.assert_close(
        x[0, 1], torch.from_numpy(ramp / 32767.5 - 1).float(), rtol=0, atol=1e-4
    )
    assert "16-bit" in notes[0]


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (24, 20), c) for c in ("red", "green", "blue")]
    x, notes = read(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert float(x[0, 0].min()) == 1
    assert float(x[0, 1:].max()) == -1
    assert "first of 3 frames" in notes


def test_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    x, notes = read(tmp_path, stripes(), "a.jpg", exif=exif)
    assert x.shape == (1, 3, 24, 20)
    assert "orientation" in notes[0]


def test_nan_is_refused(tmp_path):
    values = np.full((20, 24), 0.5, np.float32)
    values[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        read(tmp_path, Image.fromarray(values), "a.tiff")


def test_files_that_are_no_pictures_are_named(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ValueError, match=r"a\.png is not an image"):
        images.read_image(tmp_path / "a.png")
    stripes(size=(200, 200)).save(tmp_path / "b.jpg")
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"b\.jpg is truncated"):
        images.read_image(tmp_path / "b.jpg")
    with pytest.raises(ValueError, match="no such file"):
        images.read_image(tmp_path / "c.png")
    with pytest.raises(ValueError, match="1x1 pixels"):
        read(tmp_path, Image.new("RGB", (1, 1)), "d.png")


def test_a_folder_stands_for_its_pictures_and_nothing_is_taken_twice(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    found = images.find_images([tmp_path / "b.png", tmp_path])
    assert [f.name for f in found] == ["b.png", "a.JPG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images in the folder"):
        images.find_images([tmp_path / "empty"])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    images.save_png(torch.zeros(1, 3, 16, 16), path)
    old = path.read_bytes()

    write = Path.write_bytes

    def fail(self, content):
        write(self, content[: len(content) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        images.save_png(torch.ones(1, 3, 16, 16), path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_sheet_shows_small_pictures_at_the_size_of_the_large():
    small, large = torch.full((1, 3, 40, 50), 0.2), torch.full((1, 3, 80, 100), -0.2)
    result = images.sheet([("y", small), ("x", large)])
    colours = {c for _, c in result.getcolors(1 << 20) or []}
    assert {(153,) * 3, (102,) * 3} <= colours
    counts = {c: n for n, c in result.getcolors(1 << 20) or []}
    assert counts[(153,) * 3] == counts[(102,) * 3]


def test_of_many_profiles_and_texts_only_so_much_is_decompressed(monkeypatch):
    """A small PNG that holds gigabytes: one profile is looked at, and texts up to a limit."""
    data = zlib.compress(bytes(2 * png.LONGEST), 9)

    def part(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + bytes(4)

    looked: list[int] = []
    real = png._inflated

    def inflated(content: bytes, most: int) -> bytes:
        looked.append(most)
        return real(content, most)

    monkeypatch.setattr(png, "_inflated", inflated)
    profiles, texts = part(b"iCCP", b"a\0\0" + data) * 30, part(b"zTXt", b"a\0\0" + data) * 100
    end = part(b"IEND", b"")
    kept, profile = png.readable(png.SIGNATURE + profiles + texts + end)
    assert kept == png.SIGNATURE + end
    assert profile == bytes(2 * png.LONGEST)
    assert looked.count(png.PROFILE) == 1
    assert looked.count(png.LONGEST) <= png.TOGETHER / png.LONGEST
