"""A real ComfyUI for the tests: where it is, how it starts, and how to ask it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240


def find() -> Path | None:
    """The ComfyUI that ``COMFYUI_PATH`` names, else the one in the home folder, else None."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        folder = Path(named).expanduser()
        if not (folder / "main.py").is_file():
            raise FileNotFoundError(f"COMFYUI_PATH is {named}, where there is no main.py")
        return folder
    folder = Path.home() / "ComfyUI"
    return folder if (folder / "main.py").is_file() else None


def python(folder: Path) -> str:
    """Its interpreter: ``COMFYUI_PYTHON``, else a virtual environment inside it, else this one."""
    if named := os.environ.get("COMFYUI_PYTHON"):
        return named
    for name in (".venv", "venv"):
        for inside in ("bin/python", "Scripts/python.exe"):
            if (folder / name / inside).is_file():
                return str(folder / name / inside)
    return sys.executable


def version(folder: Path) -> str:
    """Version as ComfyUI states it."""
    text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    return text.split('"')[1]


def starts(folder: Path) -> str:
    """Empty if its interpreter has what it needs, else the last line of the complaint."""
    code = (
        "import sys; sys.argv.append('--cpu');"
        " import comfy.options; comfy.options.enable_args_parsing();"
        " import torch, torchsde, aiohttp, comfy.samplers"
    )
    run = subprocess.run(
        [
            python(folder),
            "-c",
            code,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return "" if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


class Failed(Exception):
    """A prompt that ComfyUI refused or that failed; ``str`` of it is what the user is shown."""


class Socket:
    """The little of a websocket (RFC 6455) that listening to ComfyUI takes."""

    def __init__(self, port: int, path: str):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._stream = self._socket.makefile("rb")
        if b"101" not in self._stream.readline():
            raise ConnectionError(f"no websocket at {path}")
        while self._stream.readline().strip():
            pass

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._stream.read(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._stream.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._stream.read(8))
        return bool(first & 0x80), first & 0x0F, self._stream.read(length)

    def receive(self) -> dict[str, Any] | bytes:
        """The next message: parsed JSON, or the bytes of a preview."""
        data, kind = b"", 0
        while True:
            last, code, part = self._frame()
            if code == 8:
                raise ConnectionError("the server closed the websocket")
            if code in (9, 10):  # ping, pong
                continue
            data, kind = data + part, code or kind
            if last:
                return json.loads(data) if kind == 1 else data

    def until_done(self, prompt_id: str) -> Iterator[dict[str, Any] | bytes]:
        """All messages until the prompt has ended, however it ends."""
        ends = ("execution_success", "execution_error", "execution_interrupted")
        while True:
            message = self.receive()
            yield message
            if isinstance(message, bytes) or message["type"] not in ends:
                continue
            if message["data"].get("prompt_id") == prompt_id:
                return


class Server:
    """A running ComfyUI with this pack, and ``base`` as the folder of its models and pictures."""

    def __init__(self, folder: Path, base: Path, packs: dict[str, Path], *options: str):
        self.folder, self.base = folder, base
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
        for name, pack in packs.items():
            (base / "custom_nodes" / name).symlink_to(pack, target_is_directory=True)
        self.log = base / "server.log"
        self._stream = self.log.open("w")
        self.process = subprocess.Popen(
            [
                python(folder),
                "main.py",
                "--cpu",
                *("--port", str(self.port)),
                *("--base-directory", str(base)),
                *("--database-url", "sqlite:///:memory:"),
                "--disable-api-nodes",
                "--dont-print-server",
                "--disable-auto-launch",
                *("--preview-method", "latent2rgb"),
                *options,
            ],
            cwd=folder,
            stdout=self._stream,
            stderr=subprocess.STDOUT,
        )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self.get("/system_stats")
                return
            except OSError as error:
                ended = self.process.poll() is not None
                if ended or time.monotonic() > until:
                    self.stop()
                    text = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
                    raise RuntimeError(f"ComfyUI did not start: {text}") from error
                time.sleep(0.5)

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._stream.close()

    def get(self, path: str) -> Any:
        """JSON of a GET request."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """JSON, or None, of a POST request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def queue(self, prompt: dict[str, Any], client: str = "") -> str:
        """Id of the queued prompt; Failed where validation refuses it.

        ``client`` is the id of the :meth:`listen` that shall hear of its progress.
        """
        body = {"prompt": prompt, **({"client_id": client} if client else {})}
        try:
            return self.post("/prompt", body)["prompt_id"]
        except urllib.error.HTTPError as error:
            raise Failed(error.read().decode()) from error

    def wait(self, prompt_id: str, seconds: float = 300) -> dict[str, Any]:
        """The history of a finished prompt."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} did not finish in {seconds} s")

    def _finish(self, prompt: dict[str, Any], seconds: float) -> dict[str, Any]:
        entry = self.wait(self.queue(prompt), seconds)
        for kind, message in entry["status"]["messages"]:
            if kind == "execution_error":
                raise Failed(message["exception_message"])
            if kind == "execution_interrupted":
                raise Failed("interrupted")
        return entry

    def run(self, prompt: dict[str, Any], seconds: float = 300) -> dict[str, Any]:
        """Outputs by node id; Failed with the node's message where one fails."""
        return self._finish(prompt, seconds)["outputs"]

    def wait_until_idle(self) -> None:
        """Return when nothing runs or waits any more."""
        while self.get("/prompt")["exec_info"]["queue_remaining"]:
            time.sleep(0.1)

    @contextlib.contextmanager
    def listen(self, client: str) -> Iterator[Socket]:
        """A websocket that hears what the server tells the browser tab ``client``."""
        found = Socket(self.port, f"/ws?clientId={client}")
        try:
            yield found
        finally:
            found.close()

    def ran(self, prompt: dict[str, Any]) -> set[str]:
        """Ids of the nodes that were executed, not taken from the cache."""
        entry = self._finish(prompt, 300)
        cached: set[str] = set()
        for kind, message in entry["status"]["messages"]:
            if kind == "execution_cached":
                cached |= set(message["nodes"])
        return set(prompt) - cached
