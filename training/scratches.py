"""Train the small networks of Find Scratches on photographs over which damage is drawn.

``python -m comfyui_flowdps.training.scratches FOLDER ... [--exclude PATTERN]`` writes
estimation/scratches.safetensors. 300 photos take a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ..estimation import dust
from ..estimation.ridges import sample
from ..estimation.scratches import (
    DUST,
    JUDGES,
    UNLIKELY,
    Line,
    Weights,
    find_lines,
    judged,
    link,
    pyramid,
    with_size,
)
from .photos import SUFFIXES
from .scratches_data import Damaged, crop, damage

HIDDEN = 16
STEPS = 3000
BATCH = 4096
RATE = 0.006
HELD_OUT = 0.1
"""Part of the photos by which the networks are measured only."""
VISIBLE = 0.03
"""Change of brightness, of 2 in all, from which on damage must be found."""

Examples = tuple[Tensor, Tensor]
"""Features (N, K), and 1 for damage, 0 for none, -1 for what does not count: (N,)."""


def _near(mask: Tensor, reach: int) -> Tensor:
    return F.max_pool2d(mask[None], 2 * reach + 1, 1, reach)[0]


def _of_lines(photo: Damaged, line: Line, level: int) -> Tensor:
    """For every point of ``line`` whether it is on a scratch and goes along it."""
    at = line.at * 2**level + level
    along = torch.arange(-6, 7) * 2**level
    on = sample(_near(photo.mask, 1)[None], at, line.angle, along, torch.zeros(1))[0, ..., 0]
    around = _near(torch.maximum(photo.mask, photo.dust), 3)[at[:, 0], at[:, 1]]
    visible = _near(photo.change, 1)[at[:, 0], at[:, 1]] > VISIBLE
    label = torch.full((len(at),), -1.0)
    label[around == 0] = 0
    label[(on.mean(1) > 0.7) & visible] = 1
    return label


def _of_dust(photo: Damaged, at: Tensor, level: int) -> Tensor:
    at = at * 2**level + level
    around = _near(torch.maximum(photo.mask, photo.dust), 3)[at[:, 0], at[:, 1]]
    label = torch.full((len(at),), -1.0)
    label[around == 0] = 0
    label[_near(photo.dust, 1)[at[:, 0], at[:, 1]] > 0] = 1
    return label


def fit(features: Tensor, label: Tensor, generator: torch.Generator) -> Weights:
    """A network of one hidden layer for the odds of label 1."""
    counts = label >= 0
    features, label = features[counts], label[counts]
    mean, std = features.mean(0), features.std(0) + 1e-3
    count = features.shape[1]
    inner = torch.randn(HIDDEN, count, generator=generator) / count**0.5
    outer = torch.randn(1, HIDDEN, generator=generator) / HIDDEN**0.5
    values = [inner, torch.zeros(HIDDEN), outer, torch.zeros(1)]
    values = [value.requires_grad_() for value in values]
    optimiser = torch.optim.Adam(values, RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        some = torch.randint(len(features), (BATCH,), generator=generator)
        hidden = torch.relu(F.linear((features[some] - mean) / std, values[0], values[1]))
        odds = F.linear(hidden, values[2], values[3])[:, 0]
        loss = F.binary_cross_entropy_with_logits(odds, label[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    inner, inner_bias, outer, outer_bias = (value.detach() for value in values)
    inner = inner / std
    return {
        "in": inner.contiguous(),
        "in_bias": inner_bias - inner @ mean,
        "out": outer,
        "out_bias": outer_bias,
    }


def precision(odds: Tensor, label: Tensor, recall: float) -> float:
    """The precision at a given recall."""
    counts = label >= 0
    right = label[counts][odds[counts].argsort(descending=True)]
    found = right.cumsum(0)
    at = int((found >= recall * right.sum()).nonzero()[0])
    return float(found[at] / (at + 1))


def _pictures(folders: list[Path], exclude: list[str], limit: int) -> list[Path]:
    """As many pictures of every folder, in an order drawn from a fixed seed."""
    chosen = []
    for folder in folders:
        files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in SUFFIXES]
        files = [file for file in files if not any(file.match(pattern) for pattern in exclude)]
        random.Random(0).shuffle(files)
        chosen += files[: limit // len(folders)]
    random.Random(0).shuffle(chosen)
    return chosen


def train(files: list[Path]) -> Weights:
    """The weights of all networks, trained on two pictures or more; says how good they are."""
    generator = torch.Generator().manual_seed(0)
    table: Weights = {}
    groups: list[tuple[list[Line], list[torch.Size]]] = []
    labels: list[list[Tensor]] = []
    spots: list[Examples] = []
    owners = []
    for seed, file in enumerate(files):
        photo = damage(crop(file, torch.Generator().manual_seed(seed)), seed)
        levels = pyramid(photo.photo[None])
        both = [find_lines(each, level > 0) for level, each in enumerate(levels)]
        for k, sign in enumerate((1.0, -1.0)):
            lines = [each[k] for each in both]
            groups.append((lines, [each.shape[1:] for each in levels]))
            labels.append([_of_lines(photo, line, level) for level, line in enumerate(lines)])
            seen, told = [], []
            for level, each in enumerate(levels):
                found = dust.find_spots(sign * each, slice(0, each.shape[1]))
                seen.append(with_size(found.features, level > 0))
                told.append(_of_dust(photo, found.at, level))
            spots.append((torch.cat(seen), torch.cat(told)))
            owners.append(seed)
        if seed % 20 == 0:
            print(f"{seed} of {len(files)} photos", flush=True)
    first = min(len(files) - 1, round(len(files) * (1 - HELD_OUT)))

    def learn(name: str, examples: list[Examples]) -> None:
        train, test = (
            [torch.cat(parts) for parts in zip(*chosen, strict=True)]
            for chosen in (
                [e for e, owner in zip(examples, owners, strict=True) if owner < first],
                [e for e, owner in zip(examples, owners, strict=True) if owner >= first],
            )
        )
        fitted = fit(train[0], train[1], generator)
        table.update({f"{name}.{key}": value for key, value in fitted.items()})
        odds = judged(name, test[0], table)
        told = [f"{precision(odds, test[1], part):.1%} at {part:.0%}" for part in (0.5, 0.7, 0.9)]
        print(f"{name}: precision {', '.join(told)} of those that it was asked", flush=True)

    learn(DUST, spots)
    for name in JUDGES:
        if name != JUDGES[0]:
            with torch.no_grad():
                for k, (lines, sizes) in enumerate(groups):
                    likely = [line.odds > UNLIKELY for line in lines]
                    labels[k] = [label[kept] for label, kept in zip(labels[k], likely, strict=True)]
                    groups[k] = (link(lines, sizes), sizes)
        learn(
            name,
            [
                (torch.cat([line.features for line in lines]), torch.cat(label))
                for (lines, _), label in zip(groups, labels, strict=True)
            ],
        )
        known = table[f"{JUDGES[0]}.in"].shape[1]
        for lines, _ in groups:
            for line in lines:
                line.odds = judged(name, line.features, table)
                line.features = line.features[:, :known]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("folders", nargs="+", type=Path, help="of photographs without scratches")
    add("--exclude", action="append", default=[], help="pattern of names; can be repeated")
    add("--limit", type=int, default=300, help="of photographs, as many from every folder")
    add("--out", type=Path, default=Path("scratches.safetensors"))
    args = parser.parse_args()
    save_file(train(_pictures(args.folders, args.exclude, args.limit)), args.out)


if __name__ == "__main__":
    main()
