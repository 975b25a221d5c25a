"""Many photos: bounded memory, bits that depend on nothing else, and folders at other addresses."""

from __future__ import annotations

import io
import itertools
import json
import queue
import random
import threading
import time
import zipfile
from datetime import timedelta

import pytest
from comfyui_flowdps.benchmarks.attack import Still
from comfyui_flowdps.cli import request, results, runs
from comfyui_flowdps.cli.ahead import Feed, ahead
from PIL import Image

from .test_command import records, restore
from .test_results import QUICK, photo, pictures

__all__ = ["photo"]

CHEAP = ("--task", "identity", "--observed", "--method", "flowchef", "--steps", 1)


@pytest.fixture
def still(monkeypatch):
    """A prior that costs nothing instead of the demo prior."""
    monkeypatch.setattr(request, "prior_of", lambda _: Still())


@pytest.fixture
def many(tmp_path, photo):
    """Makes so many photos of 16 pixels."""

    def make(count):
        return [photo(f"{k:03}.png", shift=k % 60, size=(16, 16)) for k in range(count)]

    return make


@pytest.mark.parametrize("seed", range(3))
def test_work_ahead_keeps_the_order_and_its_bound(seed):
    drawn, begun, taken = random.Random(seed), itertools.count(), 0
    waits = [drawn.uniform(0, 0.01) for _ in range(40)]

    def function(k):
        time.sleep(waits[k])
        return k

    def items():
        for k in range(40):
            # Those in the queue, one in each hand of feeder and consumer, and one that is made.
            assert next(begun) - taken <= 3 + 3
            yield k

    for k in ahead(function, items(), 3, 3):
        assert k == taken
        taken += 1
        time.sleep(drawn.uniform(0, 0.01))
    assert taken == 40


def test_what_goes_wrong_ahead_is_raised_where_it_is_needed():
    def items():
        yield 1
        raise OSError("gone")

    found = ahead(lambda k: k, items(), 1, 3)
    assert next(found) == 1
    with pytest.raises(OSError, match="gone"):
        next(found)
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda k: 1 // k, [0], 1, 3))


def test_a_feed_ends_once_and_a_closed_one_takes_nothing_more():
    feed = Feed([1], 3)
    assert feed.get() == 1
    for _ in range(2):
        with pytest.raises(StopIteration):
            feed.get()
    taken = itertools.count()
    feed = Feed(taken, 2)
    assert feed.get() == 0
    feed.close()
    time.sleep(0.3)
    after = next(taken)
    time.sleep(0.3)
    assert next(taken) == after + 1
    with pytest.raises(queue.Empty):
        Feed(iter(lambda: time.sleep(1), 0), 1).get(0)


def test_the_bits_of_a_result_do_not_depend_on_what_else_there_is_to_do(tmp_path, photo):
    """Three photos alike and one of another size, in batches that they do not fill; and alone."""
    files = [photo(f"{k}.png", shift=9 * k) for k in range(3)] + [photo("3.png", size=(24, 40))]
    assert restore(*files, *QUICK, "--out", tmp_path / "together") == 0
    assert {record["batch"] for record in records(tmp_path / "together")} == {4, 8}
    for file in files[1:3]:
        assert restore(file, *QUICK, "--out", tmp_path / "alone") == 0
    together, alone = pictures(tmp_path / "together"), pictures(tmp_path / "alone")
    assert len(alone) == 6
    assert {name: together[name] for name in alone} == alone


def test_no_more_photos_are_held_however_many_there_are(tmp_path, many, still, monkeypatch):
    """Read and not yet written: bounded by the queues, and so are the marks in memory."""
    held, most, guard = 0, {}, threading.Lock()
    reads, writes = runs.content_of, results.Results.write

    def read(file):
        nonlocal held
        with guard:
            held += 1
            most[count] = max(most.get(count, 0), held)
        return reads(file)

    def write(self, *arguments):
        nonlocal held
        time.sleep(0.005)  # The disk is what is slow.
        with guard:
            held -= 1
        assert len(self._marks) <= results.REMEMBERED
        return writes(self, *arguments)

    monkeypatch.setattr(runs, "content_of", read)
    monkeypatch.setattr(results.Results, "write", write)
    monkeypatch.setattr(results, "REMEMBERED", 20)
    for count in (60, 120):
        files = many(count)
        assert restore(*files, *CHEAP, "--out", tmp_path / str(count)) == 0
        assert len(records(tmp_path / str(count))) == count
        assert held == 0
    assert most[120] <= most[60] + 8 < 60


def test_photos_of_many_sizes_do_not_wait_for_each_other(tmp_path, photo, still, monkeypatch):
    """As many kinds as photos: what waits for its batch is bounded, too."""
    from comfyui_flowdps.cli.work import Work

    files = [photo(f"{k:02}.png", size=(16 + k, 16)) for k in range(40)]
    waiting, real = [], Work.restored
    monkeypatch.setattr(Work, "batch_of", lambda *_: 2)

    def restored(self, group, *rest):
        waiting.append(len(group))
        return real(self, group, *rest)

    monkeypatch.setattr(Work, "restored", restored)
    assert restore(*files, *CHEAP, "--out", tmp_path / "o") == 0
    order = [record["width"] for record in records(tmp_path / "o")]
    assert order == sorted(order), "the oldest goes first"
    assert waiting == [1] * 40


def test_results_at_another_address_are_the_same(tmp_path, many, still, capsys):
    """Of a run into fsspec's memory, twice: files, names, log; and a photo of the user's stays."""
    fs = pytest.importorskip("fsspec").filesystem("memory")
    files = many(5)
    assert restore(*files, *CHEAP, "--out", tmp_path / "o") == 0
    fs.makedirs("/flowdps")
    fs.pipe_file("/flowdps/001_restored.png", b"the user's")
    for skipped in (False, True):
        assert restore(*files, *CHEAP, "--out", "memory://flowdps") == 0
        assert ("5 finished before" in capsys.readouterr().out) == skipped
    there = {name.split("/")[-1]: fs.cat_file(name) for name in fs.ls("/flowdps", detail=False)}
    fs.rm("/flowdps", recursive=True)
    assert there.pop("001_restored.png") == b"the user's"
    here = pictures(tmp_path / "o")
    same = {name.replace("001_png_", "001_"): content for name, content in there.items()}
    assert {name for name in same if name.endswith("png")} == set(here)
    assert all(same[name] == content for name, content in here.items())
    assert len(there["results.jsonl"].splitlines()) == 5


@pytest.fixture
def objects():
    """A store of objects in memory, as S3: no folder without an object in it, an argument of its
    own where others have the first byte."""
    fsspec = pytest.importorskip("fsspec")
    memory = pytest.importorskip("fsspec.implementations.memory")

    class Objects(memory.MemoryFileSystem):
        protocol, root_marker, store, pseudo_dirs, cachable = "objects", "", {}, [""], False

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + path.removeprefix("objects://").strip("/")

        def makedirs(self, path, exist_ok=False):
            pass

        def ls(self, path, detail=True, **more):
            inside = [name for name in self.store if name.startswith(f"{path}/")]
            if not inside:
                raise FileNotFoundError(path)
            return super().ls(path, detail, **more)

        def cat_file(self, path, version_id=None, start=None, end=None):
            assert version_id is None
            return super().cat_file(path, start, end)

    fsspec.register_implementation("objects", Objects, clobber=True)
    return Objects()


def test_a_store_of_objects_begins_empty_and_its_log_is_gone_on_with(
    tmp_path, many, still, capsys, objects
):
    """What a killed run left half written stays until it is old."""
    files = many(4)
    assert restore(*files[:2], *CHEAP, "--out", "objects://bucket/out") == 0
    log = objects.cat_file("/bucket/out/results.jsonl")
    objects.pipe_file("/bucket/out/results.jsonl", log + b'{"incomp')
    for name in ("old", "new"):
        objects.pipe_file(f"/bucket/out/.flowdps-{name}.part", b"half")
    old = objects.store["/bucket/out/.flowdps-old.part"]
    old.modified -= timedelta(days=2)
    assert restore(*files, *CHEAP, "--out", "objects://bucket/out") == 0
    assert "2 finished before" in capsys.readouterr().out
    lines = objects.cat_file("/bucket/out/results.jsonl").splitlines()
    assert len(lines) == 5
    assert lines[2] == b'{"incomp'
    names = {name.split("/")[-1] for name in objects.store}
    assert ".flowdps-old.part" not in names
    assert ".flowdps-new.part" in names
    assert len(names) == 4 * 3 + 2


def test_a_bucket_takes_photos_and_results_and_an_interrupted_run_goes_on(
    tmp_path, many, still, capsys, monkeypatch
):
    """In moto's S3 server, where it is installed."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: no S3 server")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: S3 is not tested")
    from comfyui_flowdps.cli.command import main
    from comfyui_flowdps.cli.work import Work

    there = server.ThreadedMotoServer(port=0)
    there.start()
    url = "http://{}:{}".format(*there.get_host_and_port())
    keys = {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}
    for name, value in {**keys, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    try:
        fs = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        fs.mkdir("bucket")
        files = many(20)
        for file in files:
            fs.pipe_file(f"bucket/in/{file.name}", file.read_bytes())
        calls, real = itertools.count(), Work.restored

        def interrupted(self, *given):
            if next(calls) == 1:
                raise KeyboardInterrupt
            return real(self, *given)

        monkeypatch.setattr(Work, "restored", interrupted)
        words = [str(word) for word in ("s3://bucket/in", *CHEAP, "--out", "s3://bucket/out")]
        assert main(["restore", *words]) == 130
        assert main(["restore", *words]) == 0
        assert "4 finished before" in capsys.readouterr().out
        log = fs.cat_file("bucket/out/results.jsonl").splitlines()
        assert len({json.loads(line)["run"] for line in log}) == len(log) == 20
        assert restore(*files, *CHEAP, "--out", tmp_path / "o") == 0
        for file in files:
            name = f"{file.stem}_restored.png"
            with Image.open(io.BytesIO(fs.cat_file(f"bucket/out/{name}"))) as one:
                assert one.tobytes() == Image.open(tmp_path / "o" / name).tobytes()
        assert len(fs.ls("bucket/out")) == 3 * 20 + 1
    finally:
        there.stop()


def test_photos_at_another_address_are_restored(tmp_path, many, still, capsys):
    """In a ZIP archive, and beside them some that cannot be had."""
    pytest.importorskip("fsspec")
    files = many(3)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for file in files:
            archive.write(file, f"photos/{file.name}")
        archive.writestr("photos/notes.txt", "no picture")
        archive.writestr("photos/bad.png", "no picture")
    inputs = [f"zip://photos::{tmp_path / 'in.zip'}", "zip://x.png::/nowhere.zip", "what://x"]
    assert restore(*inputs, *CHEAP, "--out", tmp_path / "o") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    for words in ("bad.png::", "/nowhere.zip cannot be r", "what://x cannot be reached"):
        assert [line for line in lines if words in line], (words, lines)
    assert len(lines) == 3
    assert restore(*files, *CHEAP, "--out", tmp_path / "p") == 0
    for file in files:
        name = f"{file.stem}_restored.png"
        one, two = (Image.open(tmp_path / folder / name) for folder in "op")
        assert one.tobytes() == two.tobytes()


def test_a_path_may_be_written_as_an_address(tmp_path, many, still):
    files = many(1)
    assert restore(files[0].as_uri(), *CHEAP, "--out", (tmp_path / "o").as_uri()) == 0
    assert [record["input"] for record in records(tmp_path / "o")] == [str(files[0])]


def test_an_address_where_nothing_can_be_appended_is_refused(tmp_path, many, still, capsys):
    fsspec = pytest.importorskip("fsspec")
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    (tmp_path / "o.zip").write_bytes(stream.getvalue())
    assert fsspec
    assert restore(*many(1), *CHEAP, "--out", f"zip://o::{tmp_path / 'o.zip'}") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "nothing can be written" in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--workers", 2), "--workers is for --engine ray"),
        (("--ray-address", "auto"), "--ray-address is for --engine ray"),
        (("--server", "x"), "--server is for --engine comfyui"),
    ],
)
def test_options_of_another_engine_are_refused(tmp_path, many, capsys, words, told):
    assert restore(*many(1), *words, "--out", tmp_path / "o") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_ctrl_c_ends_the_run_and_the_next_goes_on(tmp_path, many, still, monkeypatch, capsys):
    """While the model works; what was finished stays, and nothing is done twice."""
    from comfyui_flowdps.cli.command import main
    from comfyui_flowdps.cli.work import Work

    files, calls, real = many(40), itertools.count(), Work.restored

    def interrupted(self, *given):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(Work, "restored", interrupted)
    words = [str(word) for word in (*files, *CHEAP, "--out", tmp_path / "o")]
    assert main(["restore", *words]) == 130
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "flowdps: stopped; run it again to restore the remaining photos"
    assert 0 < len(records(tmp_path / "o")) <= 24
    assert main(["restore", *words]) == 0
    assert len(records(tmp_path / "o")) == 40
    monkeypatch.undo()
    monkeypatch.setattr(request, "prior_of", lambda _: Still())
    assert restore(*files, *CHEAP, "--out", tmp_path / "p") == 0
    assert pictures(tmp_path / "o") == pictures(tmp_path / "p")
