"""What the training of the emoji prior promises: exact embedding, a hold-out that is apart."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.restoration.images import read_image
from comfyui_flowdps.training import emoji_data as data
from comfyui_flowdps.training import emoji_narrow

from .conftest import HELD_OUT


def test_the_narrow_autoencoder_is_embedded_exactly():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    narrow = emoji_narrow.NarrowAutoencoder().double().requires_grad_(False)
    state = emoji_narrow.embed(narrow)
    wide = diffusers.AutoencoderTiny(latent_channels=16).double().requires_grad_(False)
    names = {}
    for key in wide.state_dict():
        part, _, rest = key.partition(".layers.")
        # The file counts the decoder's clamp as a layer; diffusers' class does not.
        index, _, name = rest.partition(".")
        shift = 1 if part == "decoder" else 0
        names[key] = state[f"taesd_{part}.{int(index) + shift}.{name}"].double()
    wide.load_state_dict(names)
    x = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    z = narrow.encode(x)
    assert float(z.std()) > 0
    torch.testing.assert_close(wide.encoder(x), z, rtol=0, atol=1e-9)
    torch.testing.assert_close(wide.decoder(z), narrow.decode(z), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1f44b", "1f44b-1f3fd"),
        ("1f468-200d-1f52c", "1f469-1f3fe-200d-1f52c"),
        ("1f3c3-200d-2642-fe0f", "1f3c3"),
        ("1f478", "1f934-1f3fb"),
        ("1f468-200d-1f9b0", "1f9d1"),
    ],
)
def test_variants_of_one_emoji_share_a_key(a, b):
    assert data.base_key(a) == data.base_key(b)


def test_different_emoji_do_not():
    codes = ["1f44b", "1f436", "1f9d1-200d-1f52c", "1f9d1-200d-1f692", "1f34e"]
    assert len({data.base_key(code) for code in codes}) == len(codes)


def test_flags_of_places_are_left_out_and_others_kept():
    assert data.is_flag("1f1e9-1f1ea")
    assert data.is_flag("1f3f4-e0067-e0062-e0065-e006e-e0067-e007f")
    assert not data.is_flag("1f3f4-200d-2620-fe0f")
    assert not data.is_flag("1f6a9")


def emoji(count: int) -> list[data.Emoji]:
    """Random pictures: ``count`` bases with two skin tones each, and a copy under another name."""
    result = []
    for k in range(count):
        g = torch.Generator().manual_seed(k)
        rgba = torch.randint(0, 256, (4, 4, 4), generator=g).repeat_interleave(32, 1)
        rgba = rgba.repeat_interleave(32, 2).to(torch.uint8)
        rgba[3] = 255
        code = f"1f{0x400 + k:x}"
        result += [data.Emoji(code, rgba), data.Emoji(f"{code}-1f3fb", 255 - rgba)]
    result.append(data.Emoji("2b50", result[0].rgba))
    return result


def test_split_keeps_groups_together():
    items = emoji(60)
    train, held = data.split(items)
    out = [i for group in held for i in group]
    assert sorted(train + out) == list(range(len(items)))
    assert len(held) == 5
    assert not {data.base_key(items[i].code) for i in train} & {
        data.base_key(items[i].code) for i in out
    }
    (merged,) = [g for g in data.groups(items) if 0 in g]
    assert merged == [0, 1, len(items) - 1]


def test_the_held_out_pictures_are_there_and_apart():
    test, tune = (sorted((HELD_OUT / kind).glob("*.png")) for kind in ("test", "tune"))
    assert len(test) >= 48
    assert (HELD_OUT / "LICENSE.md").exists()
    keys = [{data.base_key(f.stem) for f in files} for files in (test, tune)]
    assert not keys[0] & keys[1]
    for file in test + tune:
        x, notes = read_image(file)
        assert (x.shape, notes) == ((1, 3, 128, 128), [])
