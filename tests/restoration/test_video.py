"""Films as files: what is written is read again, with its sound, and what is wrong is said."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from comfyui_flowdps.restoration import images, video
from comfyui_flowdps.restoration.video import Source, write

RATE = Fraction(25)


def film(count=5, height=48, width=64):
    """A bright bar that moves over soft colours."""
    down, across = torch.linspace(-0.6, 0.6, height)[:, None], torch.linspace(-0.6, 0.6, width)
    for k in range(count):
        x = torch.stack([down.expand(height, width), across.expand(height, width), -down - across])
        x[:, 8:40, 4 * k : 4 * k + 8] = 0.7
        yield x[None].clamp(-1, 1)


@pytest.fixture
def av():
    return pytest.importorskip("av")


def with_sound(av, path, seconds=0.4, rate=16000):
    """A video of five frames with a tone in it."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        sound = target.add_stream("aac", rate=rate, layout="mono")
        for k, x in enumerate(film()):
            frame = av.VideoFrame.from_ndarray(np.array(images.to_pil(x)), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
        tone = np.sin(np.arange(int(seconds * rate)) * 440 * 2 * np.pi / rate)
        for first in range(0, len(tone), 1024):
            part = (tone[None, first : first + 1024] * 0.5).astype(np.float32)
            heard = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = rate, first, Fraction(1, rate)
            target.mux(sound.encode(heard))
        target.mux(sound.encode())


def packets(av, path):
    """The bytes of the sound."""
    with av.open(str(path)) as source:
        found = source.demux(source.streams.audio[0])
        return [bytes(packet) for packet in found if packet.dts is not None]


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.webm"])
def test_a_video_is_read_as_it_was_written(av, tmp_path, name):
    assert write(tmp_path / name, film(), RATE) == 5
    source = Source.of(tmp_path / name)
    assert source.rate == 25
    assert not source.sound
    read = list(source.frames())
    assert len(read) == 5
    for one, other in zip(film(), read, strict=True):
        assert other.shape == one.shape
        assert float((one - other).square().mean().sqrt()) < 0.05
    assert not list(tmp_path.glob(".flowdps*"))


def test_odd_sizes_are_kept(av, tmp_path):
    write(tmp_path / "film.mp4", film(height=47, width=63), RATE)
    assert next(Source.of(tmp_path / "film.mp4").frames()).shape == (1, 3, 47, 63)


def test_sound_is_copied_packet_by_packet(av, tmp_path):
    with_sound(av, tmp_path / "in.mp4")
    source = Source.of(tmp_path / "in.mp4")
    assert source.sound
    assert source.count == 5
    write(tmp_path / "out.mp4", source.frames(), source.rate, source.path)
    assert packets(av, tmp_path / "out.mp4") == packets(av, tmp_path / "in.mp4")


def test_frames_are_written_while_they_come(av, tmp_path):
    """No more than one is taken ahead: a film need not fit into memory."""
    given = 0

    def counted():
        nonlocal given
        for x in film():
            given += 1
            yield x

    write(tmp_path / "in.mp4", film(), RATE)
    frames = Source.of(tmp_path / "in.mp4").frames()
    next(frames)
    frames.close()
    work = tmp_path / "work"
    seen = []

    def watched():
        for x in counted():
            yield x
            seen.append(video.finished(work))

    write(tmp_path / "out", watched(), RATE, work=work)
    assert seen == [1, 2, 3, 4, 5]
    assert len(list((tmp_path / "out").iterdir())) == 5
    assert not work.exists()


def pictures(av, path):
    """Every picture of a video with its time, in the order in which they are shown."""
    with av.open(str(path)) as source:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in source.decode(video=0)]


@pytest.mark.parametrize("suffix", sorted(video.SUFFIXES))
@pytest.mark.parametrize("rate", [RATE, Fraction(24000, 1001)], ids=str)
def test_parts_are_one_film(av, tmp_path, monkeypatch, suffix, rate):
    """All frames, at their times, whatever the number of frames of a part; each is a little larger,
    and hardly different."""
    found = {}
    for count in (4, 48):
        monkeypatch.setattr(video, "PART", count)
        path = tmp_path / f"{count}{suffix}"
        assert write(path, film(11), rate) == 11
        found[count] = pictures(av, path)
        assert len(found[count]) == 11
    start = found[4][0][0]
    for k, (given, (time, one), (_, two)) in enumerate(
        zip(film(11), found[4], found[48], strict=True)
    ):
        # A program stream says few of them.
        assert time is None or time - start == pytest.approx(k / rate, abs=2e-3)
        for x in (one, two):
            far = torch.from_numpy(x).permute(2, 0, 1).float() / 127.5 - 1 - given[0]
            assert float(far.square().mean().sqrt()) < 0.06
    assert Source.of(tmp_path / f"4{suffix}").rate == pytest.approx(float(rate), rel=0.02)


@pytest.mark.parametrize("name", ["film.mp4", "film.avi", "film"])
@pytest.mark.parametrize("after", [1, 4, 9, 10])
def test_what_was_interrupted_goes_on_and_is_the_same(av, tmp_path, monkeypatch, name, after):
    monkeypatch.setattr(video, "PART", 4)
    with_sound(av, tmp_path / "in.mp4")
    sound = tmp_path / "in.mp4" if "." in name else None

    def files(path):
        return (
            {f.name: f.read_bytes() for f in path.iterdir()}
            if path.is_dir()
            else ([(t, x.tobytes()) for t, x in pictures(av, path)], packets(av, path))
        )

    def broken():
        for k, x in enumerate(film(10)):
            if k == after:
                break
            yield x
        raise KeyboardInterrupt

    work = tmp_path / "work"
    write(tmp_path / f"whole-{name}", film(10), RATE, sound)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / name, broken(), RATE, sound, work)
    assert not (tmp_path / name).exists()
    there = video.finished(work)
    assert there == (after if name == "film" else after // 4 * 4)
    rest = list(film(10))[there:]
    assert write(tmp_path / name, rest, RATE, sound, work) == 10
    assert not work.exists()
    assert files(tmp_path / name) == files(tmp_path / f"whole-{name}")


@pytest.mark.parametrize("given", ["", "shot%d.png", "shot%02d.png"])
def test_sequences_are_in_the_order_of_their_numbers(tmp_path, given):
    for k, x in enumerate(film(12)):
        name = f"shot{k:02d}.png" if given.endswith("02d.png") else f"shot{k}.png"
        images.save_png(x, tmp_path / name)
    source = Source.of(tmp_path / given if given else tmp_path, Fraction(12))
    assert source.count == 12
    assert source.rate == 12
    for one, other in zip(film(12), source.frames(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1 / 127)


def test_an_unfinished_film_leaves_nothing(av, tmp_path):
    def broken():
        yield from film(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "film.mp4", broken(), RATE)
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_said(av, tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"no video at all")
    images.save_png(next(film()), tmp_path / "a1.png")
    images.save_png(next(film(width=80)), tmp_path / "a2.png")
    for path, words in (
        (tmp_path / "none.mp4", "no such film"),
        (tmp_path / "text.mp4", "no video that can be read"),
        (tmp_path / "b%d.png", "no pictures .*b1.png"),
    ):
        with pytest.raises(ValueError, match=words):
            Source.of(path)
    with pytest.raises(ValueError, match="80x48 and the frames before it are 64x48"):
        list(Source.of(tmp_path / "a%d.png").frames())
    with pytest.raises(ValueError, match="exists; choose another"):
        write(tmp_path / "text.mp4", film(), RATE)
    with pytest.raises(ValueError, match="neither a video"):
        write(tmp_path / "film.png", film(), RATE)


def test_without_pyav_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "film.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install 'flowdps\[video\]'"):
        Source.of(tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"pip install 'flowdps\[video\]'"):
        video.check_target(tmp_path / "new.mp4")
