"""A running ComfyUI under attack: cancels at random instants, faults, workflows with odd values.

``python -m comfyui_flowdps.benchmarks.attack --host FOLDER`` runs it in the ComfyUI of FOLDER, with
folders of its own for models and pictures. After every group of runs the queue works, the models
are as they came, and a picture made before is made again, to the bit.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

from . import comfyui, files
from .graphs import DEMO, Problem, demo, told, value
from .test_sampling import NAMES

API = Path(__file__).with_name("api")
FAULTS = [
    *((where, "memory") for where in ("transformer", "decoder", "encoder")),
    ("patch", "raise"),
    *((where, "nan") for where in ("transformer", "decoder", "encoder")),
]
SECONDS = 600.0


class Campaign:
    """Runs against one server; ``broken`` lists what did not hold."""

    def __init__(self, server: comfyui.Server, seed: int):
        self.server, self.random, self.seed = server, Random(seed), 1000
        self.counted: Counter[str] = Counter()
        self.broken: list[str] = []
        self.checks = 0
        self.want, self.models = self._reference(), self._fingerprint()

    def _reference(self) -> torch.Tensor:
        self.checks += 1
        problem, name = demo(), f"reference{self.checks}"
        problem.prompt.record(problem.sampler("FlowDPS", steps=2, seed=7)[1], name)
        self.server.run(problem.prompt, SECONDS)
        return value(self.server, name)

    def _fingerprint(self) -> Any:
        problem = demo()
        node = problem.prompt.test("Attributes", model=problem.model, vae=problem.vae)
        return told(self.server.run(problem.prompt, SECONDS), node)

    def check(self, after: str) -> None:
        """The law after a group of runs."""
        try:
            if not torch.equal(self._reference(), self.want):
                self.broken.append(f"after {after}: the next picture is another one")
            found = self._fingerprint()
            if self.models is not None and found != self.models:
                self.broken.append(f"after {after}: the models are not as they came: {found}")
        except Exception as error:
            self.broken.append(f"after {after}: {type(error).__name__}: {error}")
        if self.server.process.poll() is not None:
            raise RuntimeError(f"after {after}: the server has ended")

    def _problem(self, method: str) -> Problem:
        """A run that nothing has made before, and so is not taken from the cache."""
        self.seed += 1
        problem = demo()
        if method == "RestorePhoto":
            picture = problem.prompt.add("LoadImage", image="odd.png")
            given = {"wrong": "grainy", "strength": "as found", "invent": 0.5, "enlarge": 1}
            given |= {"effort": "normal", "seed": self.seed}
            given |= {"model": problem.model, "vae": problem.vae, "image": picture[0]}
            node = problem.prompt.ours("RestorePhoto", **given)
            problem.prompt.record(node[0], "cancelled")
        else:
            node = problem.sampler(method, steps=4, seed=self.seed)
            problem.prompt.record(node[1], "cancelled")
        return problem

    def _ended(self, prompt_id: str) -> str:
        """How a prompt ended: success, interrupted, or the error that the user is shown."""
        entry = self.server.wait(prompt_id, SECONDS)
        for kind, message in entry["status"]["messages"]:
            if kind == "execution_interrupted":
                return "interrupted"
            if kind == "execution_error":
                return f"{message['exception_type'].split('.')[-1]}: {message['exception_message']}"
        return "success"

    def cancels(self, count: int) -> None:
        """Cancel ``count`` runs at random instants; those that ended before are counted apart."""
        methods = [*NAMES, "RestorePhoto"]
        times: dict[str, float] = {}
        k = -1
        while self.counted["cancel: interrupted"] < count and k < 4 * count:
            k += 1
            method = methods[k % len(methods)]
            problem, began = self._problem(method), time.monotonic()
            prompt_id = self.server.queue(problem.prompt)
            if method in times:
                time.sleep(self.random.random() * times[method])
                self.server.post("/interrupt", {})
            how = self._ended(prompt_id)
            if method not in times:
                times[method] = time.monotonic() - began
                continue
            self.counted[f"cancel: {how}"] += 1
            if how not in ("interrupted", "success"):
                self.broken.append(f"cancel {k} of {method}: {how}")
            if k % 20 == 19:
                self.check(f"cancel {k}")
        self.check("all cancels")

    def faults(self) -> None:
        """Every fault in a run of every kind: the user is told, and all goes on."""
        for where, how in FAULTS:
            for method in ("FlowDPS", "Refine"):
                problem = self._problem(method)
                for node in problem.prompt.values():
                    if node["class_type"].endswith("Sampler"):
                        given = {"model": problem.model, "vae": problem.vae}
                        fault = problem.prompt.test("Fault", where=where, how=how, at=2, **given)
                        node["inputs"] |= {"model": fault[0], "vae": fault[1]}
                        break
                told = self._ended(self.server.queue(problem.prompt))
                self.counted[f"{where}, {how}: {told.splitlines()[0][:90]}"] += 1
            self.check(f"{where}, {how}")

    def previews(self) -> None:
        """The browser that watches goes away in the middle of a run."""
        for k in range(5):
            problem = self._problem(NAMES[k % len(NAMES)])
            client = f"gone-{k}"
            with self.server.listen(client) as socket:
                prompt_id = self.server.queue(problem.prompt, client)
                for _ in range(self.random.randrange(1, 12)):
                    socket.receive()
            how = self._ended(prompt_id)
            self.counted[f"killed preview: {how}"] += 1
            if how != "success":
                self.broken.append(f"killed preview {k}: {how}")
        self.check("killed previews")

    def vanished(self) -> None:
        """Files go while their prompt waits in the queue."""
        base = self.server.base
        gone = {"jpeg": base / "input" / "gone.jpg", "picture": base / "input" / "gone.png"}
        gone["model"] = base / "models" / "checkpoints" / "gone.safetensors"
        for kind, file in gone.items():
            if kind == "model":
                file.write_bytes((file.parent / "tiny.safetensors").read_bytes())
            else:
                Image.new("RGB", (64, 64), "grey").save(file)
            self.server.queue(self._problem("FlowDPS").prompt)
            problem = demo()
            if kind == "jpeg":
                shown = problem.prompt.ours("ReadJpeg", file=file.name)[0]
            elif kind == "picture":
                shown = problem.prompt.add("LoadImage", image=file.name)[0]
            else:
                prior = problem.prompt.ours("LoadFlowPrior", checkpoint=file.name, shift=4.0)
                shown = problem.prompt.add(
                    "VAEDecode", samples=problem.measurement[2], vae=prior[2]
                )
                shown = shown[0]
            problem.prompt.record(shown, "never")
            prompt_id = self.server.queue(problem.prompt)
            file.unlink()
            how = self._ended(prompt_id)
            self.counted[f"vanished {kind}: {how.splitlines()[0][:90]}"] += 1
            if how == "success":
                self.broken.append(f"vanished {kind}: the run succeeded")
            self.check(f"vanished {kind}")

    def paths(self) -> None:
        """Read JPEG opens nothing outside the host's folders."""
        base = self.server.base
        Image.new("RGB", (32, 32), "grey").save(base / "secret.jpg")
        names = ["../secret.jpg", str(base / "secret.jpg"), "../secret.jpg [output]", "a\0.jpg", ""]
        names += ["..", ".", "/etc/passwd", "x/../../secret.jpg", "..\\secret.jpg", "x" * 300]
        for name in names:
            problem = demo()
            problem.prompt.record(problem.prompt.ours("ReadJpeg", file=name)[0], "never")
            try:
                how = self._ended(self.server.queue(problem.prompt))
            except comfyui.Failed:
                how = "refused"
            self.counted[f"path: {how.split(':')[0]}"] += 1
            if "never" in {f.stem for f in (base / "output").glob("never*")}:
                self.broken.append(f"Read JPEG opened {name!r}")
        self.check("paths")

    def workflows(self, count: int) -> None:
        """The pack's own workflows with one or two odd values."""
        odd = [
            None,
            True,
            "",
            "x",
            "../x",
            -1,
            0,
            1,
            2**31,
            2**63,
            10**30,
            0.5,
            1e308,
            "nan",
            "inf",
        ]
        odd += [[], {}, ["1", 0], ["1", 99], ["999", 0], [[]], "symmetric", 1e-300, -0.0]
        shipped = sorted(API.glob("demo_*.json"))
        for k in range(count):
            prompt = json.loads(self.random.choice(shipped).read_text(encoding="utf-8"))
            nodes = [n for n in prompt.values() if n["class_type"].startswith("FlowDPS_")]
            changed = []
            for node in self.random.sample(nodes, min(len(nodes), self.random.randint(1, 2))):
                if node["inputs"]:
                    name = self.random.choice(sorted(node["inputs"]))
                    node["inputs"][name] = self.random.choice(odd)
                    changed.append(f"{node['class_type']}.{name}={node['inputs'][name]!r}"[:80])
            try:
                prompt_id = self.server.queue(prompt)
            except comfyui.Failed:
                self.counted["workflow: refused before it runs"] += 1
                continue
            until = time.monotonic() + 45
            while prompt_id not in self.server.get(f"/history/{prompt_id}"):
                if time.monotonic() > until:
                    self.server.post("/interrupt", {})
                time.sleep(0.2)
            how = self._ended(prompt_id)
            kind, _, said = how.partition(": ")
            self.counted[f"workflow: {kind}"] += 1
            if kind not in ("success", "interrupted", "ValueError") or "\n" in said.strip():
                self.broken.append(f"workflow {k} ({'; '.join(changed)}): {how[:200]}")
        self.models = None  # Other workflows made the host load them anew.
        self.check("workflows")


def run(folder: str, cancels: int, workflows: int, seed: int) -> int:
    """The whole campaign in the ComfyUI of ``folder``; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="attack-") as place:
        base = Path(place)
        files.pictures(base / "input", comfyui.ROOT / "benchmarks" / "pictures" / "test")
        files.models(base / "models")
        (base / "output").mkdir()
        packs = {"ComfyUI-FlowDPS": comfyui.ROOT, "flowdps-tests": Path(__file__).parent / "pack"}
        host = Path(folder).expanduser()
        print(f"ComfyUI {comfyui.version(host)}, seed {seed}, {DEMO}", flush=True)
        server = comfyui.Server(host, base, packs)
        began = time.monotonic()
        try:
            campaign = Campaign(server, seed)
            parts = (
                campaign.faults,
                campaign.previews,
                campaign.vanished,
                campaign.paths,
                lambda: campaign.cancels(cancels),
                lambda: campaign.workflows(workflows),
            )
            for part in parts:
                part()
                for name in sorted(campaign.counted):
                    print(f"{campaign.counted[name]:>5}  {name}", flush=True)
                campaign.counted.clear()
                print(f"       after {math.ceil(time.monotonic() - began)} s", flush=True)
        finally:
            server.stop()
    for each in campaign.broken:
        print(f"broken: {each}")
    print(f"{campaign.checks} pictures compared, {len(campaign.broken)} broke the law")
    return 1 if campaign.broken else 0
