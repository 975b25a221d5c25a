"""What a JPEG file says of its own compression."""

from __future__ import annotations

import io

import pytest
from comfyui_flowdps.estimation.jpeg import ZIGZAG, read_jpeg
from comfyui_flowdps.operators import Jpeg
from comfyui_flowdps.operators.jpeg_tables import CHROMA, LUMA, scaled
from comfyui_flowdps.restoration.images import read_image
from PIL import Image

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


def test_tables_turn_with_the_picture(picture, tmp_path):
    """EXIF orientation 6: the recipe makes of the upright picture what is read, within a level."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(picture, tmp_path, quality=30, subsampling=0, exif=exif)
    found = read_jpeg(path)
    assert found.quality == 30
    assert found.recipe.luma == tuple(scaled(LUMA, 30)[8 * (k % 8) + k // 8] for k in range(64))
    clean = read_image(picture)[0].rot90(-1, (2, 3))
    there = found.recipe.bind(tuple(clean.shape[1:])).A(clean)
    assert float((there - read_image(path)[0]).abs().mean()) < 0.01
    saved(picture, tmp_path, quality=30, subsampling=1, exif=exif)
    with pytest.raises(ValueError, match="EXIF orientation and keeps colour as 4:2:2"):
        read_jpeg(path)


def test_progressive_and_grey_files(picture, tmp_path):
    assert read_jpeg(saved(picture, tmp_path, quality=40, progressive=True)).quality == 40
    path = tmp_path / "grey.jpg"
    Image.open(picture).convert("L").save(path, quality=33)
    found = read_jpeg(path)
    assert found.recipe == Jpeg(33, "4:4:4")


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
