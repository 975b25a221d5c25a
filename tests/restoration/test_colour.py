"""What files say of their colours and depth, and what is painted in masks and kernels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from comfyui_flowdps.operators import Kernel
from comfyui_flowdps.operators.kernel import trimmed
from comfyui_flowdps.restoration.images import in_srgb, read, read_image
from comfyui_flowdps.restoration.painted import kernel_in, mask_in
from PIL import Image, ImageCms, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

SRGB = ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410))
SPACES = {
    "Display P3": (
        ((0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407)),
        2.2,
    ),
    "Adobe RGB (1998)": (
        ((0.60974, 0.20528, 0.14919), (0.31111, 0.62567, 0.06322), (0.01947, 0.06087, 0.74457)),
        2.19921875,
    ),
    "ProPhoto RGB": (
        ((0.79767, 0.13519, 0.03134), (0.28804, 0.71188, 0.00009), (0.0, 0.0, 0.82491)),
        1.8,
    ),
}
"""Colorants adapted to D50 (columns: red, green, blue), as the profiles hold them, and gammas."""


def number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(name: str, colorants, gamma: float) -> bytes:
    """A version 2 ICC profile: a matrix and one gamma, or a gamma alone for grey (no colorants)."""
    ascii_name = name.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(ascii_name)) + ascii_name + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + number(0.9642) + number(1) + number(0.8249),
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    if colorants is None:
        tags[b"kTRC"] = curve
    else:
        for k, letter in enumerate(b"rgb"):
            column = b"".join(number(row[k]) for row in colorants)
            tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + column
            tags[bytes([letter]) + b"TRC"] = curve
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += key + struct.pack(">II", at + len(data), len(value))
        data += value
    kind = b"GRAY" if colorants is None else b"RGB "
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"none", 0x02100000, b"mntr", kind, b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + number(0.9642) + number(1) + number(0.8249)
    return head.ljust(128, b"\0") + body


def scene() -> np.ndarray:
    """Soft colours in sRGB, 8 bits, and all greys."""
    drawn = np.random.default_rng(0).integers(30, 226, (6, 8, 3)).astype(np.uint8)
    scene = np.kron(drawn, np.ones((6, 4, 1), np.uint8))
    scene[:8] = np.linspace(0, 255, 32).astype(np.uint8)[:, None]
    return scene


def linear(coded: np.ndarray) -> np.ndarray:
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def in_space(pixels: np.ndarray, name: str) -> Image.Image:
    """sRGB pixels as a space of ``SPACES`` codes the same colours."""
    colorants, gamma = SPACES[name]
    light = linear(pixels / 255) @ np.array(SRGB).T @ np.linalg.inv(np.array(colorants)).T
    return Image.fromarray((255 * light.clip(0, 1) ** (1 / gamma)).round().astype(np.uint8))


def levels(x: torch.Tensor) -> np.ndarray:
    return ((x[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(float)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("kind", ["png", "tif", "webp", "alpha", "palette"])
def test_the_colours_of_a_profile_are_those_of_srgb_and_it_is_said(tmp_path, name, kind):
    colorants, gamma = SPACES[name]
    image, path = in_space(scene(), name), tmp_path / f"a.{kind if len(kind) < 5 else 'png'}"
    assert np.abs(np.asarray(image, float) - scene())[8:].mean() > 5
    options = {"lossless": True} if kind == "webp" else {}
    if kind == "alpha":
        image.putalpha(255)
        image.putpixel((0, 39 - 4), (9, 9, 9, 0))
    if kind == "palette":
        image = image.quantize(256)
    image.save(path, icc_profile=profile(name, colorants, gamma), **options)
    x, notes = read_image(path)
    off = np.abs(levels(x) - scene())
    if kind == "alpha":
        assert levels(x)[35, 0].tolist() == [255, 255, 255]
        assert "alpha composited on white" in notes
        off[35, 0] = 0
    assert off.mean() < 1
    assert f"{name} converted to sRGB" in notes


def test_a_jpeg_in_its_own_colours_is_converted_afterwards(tmp_path):
    """Read for its compression, converted at the end: the same picture as when converted first."""
    name = "Display P3"
    image = in_space(scene(), name)
    image.save(tmp_path / "a.jpg", quality=95, icc_profile=profile(name, *SPACES[name]))
    ours, theirs = read(tmp_path / "a.jpg", srgb=False), read(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as there:
        assert np.abs(levels(ours.pixels) - np.asarray(there)).max() < 0.01
    assert "colours are those of the file, Display P3" in ours.notes
    assert torch.equal(in_srgb(ours.pixels, ours.to_srgb), theirs.pixels)
    assert theirs.to_srgb is None


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
@pytest.mark.parametrize("depth", [8, 16])
def test_grey_has_the_gamma_of_its_profile(tmp_path, gamma, depth):
    grey = np.tile(np.linspace(0.02, 0.98, 40), (20, 1))
    coded = linear(grey) ** (1 / gamma)
    top, kind = (255, np.uint8) if depth == 8 else (65535, np.uint16)
    image = Image.fromarray((top * coded).round().astype(kind))
    image.save(tmp_path / "a.png", icc_profile=profile("grey gamma", None, gamma))
    x, notes = read_image(tmp_path / "a.png")
    assert "grey gamma converted to sRGB" in notes
    # A step of 8 bits in the dark is several of sRGB where the gamma is 1.
    assert np.abs(levels(x)[..., 0] - 255 * grey)[:, 10:].max() < (3 if depth == 8 else 2)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_level_of_a_profile_is_converted_exactly(tmp_path, gamma, mode):
    """Also the darkest, where a table of few entries would be wrong by ten levels."""
    code = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    kind = profile("a gamma", None if mode == "L" else SPACES["Adobe RGB (1998)"][0], gamma)
    image = Image.fromarray(code).convert(mode)
    image.save(tmp_path / "a.png", icc_profile=kind)
    light = (code[0] / 255) ** gamma
    want = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    found = levels(read_image(tmp_path / "a.png")[0])[0]
    assert np.abs(found - 255 * want[:, None]).max() < 1


def test_srgb_files_get_no_note_and_broken_profiles_one(tmp_path):
    image = Image.fromarray(scene())
    theirs = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for k, content in enumerate((theirs, b"", b"nonsense" * 30, profile("grey", None, 2.2))):
        image.save(tmp_path / "a.png", icc_profile=content)
        x, notes = read_image(tmp_path / "a.png")
        assert np.abs(levels(x) - scene()).max() < 0.01
        assert [n for n in notes if "taken as sRGB" not in n] == []
        assert bool(notes) == (k > 1)


def test_cmyk_and_lab_are_converted_by_profile(tmp_path):
    lab = ImageCms.profileToProfile(
        Image.fromarray(scene()),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    del lab.info["icc_profile"]
    lab.save(tmp_path / "a.tif")
    x, notes = read_image(tmp_path / "a.tif")
    assert np.abs(levels(x) - scene()).mean() < 2
    assert "CIELAB converted to sRGB" in notes


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_the_gamma_of_a_png_counts_unless_it_is_srgb(tmp_path):
    light = (255 * linear(scene() / 255)).round().astype(np.uint8)
    Image.fromarray(light).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    at = data.index(b"IDAT") - 4
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    (tmp_path / "a.png").write_bytes(data[:at] + gamma + data[at:])
    x, notes = read_image(tmp_path / "a.png")
    bright = scene() > 60
    assert np.abs(levels(x) - scene())[bright].max() < 4
    assert notes == ["gamma 1 converted to sRGB"]
    (tmp_path / "b.png").write_bytes(data[:at] + gamma + chunk(b"sRGB", b"\0") + data[at:])
    assert read_image(tmp_path / "b.png")[1] == []


def test_a_camera_says_adobe_rgb_without_a_profile(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    image = in_space(scene(), "Adobe RGB (1998)")
    image.save(tmp_path / "a.png", exif=exif)
    x, notes = read_image(tmp_path / "a.png")
    assert "Adobe RGB converted to sRGB" in notes
    assert np.abs(levels(x) - scene()).mean() < 1


def ramp(top: float, kind) -> np.ndarray:
    return (np.linspace(0, 1, 20 * 24).reshape(20, 24) * top).astype(kind)


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize(("top", "kind"), [(255, np.uint8), (65535, np.uint16), (1.0, np.float32)])
def test_tiff_grey_of_every_depth_and_either_ground(tmp_path, top, kind, white_is_zero):
    values = ramp(top, kind)
    want = values / top
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if white_is_zero:
        # Of 8 bits, Pillow inverts the pixels itself.
        tags[262] = 0
        want = want if kind == np.uint8 else 1 - want
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo=tags)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.tag_v2[262] == (0 if white_is_zero else 1)
    x, notes = read_image(tmp_path / "a.tif")
    assert np.abs((x[0, 1].numpy() + 1) / 2 - want).max() < 1 / 250
    assert not white_is_zero or kind == np.uint8 or "0 taken as white" in notes[0]


@pytest.mark.parametrize("ground", [0, 1])
@pytest.mark.parametrize(("bits", "order"), [(12, "little"), (16, "little"), (16, "big")])
def test_tiff_grey_in_either_order_of_bytes(tmp_path, bits, order, ground):
    """Pillow knows white-is-zero of more than 8 bits only in one order, and of 12 bits in none."""
    top = 2**bits - 1
    values = ramp(top, np.uint16)
    if bits == 16:
        packed = values.astype("<u2" if order == "little" else ">u2").tobytes()
    else:
        packed = int("".join(f"{v:012b}" for v in values.ravel()), 2).to_bytes(720, "big")
    sign, mark = ("<", b"II") if order == "little" else (">", b"MM")
    entries = [(256, 4, 24), (257, 4, 20), (258, 3, bits), (259, 3, 1), (262, 3, ground)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, 20), (279, 4, len(packed))]
    table = b"".join(
        struct.pack(sign + "HHI", tag, kind, 1)
        + (struct.pack(sign + "HH", value, 0) if kind == 3 else struct.pack(sign + "I", value))
        for tag, kind, value in entries
    )
    head = mark + struct.pack(sign + "HI", 42, 8 + len(packed)) + packed
    file = tmp_path / "a.tif"
    file.write_bytes(head + struct.pack(sign + "H", len(entries)) + table + bytes(4))
    x, notes = read_image(file)
    want = values / top if ground else 1 - values / top
    assert np.abs((x[0, 0].numpy() + 1) / 2 - want).max() < 1e-4
    assert notes == [
        f"{bits}-bit grey, {top} taken as white"
        if ground
        else f"{bits}-bit grey, 0 taken as white and {top} as black"
    ]


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_pgm_says_what_is_white(tmp_path, bits):
    top = 2**bits - 1
    values = ramp(top, np.uint16)
    file = tmp_path / "a.pgm"
    file.write_bytes(b"P5 24 20 %d\n" % top + values.astype(">u2").tobytes())
    x, notes = read_image(file)
    assert notes == [f"{bits}-bit grey, {top} taken as white"]
    assert np.abs((x[0, 0].numpy() + 1) / 2 - values / top).max() < 1e-4


def test_twelve_bits_are_white_at_4095(tmp_path):
    values = ramp(4095, np.uint16)
    flat = values.ravel().astype(int)
    packed = bytearray()
    for a, b in zip(flat[::2], flat[1::2], strict=True):
        packed += bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
    entries = [(256, 4, 24), (257, 4, 20), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 4, 20), (279, 4, len(packed))]
    head = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    end = struct.pack("<H", len(entries)) + table + b"\0" * 4
    (tmp_path / "a.tif").write_bytes(head + bytes(packed) + end)
    x, notes = read_image(tmp_path / "a.tif")
    assert notes == ["12-bit grey, 4095 taken as white"]
    assert np.abs((x[0, 0].numpy() + 1) / 2 - values / 4095).max() < 1e-4


@pytest.mark.parametrize("top", [0.4, 1.0, 1.02, 1.4, 200.0, 255.0, 260.0, 60000.0])
def test_floats_around_a_usual_white_come_out_right(tmp_path, top):
    white = 1.0 if top < 2 else 255.0 if top < 300 else 65535.0
    values = ramp(top, np.float32) - 0.01 * white
    Image.fromarray(values).save(tmp_path / "a.tif")
    x, notes = read_image(tmp_path / "a.tif")
    want = (values / white).clip(0, 1)
    assert np.abs((x[0, 0].numpy() + 1) / 2 - want).max() < 1e-5
    assert any("clipped" in note for note in notes)


@pytest.mark.parametrize("top", [3.0, 12.0, 1000.0, 1e6])
def test_floats_whose_white_nobody_can_tell_are_refused(tmp_path, top):
    Image.fromarray(ramp(top, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"holds values from 0 to .*; expected about 0 to 1, 255"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("size", [(16, 720), (720, 16), (1600, 16)])
@pytest.mark.parametrize("name", ["a.bmp", "a.png", "a.tga", "a.ppm", "a.tif"])
def test_eight_bits_are_not_called_sixteen(tmp_path, name, size):
    Image.new("RGB", size).save(tmp_path / name)
    assert read_image(tmp_path / name)[1] == []


def test_sixteen_bits_of_colour_are_said(tmp_path):
    rows = b"".join(b"\0" + bytes(6 * 20) for _ in range(18))
    head = struct.pack(">IIBBBBB", 20, 18, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    (tmp_path / "a.png").write_bytes(data + chunk(b"IEND", b""))
    (tmp_path / "a.ppm").write_bytes(b"P6 20 18 65535\n" + bytes(6 * 20 * 18))
    for name in ("a.png", "a.ppm"):
        assert read_image(tmp_path / name)[1] == ["16 bits per channel reduced to 8"]


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_the_note_of_turning_is_true(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (40, 20))
    image.paste("white", (0, 0, 20, 10))
    image.save(tmp_path / name, exif=exif)
    x, notes = read_image(tmp_path / name)
    turned = orientation in range(2, 9)
    assert notes == (["turned upright as its EXIF orientation says"] if turned else [])
    tall = orientation in range(5, 9)
    assert x.shape[2:] == ((40, 20) if tall else (20, 40))
    # The white corner, by the definition of the EXIF standard: top left for 1, 5 and so on.
    corner = {2: (0, -1), 3: (-1, -1), 4: (-1, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    row, column = corner.get(orientation, (0, 0))
    assert float(x[0, :, row, column].min()) > 0.9
    assert float((x > 0).float().mean()) == pytest.approx(0.25, abs=0.05)


def test_large_texts_are_no_reason_to_refuse(tmp_path):
    """2 MB in zTXt, iTXt and tEXt, 80 MB together; a profile of 2 MB is kept."""
    info = PngInfo()
    for k in range(3):
        info.add_text(f"a{k}", "x" * 2_000_000, zip=True)
        info.add_itxt(f"b{k}", "y" * 2_000_000, zip=True)
    for k in range(40):
        info.add_text(f"c{k}", "z" * 2_000_000)
    name = "Display P3"
    long = profile(name, *SPACES[name])
    long = struct.pack(">I", len(long) + 2_000_000) + long[4:] + bytes(2_000_000)
    image = in_space(scene(), name)
    image.save(tmp_path / "a.png", pnginfo=info, icc_profile=long)
    with (
        pytest.raises(ValueError, match=r"MAX_TEXT|Too Large"),
        Image.open(tmp_path / "a.png") as there,
    ):
        there.load()
    x, notes = read_image(tmp_path / "a.png")
    assert notes == ["Display P3 converted to sRGB"]
    assert np.abs(levels(x) - scene()).mean() < 1


def stroke(ground, paint, mode="RGBA", size=(40, 30)) -> Image.Image:
    image = Image.new(mode, size, ground)
    image.paste(paint, (10, 5, 20, 9))
    return image


UNKNOWN = torch.zeros(30, 40, dtype=torch.bool)
UNKNOWN[5:9, 10:20] = True
CLEAR, WHITE, BLACK = (0, 0, 0, 0), (255,) * 4, (0, 0, 0, 255)


def photographed() -> Image.Image:
    drawn = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    image = Image.fromarray(drawn).convert("RGBA")
    image.paste(CLEAR, (10, 5, 20, 9))
    return image


@pytest.mark.parametrize(
    "image",
    [
        stroke("black", "white", "RGB"),
        stroke("black", "red", "RGB"),
        stroke(0, 1, "L"),
        stroke(0, 1, "1"),
        stroke(0, 1, "I;16"),
        stroke(CLEAR, WHITE),
        stroke(CLEAR, BLACK),
        stroke((255, 255, 255, 0), (255, 0, 0, 255)),
        stroke((255, 255, 255, 0), (9, 9, 9, 140)),
        photographed(),
    ],
)
def test_a_mask_is_what_was_painted(tmp_path, image):
    image.save(tmp_path / "m.png")
    mask, _ = mask_in(tmp_path / "m.png")
    assert torch.equal(mask.mask() == 0, UNKNOWN)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (stroke("black", "black", "RGB"), "the mask is black, which calls nothing unknown"),
        (stroke("black", (9, 9, 9), "RGB"), "the mask is nearly black"),
        (stroke("white", "white", "RGB"), "the mask covers the whole picture"),
        (stroke(CLEAR, CLEAR), "is transparent everywhere"),
    ],
)
def test_a_mask_that_says_nothing_is_refused(tmp_path, image, words):
    image.save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=words):
        mask_in(tmp_path / "m.png")


def test_a_mask_that_may_be_inverted_is_said(tmp_path):
    stroke("white", "black", "RGB").save(tmp_path / "m.png")
    mask, notes = mask_in(tmp_path / "m.png")
    assert torch.equal(mask.mask() > 0, UNKNOWN)
    assert notes == ["mask: 97% of the picture is unknown; if it shows what to keep, invert it"]


def light() -> np.ndarray:
    """A crooked shake, from 0 to 1, in the middle of 33 x 33."""
    values = np.zeros((33, 33))
    values[16, 10:22], values[12:17, 21], values[10:13, 18] = 1, 0.6, 0.3
    return values


def grey_picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray((255 * values).round().astype(np.uint8))


def painted_with(colour: int, values: np.ndarray) -> Image.Image:
    image = Image.new("RGBA", (33, 33), (colour,) * 3)
    image.putalpha(grey_picture(values))
    return image


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (grey_picture(light()), "k.png"),
        (grey_picture(light() * 0.4), "k.png"),
        (grey_picture(1 - light()), "k.png"),
        (grey_picture(0.2 + 0.8 * light()), "k.png"),
        (painted_with(255, light()), "k.png"),
        (painted_with(0, light()), "k.png"),
        (grey_picture(light()), "k.jpg"),
    ],
)
def test_a_kernel_is_the_light_that_was_painted(tmp_path, image, name):
    image.save(tmp_path / name, **({"quality": 95} if name == "k.jpg" else {}))
    want = Kernel.from_tensor(trimmed(torch.from_numpy(light()))).kernel()
    found, _ = kernel_in(tmp_path / name)
    if name == "k.jpg":
        # Ringing reaches to the ends of the blocks, not to those of the picture.
        assert max(found.height, found.width) < 33
        return
    assert found.kernel().shape == want.shape
    assert float((found.kernel() - want).abs().max()) < 0.003


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (30, 30), "white"),
        Image.new("RGB", (30, 30), (90, 90, 90)),
        Image.new("RGBA", (30, 30), WHITE),
        Image.new("RGBA", (30, 30), (255, 255, 255, 99)),
    ],
)
def test_a_flat_kernel_is_no_box(tmp_path, image):
    image.save(tmp_path / "k.png")
    with pytest.raises(ValueError, match=r"k\.png: the kernel is one flat area"):
        kernel_in(tmp_path / "k.png")


def test_pillow_that_knows_no_interoperability_of_a_picture_reads_it(tmp_path, monkeypatch):
    """Up to 12.3 it raises KeyError for a picture that has none, as most have."""
    real = Image.Exif.get_ifd

    def get_ifd(exif, tag):
        if tag == 0xA005 and not exif:
            raise KeyError(tag)
        return real(exif, tag)

    monkeypatch.setattr(Image.Exif, "get_ifd", get_ifd)
    Image.new("RGB", (20, 30), "red").save(tmp_path / "a.png")
    x, notes = read_image(tmp_path / "a.png")
    assert x.shape == (1, 3, 30, 20)
    assert notes == []
