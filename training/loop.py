"""What both trainings share: Muon, moving average, a time budget, checkpoints and a log."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn


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
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def optimisers(
    matrices: list[nn.Parameter], rest: list[nn.Parameter], lr_muon: float, lr_adam: float
) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices, AdamW for what is left; ``peak`` keeps the full rate."""
    result: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=lr_muon, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=lr_adam, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimiser in result:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return result


class Run:
    """A training that lasts ``minutes`` of its own time, over any number of interruptions.

    The learning rate follows the time used, so that the schedule ends when the budget does on a
    machine of any speed. ``runs/<name>.pt`` holds the state, ``runs/<name>.log.jsonl`` the log.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        minutes: float,
        model: nn.Module,
        optimisers: list[torch.optim.Optimizer],
        ema_decay: float = 0.998,
    ):
        self.path, self.log_path = folder / f"{name}.pt", folder / f"{name}.log.jsonl"
        self.model, self.optimisers, self.ema_decay = model, optimisers, ema_decay
        self.budget, self.used, self.step = minutes * 60, 0.0, 0
        self.ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.generator = torch.Generator().manual_seed(0)
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            saved = torch.load(self.path, weights_only=True)
            model.load_state_dict(saved["model"])
            self.ema, self.used, self.step = saved["ema"], saved["used"], saved["step"]
            for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
            self.generator.set_state(saved["generator"])
            print(f"{name}: resumed at step {self.step}, {self.used / 60:.1f} min", flush=True)
        self._mark = time.perf_counter()

    @property
    def progress(self) -> float:
        """Part of the time budget that is used, 0 to 1."""
        return min(1.0, self.used / self.budget)

    def schedule(self) -> None:
        """Warm up over 50 steps, hold, then a cosine to nothing over the last 70 % of the time."""
        fall = max(0.0, (self.progress - 0.3) / 0.7)
        factor = min(1.0, (self.step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * fall))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor

    def update(self) -> None:
        """Clip, step the optimisers, update the moving average and the clock."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.schedule()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(self.ema_decay, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            for key, value in self.model.state_dict().items():
                self.ema[key].lerp_(value, 1 - decay)
        now = time.perf_counter()
        self.used, self._mark = self.used + now - self._mark, now
        self.step += 1

    def pause(self) -> None:
        """Leave the time since the last update out of the budget (evaluation, saving)."""
        self._mark = time.perf_counter()

    def save(self) -> None:
        """Write the state so that a killed process never leaves a broken file."""
        part = self.path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "ema": self.ema,
                "used": self.used,
                "step": self.step,
                "optimisers": [o.state_dict() for o in self.optimisers],
                "generator": self.generator.get_state(),
            },
            part,
        )
        part.replace(self.path)

    def log(self, **values: float) -> None:
        """Append a line to the log and print it with the time left."""
        line = {"step": self.step, "minutes": round(self.used / 60, 2)} | {
            k: round(v, 4) for k, v in values.items()
        }
        with self.log_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        left = max(0.0, self.budget - self.used) / 60
        print(" ".join(f"{k}={v}" for k, v in line.items()), f"left={left:.1f}min", flush=True)
