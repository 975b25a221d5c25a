"""Hostile inputs to the command: each must end in success or in one sentence and exit code 2.

``python -m comfyui_flowdps.benchmarks.attack --count 1000 --seed 0``

Pictures, masks, kernels, models, recipes, numbers and names are made to break something: cut,
mutated, huge by their header, contradictory. The number of a case and the seed make it again
(``--only 137``). What must hold is in ``Verdict``: no traceback and no unplanned exception, bounded
time and memory, nothing written outside the folder of results, no process and no connection begun.

The cases run in this process with a prior that costs nothing; one of ``--apart`` is run as a
process of its own, with the prior that comes along. ``--host FOLDER`` attacks a running ComfyUI.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import io
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageCms
from torch import Tensor

from ..operators import REGISTRY, recipe_from_dict
from ..priors.base import BasePrior
from ..priors.error_spectrum import ErrorSpectrum
from .command import HELD_OUT

SECONDS = 60.0
"""Longest time of a case in seconds of the processor; most take less than one."""
MEBIBYTES = 1500
"""Most memory that a case may take beside what the process has."""
PACKAGE = (__package__ or "").partition(".")[0]
QUICK = ("--method", "refine", "--preset", "fast", "--steps", "1")
UNPLANNED = re.compile(r"Traceback|\b[A-Z][A-Za-z]*(?:Error|Exception|Warning)\b")


@dataclass
class Attack:
    """A case: words of ``flowdps``, or a function of the library that may raise ValueError."""

    words: list[str] = field(default_factory=list)
    call: Callable[[], object] | None = None


@dataclass
class Verdict:
    """What a case did. ``faults`` is empty where it kept the law."""

    code: int
    said: str
    seconds: float
    mebibytes: float
    faults: list[str]


class Still(BasePrior):
    """A prior without a network: latents are the means of blocks, and it changes nothing."""

    latent_channels, stride = 16, 8
    device, dtype = torch.device("cpu"), torch.float32
    usual = 1024

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        return z / (1 + sigma)

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z[:, :3], scale_factor=8.0, mode="bilinear")

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return F.avg_pool2d(x, 8).repeat(1, 6, 1, 1)[:, :16], None


# Files.


def seen(r: Random) -> Image.Image:
    """A part of a held-out picture, small enough to be quick."""
    with Image.open(r.choice(sorted((HELD_OUT / "test").glob("*.png")))) as picture:
        width, height = r.choice([(40, 32), (17, 41), (64, 16)])
        return picture.convert("RGB").crop((30, 30, 30 + width, 30 + height))


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def any_picture(r: Random) -> tuple[str, bytes]:
    """A suffix and the bytes of a good picture, of any kind that Pillow writes here."""
    picture = seen(r)
    mode = r.choice(["RGB", "RGB", "L", "RGBA", "P", "LA", "1", "I;16", "F", "CMYK"])
    if mode in ("I;16", "F"):
        grey = picture.convert("F")
        picture = grey if mode == "F" else grey.point(lambda v: v * 257).convert("I").convert(mode)
    else:
        picture = picture.convert(mode)
    kinds = {"PNG": "png", "JPEG": "jpg", "TIFF": "tif", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}
    kinds |= {"PPM": "ppm", "TGA": "tga", "JPEG2000": "jp2"}
    while True:
        kind = r.choice(list(kinds))
        options: dict[str, Any] = {}
        if r.random() < 0.3 and kind in ("PNG", "JPEG", "TIFF", "WEBP"):
            options["icc_profile"] = mutated(r, SRGB) if r.random() < 0.7 else SRGB
        if r.random() < 0.3 and kind in ("PNG", "JPEG", "WEBP"):
            exif = Image.Exif()
            exif[0x0112] = r.choice([1, 3, 6, 8, 0, 9, 65535])
            options["exif"] = mutated(r, exif.tobytes()) if r.random() < 0.5 else exif
        with contextlib.suppress(OSError, KeyError, ValueError, TypeError):
            return kinds[kind], saved(picture, kind, **options)
        picture = picture.convert("RGB")


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def mutated(r: Random, data: bytes) -> bytes:
    """``data`` with one to four changes: bits, bytes, lengths, parts cut, doubled or foreign."""
    found = bytearray(data)
    for _ in range(r.randint(1, 4)):
        if not found:
            break
        at = min(int(len(found) * r.random() ** r.choice([1, 4])), len(found) - 1)
        how = r.randrange(7)
        if how == 0:
            found[at] ^= 1 << r.randrange(8)
        elif how == 1:
            found[at] = r.choice([0, 1, 127, 128, 255])
        elif how == 2:
            size = r.choice([2, 4, 8])
            value = r.choice([0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2**16, 2**31])
            value %= 2 ** (8 * size)
            found[at : at + size] = value.to_bytes(size, r.choice(["big", "little"]))  # type: ignore
        elif how == 3:
            del found[at : at + r.choice([1, 2, 4, 16, 1000])]
        elif how == 4:
            found[at:at] = found[at : at + r.choice([1, 8, 64, 1000])]
        elif how == 5:
            found[at:at] = r.randbytes(r.choice([1, 4, 100]))
        else:
            del found[at:]
    return bytes(found)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and contents of a PNG file."""
    at, found = 8, []
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def strange_png(r: Random) -> bytes:
    """A PNG whose sums are right and whose parts are not."""
    parts = chunks(saved(seen(r).convert(r.choice(["RGB", "L", "P", "RGBA"])), "PNG"))
    for _ in range(r.randint(1, 3)):
        k = r.randrange(len(parts))
        kind, content = parts[k]
        how = r.randrange(5)
        if how == 0:
            parts[k] = (kind, mutated(r, content))
        elif how == 1:
            parts.insert(k, parts[k])
        elif how == 2:
            del parts[k]
        elif how == 3:
            rare = [b"gAMA", b"cHRM", b"tRNS", b"sRGB", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"PLTE"]
            parts.insert(1, (r.choice(rare), r.randbytes(r.choice([0, 1, 4, 8, 32, 300]))))
        else:
            sides = [0, 1, 15, 16, 40, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
            depth, colour = r.choice([0, 1, 2, 4, 8, 16, 32]), r.choice([0, 1, 2, 3, 4, 6, 9])
            header = struct.pack(">II", r.choice(sides), r.choice(sides))
            parts[0] = (b"IHDR", header + bytes([depth, colour, 0, 0, r.choice([0, 1, 7])]))
        if not parts:
            break
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def strange_jpeg(r: Random) -> bytes:
    """A JPEG with other tables, sampling, sides, components or markers than its data have."""
    options = {"quality": r.randint(1, 100), "subsampling": r.randrange(3)}
    data = bytearray(saved(seen(r).convert(r.choice(["RGB", "L", "CMYK"])), "JPEG", **options))
    at = 2
    places = []
    while at + 4 < len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        places.append((at, data[at + 1], length))
        if data[at + 1] == 0xDA:
            break
        at += 2 + length
    for _ in range(r.randint(1, 3)):
        at, marker, length = r.choice(places)
        how = r.randrange(4)
        if how == 0:
            data[at + 1] = r.choice([0xC0, 0xC2, 0xC3, 0xDB, 0xE0, 0xE1, 0xEE, 0xFF, marker])
        elif how == 1 and length > 2:
            data[min(at + 4 + r.randrange(length - 2), len(data) - 1)] = r.choice([0, 1, 17, 255])
        elif how == 2:
            data[at + 2 : at + 4] = r.choice([0, 1, 2, 3, 65535]).to_bytes(2, "big")
        else:
            segment = r.choice([b"Exif\0\0", b"ICC_PROFILE\0\1\1", b"Adobe\0d\0\0\0\0\2"])
            segment += r.randbytes(r.choice([0, 10, 500]))
            data[2:2] = b"\xff" + r.choice([b"\xe1", b"\xe2", b"\xee"])
            data[4:4] = (len(segment) + 2).to_bytes(2, "big") + segment
            break
    return bytes(data)


def bomb(r: Random) -> tuple[str, bytes]:
    """Little to read that becomes very much, or says so."""
    how = r.randrange(8)
    rows = r.choice([30000, 60000])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", rows, rows, 8, r.choice([0, 2, 6]), 0, 0, 0))
    signature, end = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
    small = chunks(saved(seen(r), "PNG"))
    if how == 0:
        data = zlib.compress(bytes(10**7))
        return "png", signature + header + chunk(b"IDAT", data) + end
    if how in (1, 2, 3):
        text = zlib.compress(bytes(r.choice([10**6, 10**8])), 9)
        extra = (b"zTXt", b"a\0\0" + text)
        if how == 2:
            extra = (b"iCCP", b"a\0\0" + text)
        elif how == 3:
            extra = (b"iTXt", b"a\0\1\0\0\0" + text)
        parts = [small[0], *[extra] * r.choice([1, 40]), *small[1:]]
        return "png", signature + b"".join(chunk(*part) for part in parts)
    if how == 4:
        data = bytearray(saved(seen(r), "JPEG"))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
        return "jpg", bytes(data)
    if how == 5:
        data = bytearray(saved(Image.new("L", (64, 64)), "BMP"))
        data[18:26] = struct.pack("<ii", r.choice([60000, -1, 2**31 - 1]), r.choice([60000, 1]))
        return "bmp", bytes(data)
    if how == 6:
        data = bytearray(saved(seen(r), "TIFF", compression="raw"))
        at = struct.unpack("<I", data[4:8])[0]
        for k in range(struct.unpack("<H", data[at : at + 2])[0]):
            place = at + 2 + 12 * k
            (tag,) = struct.unpack("<H", data[place : place + 2])
            if tag in (256, 257, 277, 278, 279) and r.random() < 0.6:
                value = r.choice([0, 1, 65535, 2**31 - 1, 2**32 - 1])
                data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, value)
        return "tif", bytes(data)
    frames = [Image.new("P", (64, 64), k % 256) for k in range(r.choice([2, 300]))]
    return "gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


# Attacks. Each writes its files into the folder that it is given.


def picture(r: Random, here: Path) -> Attack:
    """A photo that is mutated, strange, or no picture at all."""
    suffix, data = any_picture(r)
    how = r.randrange(4)
    if how == 0:
        data = strange_png(r)
    elif how == 1:
        data = strange_jpeg(r)
    elif how == 2 or r.random() < 0.5:
        data = mutated(r, data)
    file = here / f"x.{r.choice([suffix, suffix, 'png', 'tif', 'JPG', 'gif', 'avif', 'ppm'])}"
    file.write_bytes(data)
    more = r.choice([[], [], ["--observed"], ["--observed", "--estimate", "jpeg"]])
    return Attack([str(file), *more])


def bombs(r: Random, here: Path) -> Attack:
    """A photo, mask or kernel that is a decompression bomb."""
    suffix, data = bomb(r)
    file, good = here / f"bomb.{suffix}", here / "good.png"
    file.write_bytes(data)
    seen(r).save(good)
    use = r.randrange(3)
    return Attack(
        [[str(file)], [str(good), "--mask", str(file)], [str(good), "--kernel", str(file)]][use]
    )


def painted(r: Random, here: Path) -> Attack:
    """A mask or a kernel that is damaged, of a strange mode, size or content."""
    good, file = here / "good.png", here / "painted.png"
    seen(r).save(good)
    how = r.randrange(6)
    if how == 0:
        file.write_bytes(mutated(r, any_picture(r)[1]))
    elif how == 1:
        file.write_bytes(strange_png(r))
    elif how == 2:
        file.write_bytes(any_picture(r)[1])
    else:
        size = r.choice([(1, 1), (1, 40), (3, 3), (40, 32), (600, 2), (513, 513), (2000, 1)])
        mode = r.choice(["L", "1", "RGBA", "LA", "I;16", "P"])
        values = r.randbytes(size[0] * size[1]) if r.random() < 0.5 else None
        shown = (
            Image.frombytes("L", size, values)
            if values
            else Image.new("L", size, r.choice([0, 1, 255]))
        )
        with contextlib.suppress(ValueError):
            shown = shown.convert(mode)
        shown.save(file)
    task = ["--task", r.choice(list(REGISTRY))] if r.random() < 0.3 else []
    return Attack([str(good), r.choice(["--mask", "--kernel"]), str(file), *task])


def model(r: Random, here: Path) -> Attack:
    """A model whose header, tensors, name or spectrum are wrong."""
    good, file = here / "good.png", here / r.choice(["model.safetensors", "model.ckpt", "model"])
    seen(r).save(good)
    tensor = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    names = ["joint_blocks.0.context_block.attn.qkv.weight", "x_embedder.proj.weight", "a"]
    names += ["model.diffusion_model." + names[0], "first_stage_model.taesd_decoder.1.weight"]
    header: Any = {name: dict(tensor) for name in r.sample(names, r.randint(0, 4))}
    header["__metadata__"] = r.choice([{}, {"a": "b"}, {"a": 1}, [], None, "x" * 10**5])
    for name in [name for name in header if name != "__metadata__" and r.random() < 0.7]:
        header[name][r.choice(list(tensor))] = odd_value(r)
    text = json.dumps(header).encode()
    if r.random() < 0.4:
        text = mutated(r, text)
    if r.random() < 0.1:
        text = b"[" * 10**5
    length = len(text) if r.random() < 0.7 else r.choice([0, 1, 2**63, 2**64 - 1, 10**9, 100])
    file.write_bytes(struct.pack("<Q", length) + text + bytes(r.choice([0, 15, 16, 64])))
    if r.random() < 0.2:
        file.write_bytes(r.choice([b"", b"\x80\x02}q\0.", b"PK\x03\x04", r.randbytes(100)]))
    words = [str(good), "--prior", str(file)]
    if r.random() < 0.2:
        folder = here / "folder"
        folder.mkdir()
        (folder / "model_index.json").write_bytes(mutated(r, b'{"_class_name": "Pipeline"}'))
        words[-1] = str(folder)
    if r.random() < 0.2:
        words += ["--config", str(r.choice([here, file, here / "absent"]))]
    return Attack(words)


def spectrum(r: Random, here: Path) -> Attack:
    """The measured errors of a model, in a file of JSON that is mutated."""
    file = here / "m.spectrum.json"
    values: Any = {"sigmas": [0.1, 0.5], "variance": [[0.1] * 16] * 2, "refine": [0.3, 0.1]}
    if r.random() < 0.6:
        values[r.choice(list(values))] = odd_value(r)
    if r.random() < 0.3:
        values = odd_value(r)
    text = json.dumps(values).encode()
    file.write_bytes(mutated(r, text) if r.random() < 0.4 else text)
    return Attack(call=lambda: ErrorSpectrum.load(file))


def odd_value(r: Random) -> Any:
    """A value of JSON that nobody expects."""
    deep: Any = []
    for _ in range(50):
        deep = [deep]
    found: list[Any] = [None, True, False, "", "x", "\u202e", -1, 0, 1, 2, 3, 7, 2**31, 2**63]
    found += [10**30, -(10**30), 0.5, 1e-300, 1e308, math.nan, math.inf, -math.inf, [], {}, deep]
    found += [[1, 2], ["a"], {"a": 1}, "symmetric", "periodic", "defocus", "4:2:0", [0, 0]]
    found += [[16, 0], [2**40, 2**40]]
    return r.choice(found)


def recipe(r: Random, here: Path) -> Attack:
    """A degradation as a saved result has it, with other values, bound to a picture and applied."""
    row = r.choice([row for row in REGISTRY.values() if row.gallery])
    values = row.gallery[0].make().to_dict()
    values = json.loads(json.dumps(values))
    for _ in range(r.randint(1, 2)):
        key = r.choice(list(values))
        how = r.random()
        if isinstance(values[key], str) and key == "values" and how < 0.6:
            values[key] = mutated(r, values[key].encode()).decode("latin-1")
        elif how < 0.8:
            values[key] = odd_value(r)
        elif how < 0.9:
            values[str(odd_value(r))[:20]] = odd_value(r)
        else:
            values = {
                "operator": "chain",
                "recipes": r.choice([[values], [values] * 3, odd_value(r)]),
            }

    def run() -> object:
        found = recipe_from_dict(values)
        x = torch.linspace(-1, 1, 3 * 32 * 48).view(1, 3, 32, 48)
        return found.bind((3, 32, 48)).A(x)

    return Attack(call=run)


NUMBERS = ["0", "-0", "-1", "1", "2", "3", "0.5", "1e-300", "1e300", "1e999", "nan", "inf", "-inf"]
NUMBERS += ["", " ", "٣", "1_000", "0x10", "1e", "2147483648", "-2147483649", "9" * 400, "--", "½"]
NUMBERS += ["18446744073709551616", "9223372036854775808", "4096", "4097", "1e12", "255", "1,5"]
SIZES = ["0x0", "1x1", "16x16", "15x16", "32x48", "99999999x16", "4096x4097", "-1x5", "x", "²x²"]
SIZES += ["٣٢x٣٢", "100000x100000", "32x", "17x33", "1e3x1e3", "20000x16"]


def numbers(r: Random, here: Path) -> Attack:
    """Options at their limits and beyond, one to three at once."""
    good = here / "good.png"
    seen(r).save(good)
    words = [str(good), "--task", r.choice(list(REGISTRY))]
    if r.random() < 0.4:
        words.append("--observed")
    counts = ["--deg-scale", "--noise", "--step-scale", "--inner-steps", "--denoise", "--stop"]
    counts += [
        "--seed",
        "--kernel-size",
        "--tile",
        "--batch",
        "--cfg",
        "--deg-scale",
        "--deg-scale",
    ]
    small = [n for n in NUMBERS if len(n) < 4 or not n.replace("_", "").isdigit()]
    for name in r.sample(counts, r.randint(1, 3)):
        words += [f"{name}={r.choice(NUMBERS)}"]
    if r.random() < 0.25:
        width, both, height = (text := r.choice(SIZES)).partition("x")
        words += [f"--width={width}", f"--height={height}"] if both else [f"--size={text}"]
    if r.random() < 0.1:
        words += [f"{r.choice(['--steps', '--samples'])}={r.choice(small)}"]
    if r.random() < 0.15:
        what = r.choice(["--method", "--preset", "--device", "--dtype", "--memory", "--estimate"])
        some = [
            "",
            "x",
            "flowdps",
            "psld",
            "flair",
            "latino",
            "flowchef",
            "fast",
            "thorough",
            "free",
        ]
        some += [
            "meta",
            "cuda:99",
            "vulkan",
            "mkldnn",
            "float64",
            "int8",
            "strips",
            "tiny",
            "jpeg",
            "blur",
        ]
        words += [what, r.choice(some)]
    return Attack(words)


def names(r: Random, here: Path) -> Attack:
    """Names that lead elsewhere, cannot be printed, are too long, or are no files."""
    odd = [
        "..",
        "../..",
        ".",
        "...",
        "-",
        "--out",
        "a\nb",
        "a\x1b[2Jb",
        "‮gnp.x",
        "画" * 76,
        "x" * 240,
    ]
    odd += ["con", "nul.png", "a:b", "a*b", "~", "$HOME", "%n", "{0}", " ", "a\\..\\b", "é", "é"]
    odd += [
        os.fsdecode(b"caf\xe9"),
        "restored",
        "results.jsonl",
        ".flowdps.lock",
        "\u2028",
        "😀" * 50,
    ]
    name = r.choice(odd)
    file = here / f"{name}.png"
    try:
        seen(r).save(file, format="PNG")
    except (OSError, ValueError):
        file = here / name
    how = r.randrange(8)
    if how == 0:
        return Attack([f"{here}/../{here.name}/{file.name}", str(file)])
    if how == 1:
        link = here / "link.png"
        link.symlink_to(r.choice(["link.png", "/dev/zero", "/dev/null", "/", "absent", str(file)]))
        return Attack([str(link)])
    if how == 2:
        return Attack([r.choice([*odd, "", "\0", "/dev/stdin", "/proc/self/mem", "/etc"])])
    if how == 3:
        out = here / "o" / r.choice([name, "a/../b", "x" * 300, "\0", "..", "画" * 100])
        return Attack([str(file), "--out", str(out)])
    if how == 4:
        # What is there already keeps its place: a link that leads out of the folder of results.
        out = here / "o"
        out.mkdir()
        for part in ("restored", "sheet", "measurement"):
            (out / f"{file.stem[:80]}_{part}.png").symlink_to(here / "precious.png")
        (here / "precious.png").write_bytes(b"precious")
        if r.random() < 0.5:
            (out / r.choice(["results.jsonl", ".flowdps.lock"])).symlink_to(here / "precious.png")
        return Attack([str(file)])
    if how == 5:
        out = here / "o"
        out.mkdir()
        (out / "results.jsonl").write_bytes(
            r.choice(
                [b"\0" * 100, b"[1]\n", b'{"run": []}\n', b"\xff\xfe", b"{" * 10**5, b"1\n" * 9]
            )
        )
        return Attack([str(file)])
    if how == 6:
        out = here / "o"
        out.mkdir()
        (out / r.choice(["results.jsonl", ".flowdps.lock"])).mkdir()
        return Attack([str(file)])
    return Attack([str(file), str(here), str(file.with_suffix(".PNG"))])


ATTACKS: dict[str, tuple[Callable[[Random, Path], Attack], int]] = {
    "picture": (picture, 30),
    "bomb": (bombs, 6),
    "painted": (painted, 14),
    "model": (model, 10),
    "spectrum": (spectrum, 4),
    "recipe": (recipe, 14),
    "numbers": (numbers, 14),
    "names": (names, 8),
}
"""The kinds of attack and their shares."""


# The law.

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate"}
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"}


class Watch:
    """Notes what the process writes, starts and connects to while it is on."""

    def __init__(self) -> None:
        self.on, self.inside, self.seen = False, "", list[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in STARTS:
            self.seen.append(f"{event} {str(given)[:200]}")
        elif event in WRITES:
            self._wrote(event, [each for each in given if isinstance(each, str | bytes)])
        elif event == "open":
            path, mode, flags = given
            changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
            if (set(mode or "") & set("wax+")) or (not mode and (flags or 0) & changes):
                self._wrote(event, [path])

    def _wrote(self, event: str, paths: list[Any]) -> None:
        for path in paths:
            if isinstance(path, int) or os.fsdecode(path) in ("/dev/null", "/dev/tty"):
                continue
            if "torchinductor_" in os.fsdecode(path):  # PyTorch makes one for itself.
                continue
            # Of what is made or removed, the folder counts; of what is opened, where it leads.
            real = os.path.realpath(path)
            if event != "open":
                folder, name = os.path.split(os.path.abspath(path))
                real = os.path.join(os.path.realpath(folder), name)
            if event == "os.mkdir" and self.inside.startswith(f"{real}/"):
                continue  # The folders above the one that was asked for.
            if not f"{real}/".startswith(self.inside + "/"):
                self.seen.append(f"{event} writes {real}")

    @contextlib.contextmanager
    def during(self, inside: Path) -> Iterator[list[str]]:
        self.inside, self.seen, self.on = os.path.realpath(inside), [], True
        try:
            yield self.seen
        finally:
            self.on = False


def peak() -> float:
    """MiB of the most memory since ``forget``; 0 where the system does not tell."""
    try:
        (line,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        return int(line) / 1024
    except (OSError, ValueError):
        return 0.0


def forget() -> float:
    """Begin anew to look for the most memory; returns what there is now, in MiB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def listing(folder: Path, apart: Path) -> dict[str, tuple[int, int]]:
    """What is in ``folder`` but for what is in ``apart``."""
    found = {}
    for at, _, files in os.walk(folder):
        if not f"{at}/".startswith(f"{apart}/"):
            for name in files:
                stat = os.lstat(os.path.join(at, name))
                found[os.path.join(at, name)] = (stat.st_size, stat.st_mtime_ns)
    return found


def faults_of(code: int, said: str, errors: str) -> list[str]:
    """What is wrong with exit code and console: one sentence a line, and a reason for code 2."""
    found = []
    if code not in (0, 2):
        found.append(f"exit code {code}")
    lines = [line for line in errors.splitlines() if line.strip()]
    if code == 2 and not lines:
        found.append("exit code 2 without a reason")
    found += [f"not a sentence: {line[:300]}" for line in lines if not line.startswith("flowdps")]
    found += [f"unplanned: {line[:300]}" for line in lines if UNPLANNED.search(line)]
    if code == 0 and not said.strip():
        found.append("success, and nothing is said")
    return found


def carry_out(attack: Attack, here: Path, watch: Watch) -> Verdict:
    """Run a case in this process."""
    out = here / "o"
    if "--out" in attack.words[:-1]:
        given = attack.words[attack.words.index("--out") + 1]
        out = out if "\0" in given else Path(os.path.normpath(given))
    before, floor = listing(here, out), forget()
    said, errors, began = io.StringIO(), io.StringIO(), time.process_time()
    code, faults = 0, list[str]()
    redirected = contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors)
    with watch.during(out) as written, redirected[0], redirected[1]:
        try:
            if attack.call is not None:
                attack.call()
                print("done")
            else:
                words = [*attack.words]
                words += [] if "--out" in words else ["--out", str(out)]
                words += [] if any(w.startswith("--steps") for w in words) else [*QUICK]
                code = command()(["restore", *words])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except ValueError as error:
            code = 2
            sentence = str(error)
            print(f"flowdps: {sentence}", file=errors)
            if attack.call is None:
                faults.append("a ValueError came out of the command")
            elif "\n" in sentence or not sentence:
                faults.append(f"not one sentence: {sentence[:200]!r}")
        except Exception as error:
            import traceback

            place = traceback.extract_tb(error.__traceback__)[-1]
            code = 1
            faults.append(
                f"{type(error).__name__}: {str(error)[:200]} ({place.filename}:{place.lineno})"
            )
    seconds, grown = time.process_time() - began, peak() - floor
    faults += faults_of(code, said.getvalue(), errors.getvalue()) if not faults else []
    faults += written
    after = listing(here, out)
    faults += [f"changed: {name}" for name in before if before[name] != after.get(name)]
    faults += [f"left behind: {name}" for name in after if name not in before]
    if seconds > SECONDS:
        faults.append(f"{seconds:.0f} s")
    if grown > MEBIBYTES:
        faults.append(f"{grown:.0f} MiB")
    return Verdict(code, said.getvalue() + errors.getvalue(), seconds, grown, faults)


def carry_out_apart(attack: Attack, here: Path) -> Verdict:
    """Run a case as a user does, with the prior that comes along."""
    words = [*attack.words, *([] if "--out" in attack.words else ["--out", str(here / "o")])]
    words += [] if any(w.startswith("--steps") for w in words) else [*QUICK]
    began = time.monotonic()
    before = listing(here, here / "o")
    run = subprocess.run(
        [sys.executable, "-m", f"{PACKAGE}.cli", "restore", *words],
        capture_output=True,
        timeout=10 * SECONDS,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
    )
    said, errors = (text.decode(errors="replace") for text in (run.stdout, run.stderr))
    faults = faults_of(run.returncode, said, errors)
    faults += ["files beside the results"] if before != listing(here, here / "o") else []
    return Verdict(run.returncode, said + errors, time.monotonic() - began, 0.0, faults)


def command() -> Callable[[list[str]], int]:
    """``main`` of the command. By name, as it is what is attacked, and no part of this room."""
    return importlib.import_module("..cli.command", __package__).main


@contextlib.contextmanager
def cheap() -> Iterator[None]:
    """The prior that comes along is one without networks; others are loaded as always."""
    from ..priors import diffusers

    real = diffusers.load_prior

    def load(source: Any = None, **options: Any) -> Any:
        return Still() if source is None else real(source, **options)

    diffusers.load_prior = load  # type: ignore[assignment]
    try:
        yield
    finally:
        diffusers.load_prior = real


def case(
    seed: int, number: int, here: Path, kinds: Sequence[str] = tuple(ATTACKS)
) -> tuple[str, Attack]:
    """Case ``number`` of ``seed``, one of ``kinds``, with its files in ``here``."""
    r = Random(f"{seed} {number}")
    (kind,) = r.choices(kinds, [ATTACKS[kind][1] for kind in kinds])
    return kind, ATTACKS[kind][0](r, here)


def attacks(
    count: int,
    seed: int,
    *,
    first: int = 0,
    apart: int = 0,
    kinds: Sequence[str] = tuple(ATTACKS),
    keep: bool = False,
    watch: Watch | None = None,
) -> Iterator[tuple[int, str, Verdict]]:
    """Number, kind and verdict of ``count`` cases from ``first`` on."""
    watch = watch or Watch()
    os.environ["HF_HUB_OFFLINE"] = "1"
    command()
    for number in range(first, first + count):
        here = Path(tempfile.mkdtemp(prefix=f"attack-{number}-"))
        try:
            name, attack = case(seed, number, here, kinds)
            if apart and number % apart == apart - 1 and attack.words:
                verdict = carry_out_apart(attack, here)
            else:
                with cheap():
                    verdict = carry_out(attack, here, watch)
            yield number, name, verdict
        finally:
            if not keep:
                shutil.rmtree(here, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="this case alone, with all that it says")
    parser.add_argument("--kind", nargs="*", choices=ATTACKS, help="these kinds alone")
    parser.add_argument(
        "--apart", type=int, default=50, help="every so many-th in a process; 0: none"
    )
    parser.add_argument("--host", metavar="FOLDER", help="attack the ComfyUI in FOLDER instead")
    parser.add_argument("--cancels", type=int, default=100, help="runs that are cancelled there")
    parser.add_argument("--workflows", type=int, default=100, help="odd workflows run there")
    parser.add_argument("--keep", action="store_true", help="keep the files of the cases")
    args = parser.parse_args()
    if args.host:
        try:
            inside = importlib.import_module("..tests.host.attack", __package__)
        except ModuleNotFoundError as error:
            parser.error(f"--host needs a clone of the repository with its tests ({error})")
        return inside.run(args.host, args.cancels, args.workflows, args.seed)
    first, count = (args.first, args.count) if args.only is None else (args.only, 1)
    counted: collections.Counter[str] = collections.Counter()
    slowest = largest = 0.0
    bad = 0
    print(f"seed {args.seed}, cases {first} to {first + count - 1}")
    for number, kind, verdict in attacks(
        count,
        args.seed,
        first=first,
        apart=args.apart,
        kinds=args.kind or tuple(ATTACKS),
        keep=args.keep,
    ):
        counted[f"{kind}: {'success' if verdict.code == 0 else 'refused'}"] += 1
        slowest, largest = max(slowest, verdict.seconds), max(largest, verdict.mebibytes)
        if args.only is not None:
            print(verdict)
        if verdict.faults:
            bad += 1
            print(f"case {number} ({kind}): {'; '.join(verdict.faults)}", flush=True)
    for name in sorted(counted):
        print(f"{name:<24}{counted[name]:>6}")
    print(f"slowest {slowest:.1f} s, most memory {largest:.0f} MiB, {bad} of {count} broke the law")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
