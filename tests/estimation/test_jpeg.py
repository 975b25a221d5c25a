"""What a JPEG file says of its own compression."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from comfyui_flowdps.estimation.jpeg import ZIGZAG, read_jpeg
from comfyui_flowdps.estimation.rounding import rounded_away
from comfyui_flowdps.operators import Jpeg
from comfyui_flowdps.operators.jpeg_tables import CHROMA, LUMA, scaled
from comfyui_flowdps.operators.observation import pad_to
from comfyui_flowdps.operators.orientation import TURNS, stored, upright
from comfyui_flowdps.restoration.images import read_image
from PIL import Image, ImageOps

SAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def saved(picture, folder, **options):
    path = folder / "photo.jpg"
    Image.open(picture).convert("RGB").save(path, "JPEG", **options)
    return path


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 92, 100])
@pytest.mark.parametrize("subsampling", SAMPLING)
def test_reads_what_the_encoder_was_told(picture, tmp_path, quality, subsampling):
    found = read_jpeg(saved(picture, tmp_path, quality=quality, subsampling=SAMPLING[subsampling]))
    assert found.exact
    assert found.quality == quality
    assert found.recipe == Jpeg(quality, subsampling)


def test_the_order_of_the_tables():
    """LUMA is not symmetric, so that another order of its values would be noticed."""
    assert [LUMA[k] for k in range(64)] != [LUMA[8 * (k % 8) + k // 8] for k in range(64)]
    assert sorted(ZIGZAG) == list(range(64))
    assert ZIGZAG[:6] == [0, 1, 8, 16, 9, 2]
    assert ZIGZAG[-3:] == [55, 62, 63]


def test_tables_of_its_own(picture, tmp_path):
    """Tables that no quality has come back value by value, and do to the picture what is seen."""
    luma = tuple(min(255, 2 * step + k % 5) for k, step in enumerate(scaled(LUMA, 60)))
    chroma = tuple(min(255, step + k % 7) for k, step in enumerate(scaled(CHROMA, 40)))
    # Pillow takes tables row by row since version 8.3.
    path = saved(picture, tmp_path, qtables=[list(luma), list(chroma)], subsampling=0)
    found = read_jpeg(path)
    assert not found.exact
    assert (found.recipe.luma, found.recipe.chroma) == (luma, chroma)
    assert 25 < found.quality < 60
    clean = read_image(picture)[0]
    there = found.recipe.bind(tuple(clean.shape[1:])).A(clean)
    assert float((there - read_image(path)[0]).abs().mean()) < 0.002


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", SAMPLING)
def test_blocks_lie_as_in_the_file(picture, tmp_path, orientation, subsampling):
    """The recipe makes of the upright picture what is read, also where it is padded, in every
    orientation, with sides that nothing divides; the recipe for another corner does not.
    """
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = Image.open(picture).convert("RGB").crop((0, 0, 117, 91))
    path = tmp_path / "turned.jpg"
    lying.save(path, quality=20, subsampling=SAMPLING[subsampling], exif=exif)
    lying.save(tmp_path / "clean.png", exif=exif)
    clean, seen = (read_image(tmp_path / name)[0] for name in ("clean.png", "turned.jpg"))
    size = tuple(seen.shape[2:])
    assert size == ((91, 117) if orientation < 5 else (117, 91))
    found = read_jpeg(path)
    assert (found.quality, found.exact, found.recipe.subsampling) == (20, True, subsampling)

    def error(recipe, x, y):
        return float((recipe.bind(tuple(x.shape[1:])).A(x) - y).abs().mean())

    assert error(found.recipe, clean, seen) < 0.003
    big, far = (pad_to(x, 128, 128) for x in (clean, seen))
    padded = found.recipe.for_padding(size, (128, 128)).bind((3, 128, 128))
    there = padded.A(big)[..., : size[0], : size[1]]
    assert float((there - seen).abs().mean()) < 0.003
    assert float(padded.misfit(big, far)[..., : size[0], : size[1]].abs().mean()) < 0.003
    if orientation > 1:
        assert error(dataclasses.replace(found.recipe, orientation=1), clean, seen) > 0.01
    lost = float((seen - clean).square().mean().sqrt())
    assert rounded_away(found.recipe, seen) == pytest.approx(lost, rel=0.35)


def test_orientation_turns_as_pillow_does():
    x = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(1, 2, 3, 4)[:, :1]
    for orientation in TURNS:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(x[0, 0].numpy())
        image.info["exif"] = exif.tobytes()
        shown = torch.from_numpy(np.array(ImageOps.exif_transpose(image)))
        assert torch.equal(upright(x, orientation)[0, 0], shown)
        assert torch.equal(stored(upright(x, orientation), orientation), x)


def test_progressive_and_grey_files(picture, tmp_path):
    assert read_jpeg(saved(picture, tmp_path, quality=40, progressive=True)).quality == 40
    path = tmp_path / "grey.jpg"
    Image.open(picture).convert("L").save(path, quality=33)
    found = read_jpeg(path)
    assert found.recipe == Jpeg(33, "4:4:4", chroma=(1,) * 64)
    assert str(found) == "JPEG, quality 33, grey"
    # The colours of a picture that is restored from it are held at none.
    grey, coloured = read_image(path)[0], read_image(picture)[0]
    misfit = found.recipe.bind(tuple(grey.shape[1:])).misfit(coloured, grey)
    assert float((misfit[:, 0] - misfit[:, 2]).abs().mean()) > 0.5 * float(
        (coloured[:, 0] - coloured[:, 2]).abs().mean()
    )


def without(data: bytes, marker: int) -> bytes:
    """A JPEG file without its first segment of a kind."""
    at = data.index(bytes([0xFF, marker]))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


ADOBE = b"\xff\xee\x00\x0eAdobe\x00d\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("change", "rgb"),
    [
        (lambda data: without(data, 0xE0), False),
        (lambda data: data[:2] + ADOBE + b"\x00" + without(data, 0xE0)[2:], True),
        (lambda data: data[:2] + ADOBE + b"\x01" + without(data, 0xE0)[2:], False),
        (lambda data: data[:20] + ADOBE + b"\x00" + data[20:], False),
        (lambda data: named(without(data, 0xE0), b"RGB"), True),
        (lambda data: named(data, b"RGB"), False),
        (lambda data: named(without(data, 0xE0), b"\x00\x01\x02"), False),
    ],
)
def test_the_colour_space_is_the_one_that_the_decoder_takes(picture, tmp_path, change, rgb):
    """Either the recipe makes what is read, or the file is refused by name."""
    path = saved(picture, tmp_path, quality=40, subsampling=0)
    path.write_bytes(change(path.read_bytes()))
    clean = read_image(picture)[0]
    there = Jpeg(40, "4:4:4").bind(tuple(clean.shape[1:])).A(clean)
    error = float((there - read_image(path)[0]).abs().mean())
    assert (error > 0.1) == rgb
    if rgb:
        with pytest.raises(ValueError, match="keeps its colours as RGB; expected YCbCr"):
            read_jpeg(path)
    else:
        assert read_jpeg(path).recipe == Jpeg(40, "4:4:4")


def named(data: bytes, names: bytes) -> bytes:
    """A JPEG file whose components have other names."""
    out = bytearray(data)
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for k, name in enumerate(names):
        out[frame + 10 + 3 * k] = name
        out[scan + 5 + 2 * k] = name
    return bytes(out)


def test_kinds_of_frames_that_are_not_known_are_refused_by_name(picture, tmp_path):
    path = saved(picture, tmp_path)
    data = path.read_bytes()
    at = data.index(b"\xff\xc0")
    for change, words in (
        ({1: 0xC3}, "lossless or hierarchical"),
        ({4: 12}, "has 12 bits per channel; expected 8"),
    ):
        out = bytearray(data)
        for offset, value in change.items():
            out[at + offset] = value
        path.write_bytes(bytes(out))
        with pytest.raises(ValueError, match=words):
            read_jpeg(path)


@pytest.mark.parametrize(
    "sampling", [(0x41, 0x11, 0x11), (0x12, 0x11, 0x11), (0x22, 0x21, 0x11), (0x11, 0x22, 0x22)]
)
def test_sampling_that_is_not_known_is_refused(picture, tmp_path, sampling):
    """4:1:1, 4:4:0, two colours that are kept differently, and colours finer than the light."""
    path = saved(picture, tmp_path)
    data = bytearray(path.read_bytes())
    for k, factors in enumerate(sampling):
        data[data.index(b"\xff\xc0") + 11 + 3 * k] = factors
    path.write_bytes(data)
    with pytest.raises(ValueError, match="kept in a rare way, or not both alike; expected 4:4:4"):
        read_jpeg(path)


def test_16_bit_tables_are_read(picture, tmp_path):
    """A table of 16-bit steps, written by hand over one of 8 bits."""
    data = saved(picture, tmp_path, quality=50).read_bytes()
    at = data.index(b"\xff\xdb")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    number, steps = data[at + 4] & 15, data[at + 5 : at + 69]
    wide = bytes([16 | number]) + b"".join(bytes([0, step]) for step in steps)
    rest = data[at + 69 : at + 2 + length]
    head = b"\xff\xdb" + (2 + len(wide) + len(rest)).to_bytes(2, "big")
    path = tmp_path / "wide.jpg"
    path.write_bytes(data[:at] + head + wide + rest + data[at + 2 + length :])
    assert read_jpeg(path).recipe == Jpeg(50, "4:2:0")


def test_what_is_no_jpeg_is_refused(picture, tmp_path):
    with pytest.raises(ValueError, match="is not a JPEG file"):
        read_jpeg(picture)
    with pytest.raises(ValueError, match="no such file"):
        read_jpeg(tmp_path / "missing.jpg")
    stream = io.BytesIO()
    Image.new("CMYK", (16, 16)).save(stream, "JPEG")
    (tmp_path / "cmyk.jpg").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match="4 colour components"):
        read_jpeg(tmp_path / "cmyk.jpg")
    (tmp_path / "cut.jpg").write_bytes(saved(picture, tmp_path).read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cut\.jpg"):
        read_jpeg(tmp_path / "cut.jpg")


def test_the_recipe_survives_json(picture, tmp_path):
    from comfyui_flowdps.operators import recipe_from_dict

    recipe = read_jpeg(saved(picture, tmp_path, qtables="web_high")).recipe
    assert recipe_from_dict(recipe.to_dict()) == recipe
