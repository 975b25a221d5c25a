"""Time and memory of the operators, compared with a dense SVD and with deepinv's operators.

``python -m comfyui_flowdps.benchmarks.operators [--sizes 768 2048] [--threads 1] [--steps 5]
[--dense 48]``,
on the CPU, three channels in float32. One markdown table: our milliseconds (for memory, megabytes),
and in brackets the other's value divided by ours: above 1, ours is faster or smaller.

- deepinv, if installed, and ours compute the same thing in turns, so that other work on the
  machine slows both. ``A differs`` is the largest difference of the two results of A, relative to
  the largest value, away from the borders, whose conventions differ (it mirrors without the border
  pixel), and over all pixels where they are the same.
- Operations without a closed form are timed for ``--steps`` steps of their solver: marked * where
  both sides are iterative, and ≥ where only the other is, which by default takes up to 50 steps.
- Memory is the largest of the four operations: peak bytes of tensors, including the operator's
  own and the result, without the input images and without the temporary memory of an FFT.
- The dense SVD is that of the operator's whole matrix, which is feasible for tiny images only: it
  is measured at ``--dense`` pixels and one channel. At the large sizes its bytes are computed.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..operators import (
    AveragePool,
    BicubicDownsample,
    GaussianBlur,
    LinearOperator,
    MotionBlur,
    Recipe,
)
from ..operators.linear import solvers
from ..operators.operator import Operator
from .counting import Counter

SCALE, TAPS, SIGMA = 12, 61, 3.0
GAMMA = 10.0
PARTS = ("bind", "A", "Aᵀ", "A⁺", "prox")


@dataclass
class Rival:
    """A deepinv operator, which ``make`` makes for an image size. ``prox`` makes another one, whose
    prox has a closed form, if that of ``make`` has none; ``iterative`` names the operations that
    are solved iteratively.
    """

    make: Callable[[int], Any]
    iterative: tuple[str, ...] = ()
    prox: Callable[[int], Any] | None = None
    border: int = TAPS
    note: str = ""


@dataclass
class Case:
    name: str
    recipe: Recipe
    rival: Rival | None = None
    iterative: tuple[str, ...] = ()


def cases(steps: int) -> list[Case]:
    """Our operators, with deepinv's where it is installed."""
    gauss, motion = GaussianBlur(TAPS, SIGMA), MotionBlur(TAPS)
    listed = [
        Case(f"average pool x{SCALE}", AveragePool(SCALE)),
        Case(f"bicubic x{SCALE}", BicubicDownsample(SCALE)),
        Case(f"Gaussian {TAPS}, symmetric", gauss),
        Case(f"Gaussian {TAPS}, periodic", GaussianBlur(TAPS, SIGMA, "periodic")),
        Case(f"motion {TAPS}, symmetric", motion, iterative=("A⁺", "prox")),
        Case(f"motion {TAPS}, periodic", MotionBlur(TAPS, boundary="periodic")),
    ]
    try:
        # deepinv is not among our requirements.
        from deepinv.physics import (  # pyright: ignore[reportMissingImports]
            Blur,
            BlurFFT,
            Downsampling,
        )
    except ImportError:
        return listed
    solver: dict[str, Any] = {"max_iter": steps, "tol": 0.0, "implicit_backward_solver": False}
    taps = gauss.taps().float()
    kernels = [(taps[:, None] * taps)[None, None], motion.kernel().float()[None, None]]
    box = torch.full((1, 1, SCALE, SCALE), 1 / SCALE**2)

    def down(filter_: Any, padding: str) -> Callable[[int], Any]:
        return lambda n: Downsampling((3, n, n), filter_, SCALE, padding=padding, **solver)

    listed[0].rival = Rival(
        down(box, "valid"), ("A⁺",), down(box, "circular"), 0, "its prox is of the periodic box"
    )
    listed[1].rival = Rival(
        down("bicubic", "reflect"),
        ("A⁺",),
        down("bicubic", "circular"),
        5,
        "its prox is periodic",
    )
    for first, kernel in zip((2, 4), kernels, strict=True):
        listed[first].rival = Rival(
            lambda n, kernel=kernel: Blur(kernel, "reflect", use_fft=True, **solver),
            ("A⁺", "prox"),
        )
        listed[first + 1].rival = Rival(
            lambda n, kernel=kernel: BlurFFT((3, n, n), kernel), border=0
        )
    return listed


def bound_anew(recipe: Recipe, shape: tuple[int, int, int]) -> Operator:
    """A new operator, where ``recipe.bind`` would give one that is in use already."""
    return recipe._bind(shape, torch.device("cpu"), torch.float32)


@contextmanager
def steps_of_ours(count: int) -> Iterator[None]:
    """Exactly ``count`` steps of our iterative solvers, which do not converge then."""
    kept = solvers.CG_STEPS, dict(solvers.CG_TOLERANCE)
    solvers.CG_STEPS = count
    solvers.CG_TOLERANCE.update(dict.fromkeys(solvers.CG_TOLERANCE, 0.0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", solvers.ConvergenceWarning)
            yield
    finally:
        solvers.CG_STEPS = kept[0]
        solvers.CG_TOLERANCE.update(kept[1])


def counting() -> Counter:
    """A counter that does not count the tensors that exist already."""
    gc.collect()
    counter = Counter()
    for each in gc.get_objects():
        if issubclass(type(each), Tensor):
            counter.known[id(each.untyped_storage())] = 0
    return counter


Race = list[tuple[float, int]]


def race(*functions: Callable[[], Any], repeat: int, budget: float = 6.0) -> Race:
    """Median seconds and peak bytes of every function. The first call of each counts bytes; then
    they take turns. One that takes more than half of ``budget`` seconds is called once.
    """
    first: Race = []
    for function in functions:
        with counting() as counter:
            start = time.perf_counter()
            function()
            first.append((time.perf_counter() - start, counter.peak))
    taken: list[list[float]] = [[] for _ in functions]
    started = time.perf_counter()
    for turn in range(repeat):
        if turn and time.perf_counter() - started > budget:
            break
        for function, times, (before, _) in zip(functions, taken, first, strict=True):
            if before > budget / 2:
                times.append(before)
                continue
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return [(statistics.median(t), p) for t, (_, p) in zip(taken, first, strict=True)]


def made(make: Callable[[], Any]) -> tuple[Any, int]:
    """The result of ``make``, and the bytes that it holds."""
    with counting() as counter:
        result = make()
        gc.collect()
    return result, counter.live


def ours(operator: LinearOperator, x: Tensor, z: Tensor, y: Tensor) -> list[Callable[[], Tensor]]:
    return [
        lambda: operator.A(x),
        lambda: operator.adjoint(y),
        lambda: operator.pinv(y),
        lambda: operator.prox(z, y, GAMMA),
    ]


def theirs(
    physics: Any, for_prox: Any, x: Tensor, z: Tensor, y: Tensor
) -> list[Callable[[], Tensor]]:
    return [
        lambda: physics.A(x),
        lambda: physics.A_adjoint(y),
        lambda: physics.A_dagger(y),
        lambda: for_prox.prox_l2(z, y, GAMMA),
    ]


def problem(case: Case, shape: tuple[int, int, int]) -> tuple[LinearOperator, int, list[Tensor]]:
    """The operator, its bytes, and the inputs x, z and y."""
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    operator, held = made(lambda: bound_anew(case.recipe, shape))
    return operator, held, [x, 1 - x, operator.A(x)]


def inside(a: Tensor, border: int) -> Tensor:
    return a[..., border : a.shape[-2] - border, border : a.shape[-1] - border]


def measure(case: Case, size: int, repeat: int) -> list[str]:
    """The cells of one row."""
    size -= size % SCALE
    shape = (3, size, size)
    operator, held, images = problem(case, shape)
    runs = [[lambda: bound_anew(case.recipe, shape), *ours(operator, *images)]]
    helds, rival, differs, note = [held], case.rival, "–", ""
    if rival is not None:
        make, x, y = rival.make, images[0], images[2]
        physics, held = made(lambda: make(size))
        for_prox = physics if rival.prox is None else rival.prox(size)
        runs.append([lambda: make(size), *theirs(physics, for_prox, *images)])
        helds.append(held)
        got, want = (inside(a, rival.border) for a in (physics.A(x), y))
        differs = f"{float((got - want).abs().max() / want.abs().max()):.0e}"
        note = rival.note
    cells, peaks = [f"{case.name}, {size}"], []
    for part, *pair in zip(PARTS, *runs, strict=True):
        results = race(*pair, repeat=repeat)
        cell = f"{results[0][0] * 1e3:.1f}" + ("*" if part in case.iterative else "")
        if rival is not None:
            more = "≥" if part in rival.iterative and part not in case.iterative else ""
            cell += f" ({more}{results[1][0] / results[0][0]:.1f})"
        cells.append(cell)
        if part != "bind":
            peaks.append([peak for _, peak in results])
    memory = [held + max(each) for held, each in zip(helds, zip(*peaks, strict=True), strict=True)]
    cells.append(f"{memory[0] / 1e6:.1f}")
    if rival is not None:
        cells[-1] += f" ({memory[1] / memory[0]:.1f})"
    return [*cells, differs, note]


def measure_dense(case: Case, size: int, repeat: int) -> list[str]:
    """The cells of one row against the SVD of the whole matrix of one channel."""
    size -= size % SCALE
    shape = (1, size, size)
    operator, held, images = problem(case, shape)

    def build() -> tuple[Tensor, Tensor, Tensor]:
        basis = torch.eye(size * size).view(-1, *shape)
        return torch.linalg.svd(operator.A(basis).flatten(1).T, full_matrices=False)

    start = time.perf_counter()
    u, s, vt = build()
    built = time.perf_counter() - start
    kept = s > 1e-5 * s[0]
    inverse = torch.where(kept, 1 / torch.where(kept, s, 1.0), 0.0)
    a, z, b = (image.flatten() for image in images)
    dense: list[Callable[[], Tensor]] = [
        lambda: u @ (s * (vt @ a)),
        lambda: vt.T @ (s * (u.T @ b)),
        lambda: vt.T @ (inverse * (u.T @ b)),
        lambda: z + vt.T @ (GAMMA * s / (1 + GAMMA * s**2) * (u.T @ b - s * (vt @ z))),
    ]
    ((bind, _),) = race(lambda: bound_anew(case.recipe, shape), repeat=repeat)
    cells = [f"{case.name}, {size}, one channel, the dense SVD"]
    cells.append(f"{bind * 1e3:.1f} ({built / bind:.0f})")
    peaks = []
    for part, *pair in zip(PARTS[1:], ours(operator, *images), dense, strict=True):
        (mine, peak), (other, _) = race(*pair, repeat=repeat)
        peaks.append(peak)
        mark = "*" if part in case.iterative else ""
        cells.append(f"{mine * 1e3:.2f}{mark} ({other / mine:.1f})")
    memory = held + max(peaks)
    whole = sum(t.numel() * t.element_size() for t in (u, s, vt))
    cells.append(f"{memory / 1e6:.1f} ({whole / memory:.0f})")
    differs = float((dense[0]() - b).abs().max() / b.abs().max())
    return [*cells, f"{differs:.0e}", ""]


def dense_bytes(size: int, out: int) -> float:
    """Bytes of U, S and V of one channel, float32, from n = size² pixels to m = out² values."""
    n, m = size**2, out**2
    rank = min(n, m)
    return 4.0 * (m * rank + rank + rank * n)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[768, 2048])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5, help="steps of iterative solvers")
    parser.add_argument("--dense", type=int, default=48, help="size for the dense SVD, 0 for none")
    parser.add_argument("--repeat", type=int, default=21)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    listed = cases(args.steps)
    if any(case.rival for case in listed):
        import deepinv  # pyright: ignore[reportMissingImports]

        print(f"deepinv {deepinv.__version__}, ", end="")
    else:
        print("deepinv is not installed: ours alone. ", end="")
    print(f"PyTorch {torch.__version__}, {args.threads} thread(s), {args.steps} solver steps\n")
    heads = ["operator, pixels", *(f"{p}, ms" for p in PARTS), "peak MB", "A differs", "note"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    with torch.no_grad(), steps_of_ours(args.steps):
        for case in listed:
            for size in args.sizes:
                print(f"| {' | '.join(measure(case, size, args.repeat))} |", flush=True)
            if args.dense:
                print(f"| {' | '.join(measure_dense(case, args.dense, args.repeat))} |", flush=True)
    print("\nThe dense SVD (U, S, V of one channel, float32) would take:\n")
    for size in args.sizes:
        small = math.ceil(size / SCALE)
        print(
            f"- {size} pixels: {dense_bytes(size, small) / 1e9:,.0f} GB for x{SCALE},"
            f" {dense_bytes(size, size) / 1e12:,.1f} TB for a blur"
        )


if __name__ == "__main__":
    main()
