"""``--engine comfyui``: photos go to servers, here a stand-in that speaks ComfyUI's API."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from comfyui_flowdps.cli.engines import comfyui
from PIL import Image, ImageOps

from .test_command import records
from .test_decided import restore
from .test_results import photo, pictures

__all__ = ["photo"]

DEMO = "built-in demo prior"


class Stand(ThreadingHTTPServer):
    """What ComfyUI answers. Its Restore Photo inverts the picture.

    nodes: that it has. dies_after: prompts after which it answers nothing any more. fails: names
    of photos that end in an error; forgets: how many prompts it forgets.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.nodes = {
            "FlowDPS_RestorePhoto": {},
            "FlowDPS_LoadFlowPrior": {"input": {"required": {"checkpoint": [[DEMO], {}]}}},
        }
        self.dies_after, self.forgets = 10**9, 0
        self.fails: set[bytes] = set()
        self.files: dict[str, bytes] = {}
        self.history: dict[str, dict] = {}
        self.prompts: list[dict] = []
        self.guard = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def dead(self):
        return len(self.prompts) > self.dies_after

    def queue(self, prompt):
        """Validate and, at once, execute a prompt."""
        id = f"p{len(self.prompts)}"
        self.prompts.append(prompt)
        name = prompt["1"]["inputs"]["image"]
        assert name.endswith(" [temp]")
        content = self.files[name.removesuffix(" [temp]")]
        messages, outputs = [], {}
        if content in self.fails:
            messages = [["execution_error", {"exception_message": "the photo\nis bad\n"}]]
        else:
            with Image.open(comfyui.io.BytesIO(content)) as image:
                stream = comfyui.io.BytesIO()
                ImageOps.invert(image.convert("RGB")).save(stream, "PNG")
            shown = f"out-{id}.png"
            self.files[shown] = stream.getvalue()
            entry = {"filename": shown, "subfolder": "", "type": "temp"}
            outputs = {"3": {"text": ["It is inverted.\nThe result agrees."]}}
            outputs["4"] = {"images": [entry]}
        if self.forgets:
            self.forgets -= 1
        else:
            self.history[id] = {"outputs": outputs, "status": {"messages": messages}}
        return {"prompt_id": id}


class Answers(BaseHTTPRequestHandler):
    server: Stand

    def log_message(self, *_):
        pass

    def answer(self, body: bytes):
        if self.server.dead:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        first, _, last = path[1:].partition("/")
        with self.server.guard:
            if first == "view":
                given = dict(urllib.parse.parse_qsl(query))
                assert given["type"] == "temp"
                self.answer(self.server.files[given["filename"]])
                return
            known = {"object_info": self.server.nodes, "history": self.server.history}
            told = {"queue_running": [], "queue_pending": []}
            if first != "queue":
                told = {last: known[first][last]} if last in known[first] else {}
            self.answer(json.dumps(told).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.guard:
            if self.path == "/upload/image":
                name = body.split(b'filename="')[1].split(b'"')[0].decode()
                content = body.split(b'filename="')[1].split(b"\r\n\r\n", 1)[1]
                self.server.files[name] = content.rsplit(b"\r\n--", 1)[0]
                told = {"name": name}
            else:
                told = self.server.queue(json.loads(body)["prompt"])
            self.answer(json.dumps(told).encode())


@pytest.fixture
def stands(monkeypatch):
    """Two servers, and a client in a hurry."""
    monkeypatch.setattr(comfyui, "PAUSE", 0.01)
    found = [Stand(), Stand()]
    yield found
    for each in found:
        each.shutdown()
        each.server_close()


@pytest.fixture
def folder(photo):
    """Six photos."""
    files = [photo(f"{k}.png", shift=9 * k) for k in range(6)]
    return files[0].parent


def run(folder, out, *stands, more=()):
    urls = [stand.url for stand in stands]
    words = ("--prior", "demo", "--engine", "comfyui", "--server", *urls, "--out", out)
    return restore(folder, *words, *more)


def check(folder, out, but=()):
    """Every photo is restored once, under its own name."""
    found = {record["input"]: record for record in records(out)}
    assert len(found) == len(records(out))
    assert set(found) == {str(file) for file in folder.iterdir() if file.name not in but}
    for file, record in found.items():
        with Image.open(file) as given, Image.open(out / record["restored_file"]) as kept:
            assert np.array_equal(np.asarray(kept), 255 - np.asarray(given.convert("RGB")))
        assert record["notes"][:2] == ["It is inverted.", "The result agrees."]


def test_photos_go_to_all_servers_and_a_second_run_does_nothing(tmp_path, folder, stands, capsys):
    out = tmp_path / "o"
    assert run(folder, out, *stands, more=("--wrong", "grainy", "--seed", 7)) == 0
    check(folder, out)
    assert "It is inverted." in capsys.readouterr().out
    assert all(stand.prompts for stand in stands)
    for prompt in stands[0].prompts:
        values = prompt["3"]["inputs"]
        assert (values["wrong"], values["seed"], values["invent"]) == ("grainy", 7, 0.5)
        assert prompt["2"]["inputs"]["checkpoint"] == DEMO
    before = pictures(out)
    assert run(folder, out, *stands, more=("--wrong", "grainy", "--seed", 7)) == 0
    assert "6 finished before" in capsys.readouterr().out
    assert sum(len(stand.prompts) for stand in stands) == 6
    assert pictures(out) == before


def test_the_photos_of_a_server_that_dies_go_to_the_other(tmp_path, folder, stands, capsys):
    stands[0].dies_after = 1
    assert run(folder, tmp_path / "o", *stands) == 0
    check(folder, tmp_path / "o")
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines
    assert all(f"{stands[0].url} does not answer" in line for line in lines), lines


def test_a_photo_that_a_server_forgot_is_done_again(tmp_path, folder, stands):
    stands[0].forgets = 2
    assert run(folder, tmp_path / "o", *stands) == 0
    check(folder, tmp_path / "o")


def test_a_photo_that_servers_forget_each_time_is_set_aside(tmp_path, photo, stands, capsys):
    folder = photo().parent
    stands[0].forgets = 99
    assert run(folder, tmp_path / "o", stands[0]) == 2
    assert "x.png: servers stopped answering 3 times over it" in capsys.readouterr().err
    assert len(stands[0].prompts) == 3


def test_a_photo_that_fails_costs_one_line(tmp_path, folder, stands, capsys):
    from comfyui_flowdps.restoration import images

    bad = images.as_png(images.read_image(folder / "2.png")[0])
    for stand in stands:
        stand.fails.add(bad)
    assert run(folder, tmp_path / "o", *stands) == 2
    assert capsys.readouterr().err.strip() == "flowdps: 2.png: the photo is bad"
    check(folder, tmp_path / "o", but={"2.png"})


def test_when_no_server_answers_any_more_the_run_ends_and_the_next_goes_on(
    tmp_path, folder, stands, capsys, monkeypatch
):
    monkeypatch.setattr(comfyui, "PATIENCE", 0.5)
    monkeypatch.setattr(comfyui, "SECONDS", 0.5)
    stands[0].dies_after = 3
    assert run(folder, tmp_path / "o", stands[0]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no server has answered for" in last
    assert run(folder, tmp_path / "o", stands[1]) == 0
    check(folder, tmp_path / "o")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--task", "jpeg"), "--task is not for --engine comfyui"),
        (("--samples", 2), "--samples is not for --engine comfyui"),
        (("--device", "cpu"), "--device is not for --engine comfyui"),
        (("--prompt", "a dog"), "the prior demo takes no prompt"),
        (("--prior", "sd3.safetensors"), "has no checkpoint 'sd3.safetensors'; expected one of"),
    ],
)
def test_what_servers_cannot_do_is_refused(tmp_path, folder, stands, capsys, more, told):
    assert run(folder, tmp_path / "o", *stands, more=more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert not any(stand.prompts for stand in stands)


def test_a_server_without_the_pack_is_refused(tmp_path, folder, stands, capsys):
    stands[1].nodes.clear()
    assert run(folder, tmp_path / "o", *stands) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{stands[1].url} has no node Restore Photo: install ComfyUI-FlowDPS" in line


def test_no_server_is_said(tmp_path, folder, stands, capsys):
    assert restore(folder, "--engine", "comfyui", "--out", tmp_path / "o") == 2
    assert "needs --server URL" in capsys.readouterr().err
    stands[0].dies_after = -1
    assert run(folder, tmp_path / "o", stands[0]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"no ComfyUI answers at {stands[0].url}" in line
