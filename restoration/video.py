"""Films as files: a video, or a numbered sequence of pictures, read and written frame by frame.

A video is written in parts of some frames, each compressed by itself, whose packets are then put
together. So what is finished of one that was interrupted stays.

Videos need PyAV (the extra ``video``), which ComfyUI brings along.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from . import images

SUFFIXES = frozenset([".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"])
"""File name extensions of videos."""
CODECS = {
    ".webm": ("libvpx-vp9", {"crf": "18", "b:v": "0"}),
    ".avi": ("mpeg4", {"flags": "+qscale", "global_quality": "236"}),
}
"""How videos are compressed that are not H.264."""
H264 = ("libx264", {"crf": "14", "preset": "medium"})
PART = 48
"""Frames of a part of a video."""
DELAY = 2
"""Frames by which H.264's packets are early: some of them tell of the frames before."""
IN_BAND = frozenset([".avi", ".mpeg", ".mpg"])
"""Videos in which every part says how it is compressed."""
RATE = Fraction(25)
"""Frames per second of a sequence of pictures, which says nothing of it."""
NUMBER = re.compile(r"%0?(\d*)d")


def _av() -> Any:
    """PyAV; ValueError, in one sentence, where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise ValueError(
            "videos need the package av: pip install 'flowdps[video]'; or give a numbered sequence"
            " of pictures"
        ) from error
    return av


@dataclass(frozen=True)
class Source:
    """A film that is read: its ``path``, frames per second, ``count`` of frames (0: not known), and
    whether it has sound. ``files`` are those of a sequence of pictures."""

    path: Path
    rate: Fraction
    count: int
    sound: bool
    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, path: Path, rate: Fraction | None = None) -> Source:
        """The film at ``path``: a video file, a folder of pictures in the order of their numbers,
        or a pattern such as ``frame%04d.png``.

        ``rate``: frames per second, if not as the file says. ValueError for anything else.
        """
        if path.is_dir() or NUMBER.search(path.name):
            files = tuple(_sequence(path))
            return cls(path, rate or RATE, len(files), False, files)
        if not path.is_file():
            raise ValueError(f"no such film: {path}; expected a video, a folder or frame%04d.png")
        with _opened(path) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no pictures; expected a video")
            stream = container.streams.video[0]
            told = stream.average_rate or stream.guessed_rate or RATE
            return cls(path, rate or Fraction(told), stream.frames, bool(container.streams.audio))

    def frames(self) -> Iterator[Tensor]:
        """The frames (1, 3, H, W) in [-1, 1]; ValueError where one cannot be read, or where
        pictures differ in size."""
        if self.files:
            yield from self._pictures()
            return
        with _opened(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    yield _tensor(frame.to_ndarray(format="rgb24"))
            except _av().error.FFmpegError as error:
                raise ValueError(f"{self.path} is damaged ({error.strerror})") from error

    def _pictures(self) -> Iterator[Tensor]:
        size: torch.Size | None = None
        for file in self.files:
            x, _ = images.read_image(file)
            size = size or x.shape
            if x.shape != size:
                raise ValueError(
                    f"{file} is {x.shape[3]}x{x.shape[2]} and the frames before it are"
                    f" {size[3]}x{size[2]}; expected frames of one size"
                )
            yield x


def _sequence(path: Path) -> list[Path]:
    """The pictures of a folder or pattern, in the order of the numbers in their names."""
    if path.is_dir():
        files = images.find_images([path])
    else:
        name = re.escape(path.name)
        digits = NUMBER.search(path.name)
        assert digits is not None
        number = rf"\\d{{{int(digits[1])},}}" if digits[1] else r"\\d+"
        wanted = re.compile(re.sub(r"%0?\d*d", number, name))
        folder = path.parent
        inside = folder.iterdir() if folder.is_dir() else ()
        files = [file for file in inside if wanted.fullmatch(file.name)]
        if not files:
            raise ValueError(f"no pictures {path}; expected such as {path.name % 1}")
    return sorted(files, key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    av = _av()
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path} is no video that can be read ({error.strerror})") from error
    try:
        yield container
    finally:
        container.close()


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def check_target(path: Path) -> None:
    """ValueError unless a film can be written to ``path``, where nothing is yet."""
    if path.exists():
        raise ValueError(f"{path} exists; choose another name, or remove it")
    video = path.suffix.lower() in SUFFIXES
    if not video and path.suffix:
        raise ValueError(
            f"{path} is neither a video ({', '.join(sorted(SUFFIXES))}) nor a folder for pictures"
        )
    if video:
        _av()


def write(
    path: Path,
    frames: Iterable[Tensor],
    rate: Fraction,
    sound: Path | None = None,
    work: Path | None = None,
) -> int:
    """Write frames (1, 3, H, W) in [-1, 1] to a video, or to a folder as numbered PNG files, and
    return their number.

    ``sound``: the video whose audio streams are copied as they are. The film appears under its name
    once it is complete. Until then it is in the folder ``work``: ``finished`` says how many frames
    an interrupted run left there, and ``frames`` are those after. Without ``work`` nothing is left.
    ValueError as from ``check_target``.
    """
    check_target(path)
    own = work or path.with_name(f".flowdps-{os.getpid()}-{uuid4().hex[:8]}")
    own.mkdir(parents=True, exist_ok=True)
    try:
        before = finished(own)
        if path.suffix.lower() not in SUFFIXES:
            count = before
            for count, x in enumerate(frames, before + 1):
                images.save_png(x, own / f"{count:06d}.png")
            if count:
                own.replace(path)
            return count
        for first, part in _parts_of(frames, before):
            _write_part(own, first, part, rate, path.suffix.lower())
        if count := finished(own):
            whole = own / f"whole{path.suffix}"
            _join(whole, [file for _, _, file in _written(own)], rate, sound)
            whole.replace(path)
            shutil.rmtree(own, ignore_errors=True)
        return count
    finally:
        if work is None:
            shutil.rmtree(own, ignore_errors=True)


def finished(work: Path) -> int:
    """How many frames of a film the folder ``work`` has, from the first one on without a gap."""
    pictures = {file.name for file in work.glob("*.png")}
    count = next(k for k in itertools.count() if f"{k + 1:06d}.png" not in pictures)
    return max([count, *(last for _, last, _ in _written(work))])


def _written(work: Path) -> Iterator[tuple[int, int, Path]]:
    """The parts in ``work`` with the numbers of their first frame and of that after the last one,
    as far as there is no gap."""
    there = {}
    for file in work.glob("frames-*.nut"):
        first, last = map(int, file.stem.split("-")[1:])
        there[first] = last, file
    first = 0
    while first in there:
        last, file = there[first]
        yield first, last, file
        first = last


def _parts_of(frames: Iterable[Tensor], first: int) -> Iterator[tuple[int, Iterator[Tensor]]]:
    """Frames in parts, each with the number of its first one: ``first`` and so on. A part is to be
    taken before the next one."""
    frames = iter(frames)
    for x in frames:
        yield first, itertools.chain([x], itertools.islice(frames, PART - 1))
        first += PART


def _write_part(
    work: Path, first: int, frames: Iterable[Tensor], rate: Fraction, suffix: str
) -> None:
    """Compress some frames as a video ``suffix`` wants them, whatever is before and after."""
    av = _av()
    codec, options = CODECS.get(suffix, H264)
    part, count = work / "part.nut", 0
    with av.open(str(part), "w") as target:
        video = target.add_stream(codec, rate=rate, options=dict(options))
        if suffix in IN_BAND:
            video.codec_context.flags &= ~av.codec.context.Flags.global_header
        for x in frames:
            picture = np.array(images.to_pil(x))
            if not count:
                video.height, video.width = picture.shape[:2]
                # Colours of half the size need even sides.
                even = not (video.height % 2 or video.width % 2)
                video.pix_fmt = "yuv420p" if even or codec == "mpeg4" else "yuv444p"
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = count, 1 / rate
            for packet in video.encode(frame):
                target.mux(packet)
            count += 1
        for packet in video.encode():
            target.mux(packet)
    part.replace(work / f"frames-{first:08d}-{first + count:08d}.nut")


def _join(path: Path, parts: list[Path], rate: Fraction, sound: Path | None) -> None:
    """One video of the packets of all parts, with the sound of another."""
    av = _av()
    delay = DELAY if CODECS.get(path.suffix.lower(), H264) == H264 else 0
    count = 0
    with av.open(str(path), "w") as target, contextlib.ExitStack() as stack:
        with _opened(parts[0]) as first:
            video = _copied(target, first.streams.video[0])
        video.time_base = 1 / rate  # An AVI has a frame, or the same again, at each of its times.
        heard = _Sound(target, stack.enter_context(_opened(sound))) if sound else None
        for part in parts:
            with _opened(part) as source:
                packets = [packet for packet in source.demux(video=0) if packet.size]
            # Every packet is a frame. The part's own times begin elsewhere, and may be rounded.
            shown = sorted(range(len(packets)), key=lambda k: packets[k].pts)
            for rank, k in enumerate(shown):
                packets[k].pts, packets[k].duration = count + rank, 1
            for k, packet in enumerate(packets):
                packet.dts, packet.time_base, packet.stream = count + k - delay, 1 / rate, video
                target.mux(packet)
            count += len(packets)
            if heard:
                heard.up_to(float(count / rate))
        if heard:
            heard.up_to(float("inf"))


class _Sound:
    """The audio packets of one container, copied to another as far as the picture has come."""

    def __init__(self, target: Any, source: Any):
        self._target = target
        self._streams = {stream.index: _copied(target, stream) for stream in source.streams.audio}
        self._packets = source.demux(*source.streams.audio) if self._streams else iter(())
        self._next: Any = None

    def up_to(self, seconds: float) -> None:
        """Copy what is heard until then."""
        while True:
            if self._next is None:
                self._next = next(self._packets, False)
            if self._next is False:
                return
            packet = self._next
            if packet.dts is not None:
                if float(packet.dts * packet.time_base) > seconds:
                    return
                packet.stream = self._streams[packet.stream.index]
                self._target.mux(packet)
            self._next = None


def _copied(target: Any, stream: Any) -> Any:
    """A stream of ``target`` for the packets of ``stream``; PyAV before 14 names it otherwise."""
    if hasattr(target, "add_stream_from_template"):
        return target.add_stream_from_template(stream)
    return target.add_stream(template=stream)
