"""Results of the benchmark, and the tables that it makes from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..operators import Measurement
from ..restoration import metrics

FIT, UNPOLISHED = "latent fit, no flow", "flowdps, not polished"
UNFLOWN, BLIND = "refine, no flow", "{}, blind"
NOTICED = 0.1
"""Smallest difference in decibels that counts as one."""
CLASSICAL = ("bicubic", "degraded", "Wiener", "total variation")


@dataclass
class Result:
    """One method on one task: the measured numbers of every picture."""

    task: str
    method: str
    psnr: list[float]
    ssim: list[float]
    residual: list[float]
    seconds: float
    decoder: int
    transformer: int
    chosen: str = ""
    setting: str = ""
    flip: list[float] = field(default_factory=list)
    """Empty where FLIP is not installed."""

    def same(self, other: Result) -> bool:
        """Whether both have the same task, method and settings."""
        keys = ("task", "method", "chosen", "setting")
        return all(getattr(self, k) == getattr(other, k) for k in keys)


def score(
    task: str,
    method: str,
    x: Tensor,
    restored: Tensor,
    measurement: Measurement,
    flip: Callable[[Tensor, Tensor], float] | None = None,
    **work,
) -> Result:
    """Compare every picture of ``restored`` (N, 3, H, W) with the clean ``x``; ``flip``: as in
    ``flip_of``."""
    rows = range(len(x))
    seen = [flip(restored[k : k + 1], x[k : k + 1]) for k in rows] if flip else []
    return Result(
        task,
        method,
        psnrs(restored, x),
        [metrics.ssim(restored[k : k + 1], x[k : k + 1]) for k in rows],
        measurement.residual_ratio(restored).tolist(),
        flip=seen,
        **work,
    )


def psnrs(restored: Tensor, x: Tensor) -> list[float]:
    """PSNR in dB of every picture of ``restored`` (N, 3, H, W), given the clean ``x``."""
    return [metrics.psnr(r[None], c[None]) for r, c in zip(restored, x, strict=True)]


def mean_psnr(restored: Tensor, x: Tensor) -> float:
    """Mean PSNR in dB."""
    return mean(psnrs(restored, x))


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def interval(differences: list[float]) -> tuple[float, float]:
    """Mean of paired differences and the half-width of its 95 % interval (Student's t)."""
    from scipy.stats import t

    values = torch.tensor(differences, dtype=torch.float64)
    if len(values) < 2:
        return float(values.mean()), math.nan
    half = t.ppf(0.975, len(values) - 1) * values.std() / math.sqrt(len(values))
    return float(values.mean()), float(half)


def _flip(r: Result) -> str:
    return f"{mean(r.flip):.3f}" if r.flip else "–"


def table(results: list[Result], own: str = "flowdps") -> str:
    """Markdown: one row per task and method, and the paired lead of the method ``own`` over it.

    Over the latent fit, it is the lead of FlowDPS without the final correction in pixels.
    """
    lines = [
        "| task | method | PSNR, dB | SSIM | FLIP | residual / noise | s / image | decoder |"
        f" transformer | {own} leads by, dB |",
        f"{'|---' * 10}|",
    ]
    best = {(r.task, r.method): r for r in results}
    for r in results:
        lead = ""
        # The latent fit has no correction in pixels either.
        against = best.get((r.task, UNPOLISHED if r.method == FIT and own == "flowdps" else own))
        if against and r.method != own:
            pairs = zip(against.psnr, r.psnr, strict=True)
            centre, half = interval([a - b for a, b in pairs])
            lead = f"{centre:+.2f} ± {half:.2f}"
        ratio = "–" if r.task == "any" else f"{mean(r.residual):.2f}"
        lines.append(
            f"| {r.task} | {r.method} | {mean(r.psnr):.2f} | {mean(r.ssim):.3f} | {_flip(r)} |"
            f" {ratio} | {r.seconds:.2f} | {r.decoder} | {r.transformer} | {lead} |"
        )
    return "\n".join(lines)


def summary(results: list[Result], own: str = "flowdps") -> str:
    """Markdown: one row per task, the method ``own`` beside the degraded picture and the best
    classical method.

    Leads are means of paired differences with their 95 % interval. "yes" is a lead over the best
    classical method beyond that interval and ``NOTICED``, "no" the opposite, and "level" neither;
    "not improved" is no such lead over the degraded picture.
    """
    lines = [
        f"| task | degraded | best classical | | {own} | lead over the degraded | over the best"
        f" | better | {own}, blind |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    seen_blind = BLIND.format(own)
    for task in dict.fromkeys(r.task for r in results):
        rows = {r.method: r for r in results if r.task == task}
        if (found := rows.get(own)) is None:
            continue
        seen = next(r for name, r in rows.items() if name in ("degraded", "bicubic"))
        best = max((r for name, r in rows.items() if name in CLASSICAL), key=lambda r: mean(r.psnr))
        leads = [
            interval([a - b for a, b in zip(found.psnr, other.psnr, strict=True)])
            for other in (seen, best)
        ]
        ahead, behind = (side * leads[1][0] > max(leads[1][1], NOTICED) for side in (1, -1))
        verdict = "yes" if ahead else "no" if behind else "level"
        if not leads[0][0] > max(leads[0][1], NOTICED):
            verdict = "not improved"
        blind = f"{mean(rows[seen_blind].psnr):.2f}" if seen_blind in rows else ""
        shown = (f"{c:+.2f} ± {h:.2f}" for c, h in leads)
        lines.append(
            f"| {task} | {mean(seen.psnr):.2f} | {mean(best.psnr):.2f} | {best.method} |"
            f" {mean(found.psnr):.2f} | {' | '.join(shown)} | {verdict} | {blind} |"
        )
    return "\n".join(lines)


def paired(results: list[Result], own: str = "flowdps") -> str:
    """Markdown: one row per task and other method, by how much the method ``own`` is better.

    Means of paired differences with their 95 % interval, positive where ``own`` is better: higher
    in PSNR and SSIM, lower in FLIP.
    """
    lines = [
        f"| task | {own} against | PSNR, dB | SSIM | FLIP |",
        "|---|---|---|---|---|",
    ]
    mine = {r.task: r for r in results if r.method == own}
    for r in results:
        if r.method == own or r.task not in mine:
            continue
        cells = []
        for name, sign, digits in (("psnr", 1, 2), ("ssim", 1, 4), ("flip", -1, 4)):
            ours, theirs = getattr(mine[r.task], name), getattr(r, name)
            cell = "–"
            if ours and theirs:
                pairs = zip(ours, theirs, strict=True)
                centre, half = interval([sign * (a - b) for a, b in pairs])
                cell = f"{centre:+.{digits}f} ± {half:.{digits}f}"
            cells.append(cell)
        lines.append(f"| {r.task} | {r.method} | {' | '.join(cells)} |")
    return "\n".join(lines)
