"""The engine that is one or more ComfyUI servers, which have this pack: they are sent photos and
graphs of Restore Photo over their own API. A server that stops answering loses nothing."""

from __future__ import annotations

import io
import json
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain
from typing import Any
from uuid import uuid4

from ...restoration import images
from ..ahead import Feed
from ..work import Task, finished, sentence
from . import Console, Graph, Job, Outcome

AT_ONCE = 2
"""Photos that a server has: one is restored while the other is sent or fetched."""
TRIES = 3
"""Times that a server may stop answering while it has a photo, until the photo is set aside."""
PATIENCE = 60.0
"""Seconds to wait while no server answers."""
SECONDS = 30.0
"""Longest wait for an answer."""
PAUSE = 0.2
"""Seconds between two questions."""


class Gone(Exception):
    """The server does not answer, or has forgotten a photo."""


class Refused(Exception):
    """The server says no, in the words of the exception."""


class Server:
    """A ComfyUI server."""

    def __init__(self, url: str):
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.answered = time.monotonic()

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """The answer to a GET, or with ``body`` to a POST."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                found = answer.read()
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise Gone(f"HTTP {error.code}") from error
            raise Refused(_reason(error)) from error
        except (OSError, ValueError, EOFError) as error:
            raise Gone(str(getattr(error, "reason", error))) from error
        except Exception as error:  # http.client has a tree of its own.
            raise Gone(str(error) or type(error).__name__) from error
        self.answered = time.monotonic()
        return found

    def told(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of the answer."""
        sent = None if body is None else json.dumps(body).encode()
        return json.loads(self.ask(path, sent) or b"null")

    def upload(self, name: str, content: bytes) -> None:
        """Put a picture among the server's temporary files."""
        mark = uuid4().hex
        parts = [("type", b"temp"), ("overwrite", b"true"), ("image", content)]
        lines = []
        for key, value in parts:
            file = f'; filename="{name}"' if key == "image" else ""
            head = f'--{mark}\r\nContent-Disposition: form-data; name="{key}"{file}\r\n\r\n'
            lines += [head.encode(), value, b"\r\n"]
        body = b"".join(lines) + f"--{mark}--\r\n".encode()
        self.ask("/upload/image", body, f"multipart/form-data; boundary={mark}")

    def check(self, model: str) -> None:
        """ValueError, in one sentence, where the pack or the model is missing."""
        nodes: dict[str, Any] = {}
        for kind in ("FlowDPS_RestorePhoto", "FlowDPS_LoadFlowPrior"):
            nodes |= self.told(f"/object_info/{kind}") or {}
        if len(nodes) < 2:
            raise ValueError(
                f"{self.url} has no node Restore Photo: install ComfyUI-FlowDPS there, and restart"
                " it"
            )
        kind, *more = nodes["FlowDPS_LoadFlowPrior"]["input"]["required"]["checkpoint"]
        known = kind if isinstance(kind, list) else more[0]["options"]
        if model not in known:
            raise ValueError(
                f"{self.url} has no checkpoint {model!r}; expected one of {', '.join(known)}"
            )

    def outputs(self, prompt: dict[str, Any], stopped: Callable[[], bool]) -> dict[str, Any]:
        """The outputs of all nodes of a prompt, by their ids. Gone, too, once ``stopped``."""
        id = self.told("/prompt", {"prompt": prompt, "client_id": uuid4().hex})["prompt_id"]
        while True:
            # Whether it waits is asked first: else it might end between the two questions.
            waiting = self.told("/queue")
            entry = self.told(f"/history/{id}").get(id)
            if entry is not None:
                break
            if not any(id in row for rows in waiting.values() for row in rows):
                raise Gone("it has forgotten the photo")
            if stopped():
                self.told("/queue", {"delete": [id]})
                raise Gone("the run ends")
            time.sleep(PAUSE)
        for kind, message in entry.get("status", {}).get("messages", []):
            if kind == "execution_error":
                raise Refused(str(message["exception_message"]).strip())
            if kind == "execution_interrupted":
                raise Refused("cancelled on the server")
        return entry["outputs"]

    def picture(self, entry: dict[str, str]) -> bytes:
        """The file of a picture among the outputs."""
        return self.ask(f"/view?{urllib.parse.urlencode(entry)}")


def prompt_of(graph: Graph, picture: str) -> dict[str, Any]:
    """The prompt that restores a temporary picture, in ComfyUI's API format: node 3 restores, and
    node 4 shows the result."""

    def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    prompt = {
        "1": node("LoadImage", image=f"{picture} [temp]"),
        "2": node("FlowDPS_LoadFlowPrior", checkpoint=graph.model, shift=4.0),
        "3": node(
            "FlowDPS_RestorePhoto", image=["1", 0], model=["2", 0], vae=["2", 2], **graph.values
        ),
        "4": node("PreviewImage", images=["3", 0]),
    }
    if graph.prompt:
        prompt["5"] = node("CLIPTextEncode", clip=["2", 1], text=graph.prompt)
        prompt["3"]["inputs"]["prompt"] = ["5", 0]
    return prompt


class Servers:
    """Restores on ComfyUI servers. ValueError where no server is named."""

    def __init__(self, task: Task, graph: Graph, urls: Sequence[str]):
        if not urls:
            raise ValueError("--engine comfyui needs --server URL, such as http://127.0.0.1:8188")
        self.task, self.graph = task, graph
        self.servers = [Server(url) for url in dict.fromkeys(urls)]
        self._guard = threading.Lock()
        self._again: deque[Job] = deque()
        self._losses: dict[str, int] = {}
        self._open = 0
        self._error: Exception | None = None
        self._stop = threading.Event()

    def restored(self, jobs: Iterator[Job], console: Console) -> Generator[Outcome, None, None]:
        """See ``Engine``. Servers are asked once there is something to restore."""
        first = next(jobs, None)
        if first is None:
            return
        self._check(console)
        feed = Feed(chain([first], jobs), AT_ONCE)
        outcomes: queue.Queue[Outcome | str] = queue.Queue()
        for server in self.servers * AT_ONCE:
            threading.Thread(target=self._serve, args=(server, feed, outcomes), daemon=True).start()
        try:
            while True:
                with self._guard:
                    ended = feed.ended and not self._again and not self._open
                try:
                    found = outcomes.get(timeout=PAUSE)
                except queue.Empty:
                    if self._error is not None:
                        raise self._error from None
                    if ended:
                        return
                    self._be_patient()
                    continue
                if isinstance(found, str):
                    console.say(f"flowdps: {found}", error=True)
                else:
                    console.advance(1)
                    yield found
        finally:
            feed.close()
            self._stop.set()

    def _check(self, console: Console) -> None:
        """ValueError where the pack is missing, or no server answers."""
        gone = []
        for server in self.servers:
            try:
                server.check(self.graph.model)
            except (Gone, Refused) as error:
                gone.append(f"no ComfyUI answers at {server.url} ({error})")
        if len(gone) == len(self.servers):
            raise ValueError("; ".join(gone))
        for each in gone:
            console.say(f"flowdps: {each}; the others go on", error=True)

    def _be_patient(self) -> None:
        quiet = time.monotonic() - max(server.answered for server in self.servers)
        if quiet > PATIENCE + SECONDS:
            raise ValueError(
                f"no server has answered for {quiet:.0f} s; run it again to restore the remaining"
                " photos"
            )

    def _take(self, feed: Feed[Job]) -> Job | None:
        with self._guard:
            try:
                job = self._again.popleft() if self._again else feed.get(0)
            except (queue.Empty, StopIteration):
                return None
            self._open += 1
            return job

    def _serve(self, server: Server, feed: Feed[Job], outcomes: queue.Queue[Outcome | str]) -> None:
        """Restore on one server until the run ends."""
        while not self._stop.is_set():
            try:
                job = self._take(feed)
            except Exception as error:  # Of the run itself, which ends by it.
                self._error = error
                return
            if job is None:
                self._stop.wait(PAUSE)
                continue
            found: Outcome | None = None
            try:
                found = self._outcome(server, job)
            except Gone as error:
                if not self._stop.is_set():
                    outcomes.put(
                        f"{server.url} does not answer ({error}); {job.name} is done again"
                    )
                found = self._lost(job)
            except Exception as error:
                found = Outcome(job, problem=sentence(job.name, error))
            with self._guard:
                if found is None:
                    self._again.append(job)
                else:
                    outcomes.put(found)
                self._open -= 1
            while found is None and not self._stop.is_set() and not self._answers(server):
                self._stop.wait(1)

    def _lost(self, job: Job) -> Outcome | None:
        """What becomes of a photo that a server had when it stopped answering."""
        with self._guard:
            lost = self._losses[job.source] = self._losses.get(job.source, 0) + 1
        if lost < TRIES:
            return None
        problem = f"{job.name}: servers stopped answering {TRIES} times over it; it is set aside"
        return Outcome(job, problem=problem)

    def _answers(self, server: Server) -> bool:
        try:
            server.told("/queue")
        except (Gone, Refused):
            return False
        return True

    def _outcome(self, server: Server, job: Job) -> Outcome:
        """Restore one photo. Gone where the server does not answer."""
        photo = images.read(job.address, srgb=self.task.in_srgb, content=job.content)
        name = f"flowdps-{job.run}.png"
        try:
            server.upload(name, images.as_png(photo.pixels))
            outputs = server.outputs(prompt_of(self.graph, name), self._stop.is_set)
            content = server.picture(outputs["4"]["images"][0])
        except Refused as error:
            return Outcome(job, problem=f"{job.name}: {' '.join(str(error).split())}")
        restored = images.read(name, 1, content=content).pixels
        report = outputs["3"]["text"][0].split("\n")
        to_srgb = photo.to_srgb
        given, restored = (images.in_srgb(x, to_srgb) for x in (photo.pixels, restored))
        columns = [("measurement", given), (self.task.request.method, restored)]
        notes = [*photo.notes, *(["results converted to sRGB"] if to_srgb else [])]
        record = {
            **self.task.record,
            "height": restored.shape[2],
            "width": restored.shape[3],
            "server": server.url,
            "notes": [*report, *notes],
        }
        pictures = {"sheet": images.sheet(columns), "measurement": given, "restored": restored}
        return finished(job, pictures, record, report, [*report, *notes])


def _reason(error: urllib.error.HTTPError) -> str:
    """Why a server refuses: what ComfyUI's validation says, else the code."""
    try:
        told = json.load(io.BytesIO(error.read()))
        details = [
            f"{each['message']}: {each['details']}"
            for node in (told.get("node_errors") or {}).values()
            for each in node["errors"]
        ]
        return "; ".join(details) or str(told["error"]["message"])
    except Exception:
        return f"HTTP {error.code}"
