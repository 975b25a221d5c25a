"""What all trainings share: Muon, a moving average, a plan of steps, checkpoints and a log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

WARM_UP = 50
"""Steps over which the learning rate rises."""
PACE = (3, 13)
"""A run of so many minutes is planned from the time that these steps took."""


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz (Jordan et al. 2024) for matrices and convolutions.

    ``torch.optim.Muon`` takes matrices only; here a kernel (O, I, h, w) is treated as (O, I h w).
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]).flatten(1)
                rows, columns = update.shape
                update = orthogonalise(update) * math.sqrt(max(1.0, rows / columns))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view_as(p).to(p.dtype), alpha=-group["lr"])


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix to ``matrix`` (R, C), up to the usual 0.7..1.2 spread."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def optimisers(
    matrices: list[nn.Parameter],
    rest: list[nn.Parameter],
    lr_muon: float,
    lr_adam: float,
    decay: float = 0.01,
) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices, AdamW for what is left; ``peak`` keeps the full rate."""
    result: list[torch.optim.Optimizer] = []
    if matrices:
        result.append(Muon(matrices, lr=lr_muon, weight_decay=decay))
    result.append(torch.optim.AdamW(rest, lr=lr_adam, betas=(0.9, 0.98), weight_decay=0.0))
    for optimiser in result:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return result


class Run:
    """A training of a planned number of steps, over any number of interruptions.

    The plan is ``steps``, or as many as fit in ``minutes`` at the pace of the first ones; it is
    stored, so that a run that was stopped and one that was not give the same weights, bit for bit.
    Another value of the same argument changes the plan of a stored run. The learning rate rises,
    stays, and falls by a cosine over the last part ``cooldown`` of the plan: until then a plan can
    be lengthened as if it had always been so.

    ``<folder>/<name>.pt`` holds the state, ``<folder>/<name>.log.jsonl`` the log. All that a
    training draws at random comes from ``generator``.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        model: nn.Module,
        optimisers: list[torch.optim.Optimizer],
        *,
        steps: int | None = None,
        minutes: float | None = None,
        ema_decay: float = 0.998,
        cooldown: float = 0.7,
    ):
        if (steps is None) == (minutes is None):
            raise ValueError(f"give steps or minutes, one of the two; got {steps} and {minutes}")
        self.name = name
        self.path, self.log_path = folder / f"{name}.pt", folder / f"{name}.log.jsonl"
        self.model, self.optimisers = model, optimisers
        self.ema_decay, self.cooldown = ema_decay, cooldown
        self.steps, self.minutes = steps, minutes
        self.step, self.seconds = 0, 0.0
        self.pace = 0.0
        """Seconds per step, measured at the beginning of the run."""
        self.ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.generator = torch.Generator().manual_seed(0)
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._resume(torch.load(self.path, weights_only=True, map_location="cpu"))
        self._mark = time.perf_counter()
        self._start = (self.step, self.seconds)

    def _resume(self, saved: dict) -> None:
        self.model.load_state_dict(saved["model"])
        for key, value in saved["ema"].items():
            self.ema[key].copy_(value)
        self.step, self.seconds, self.pace = saved["step"], saved["seconds"], saved["pace"]
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.generator.set_state(saved["generator"])
        if self.minutes is not None and self.minutes == saved["minutes"]:
            self.steps = saved["steps"]
        elif self.minutes is not None and self.pace:
            self.steps = self.step + round((self.minutes * 60 - self.seconds) / self.pace)
        print(f"{self.name}: resumed at step {self.step}, {self.seconds / 60:.1f} min", flush=True)

    @property
    def progress(self) -> float:
        """Part of the plan that is done, 0 to 1; 0 before there is a plan."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    @property
    def finished(self) -> bool:
        return self.steps is not None and self.step >= self.steps

    @property
    def minutes_left(self) -> float:
        """What the rest of the plan takes at the pace since this process started."""
        done = self.step - self._start[0]
        pace = (self.seconds - self._start[1]) / done if done else self.pace
        return max(0, (self.steps or 0) - self.step) * pace / 60

    def rate(self) -> float:
        """Factor of the learning rate at this step."""
        fall = max(0.0, (self.progress - 1 + self.cooldown) / self.cooldown) if self.cooldown else 0
        return min(1.0, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * fall))

    def update(self) -> None:
        """Clip, step the optimisers, update the moving average, the clock and the plan."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        factor = self.rate()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(self.ema_decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for key, value in self.model.state_dict().items():
                self.ema[key].lerp_(value, 1 - decay)
        now = time.perf_counter()
        self.seconds, self._mark = self.seconds + now - self._mark, now
        self.step += 1
        self._plan()

    def _plan(self) -> None:
        first, last = PACE
        if self.step == first:
            self.pace = -self.seconds
        if self.step == last:
            self.pace = (self.pace + self.seconds) / (last - first)
            if self.minutes is not None:
                self.steps = max(last, round(self.minutes * 60 / self.pace))
            print(
                f"{self.name}: {self.steps} steps of {self.pace:.2f} s,"
                f" {(self.steps or 0) * self.pace / 60:.0f} minutes",
                flush=True,
            )

    def pause(self) -> None:
        """Leave the time since the last update out of the count (evaluation, saving)."""
        self._mark = time.perf_counter()

    def save(self, **more: object) -> None:
        """Write the state so that a killed process never leaves a broken file."""
        part = self.path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "ema": self.ema,
                "step": self.step,
                "seconds": self.seconds,
                "pace": self.pace,
                "steps": self.steps,
                "minutes": self.minutes,
                "optimisers": [o.state_dict() for o in self.optimisers],
                "generator": self.generator.get_state(),
                **more,
            },
            part,
        )
        part.replace(self.path)

    def log(self, **values: float | Mapping[str, float]) -> None:
        """Append a line to the log and print it with the time left."""

        def short(value):
            if isinstance(value, Mapping):
                return {k: round(v, 4) for k, v in value.items()}
            return round(value, 4)

        line = {"step": self.step, "minutes": round(self.seconds / 60, 2)} | {
            key: short(value) for key, value in values.items()
        }
        with self.log_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        left = f"left={self.minutes_left:.1f}min"
        print(" ".join(f"{k}={v}" for k, v in line.items()), left, flush=True)
