"""Degradation nodes: one for all tasks by name, and one for each kind of damage."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..operators import REGISTRY, TASKS, Identity, Recipe, recipe_for_task
from ..operators.registry import meanings
from . import blurs, camera, compression, masks, resampling, sensing
from .degradation import DegradationNode, degradation
from .inputs import SEED, output
from .kit import Folder, chained, complaint, schema, telling

MOST = 255
"""Largest number of a task."""


def _tasks() -> str:
    return "\n".join(f"{name}: {REGISTRY[name].description}." for name in TASKS)


def _numbers() -> str:
    lines = [f"- {meaning}: {', '.join(tasks)}." for meaning, tasks in meanings().items()]
    unused = ", ".join(name for name in TASKS if REGISTRY[name].number is None)
    return "\n".join(["The task's own number:", *lines, f"- not used: {unused}."])


def _fields() -> dict[str, dict[str, Any]]:
    """What ``web/degradation_operator.js`` calls the widgets of every task."""
    fields = {}
    for name in TASKS:
        row = REGISTRY[name]
        fields[name] = {"seeded": row.seeded}
        if row.number is not None:
            number = {"name": row.number.name, "meaning": row.number.meaning}
            fields[name]["number"] = {**number, "default": row.default(large=False)}
    return fields


def _seeds() -> str:
    seeded = ", ".join(name for name in TASKS if REGISTRY[name].seeded)
    return f"Chooses what is random in {seeded}; each seed is another draw. Other tasks ignore it."


class DegradationOperator(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return degradation(
            "DegradationOperator",
            display_name="Degradation Operator",
            description="How the picture was damaged, chosen by name: the tasks of the FlowDPS"
            " paper and others. Each of them also has a node of its own, whose settings are named"
            " for it.",
            search_aliases=["super resolution", "deblur", "upscale", "flowdps task"],
            inputs=[
                telling(
                    io.Combo.Input(
                        "task", options=list(TASKS), default="sr_bicubic", tooltip=_tasks()
                    ),
                    fields=_fields(),
                ),
                io.Int.Input("deg_scale", default=4, min=1, max=MOST, tooltip=_numbers()),
                io.Int.Input("seed", default=0, tooltip=_seeds(), **SEED),
            ],
        )

    @classmethod
    def validate_inputs(cls, task: str | None = None, deg_scale: int | None = None) -> bool | str:
        # The host leaves the bounds of what is validated here to us.
        if deg_scale is not None and not 1 <= deg_scale <= MOST:
            return f"deg_scale is {deg_scale}; expected a whole number from 1 to {MOST}"
        return complaint(lambda task: recipe_for_task(task, deg_scale), task)

    @classmethod
    def execute(
        cls, task: str, deg_scale: int, seed: int, operator: Recipe | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(chained(recipe_for_task(task, deg_scale, seed=seed), operator))


class NoDegradation(DegradationNode):
    kind = Identity

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Identity",
            Folder.DEGRADATION,
            display_name="Noise Only (Degradation)",
            description="The picture is complete and sharp, but noisy: the sampler removes the"
            " noise.",
            search_aliases=["denoise", "identity"],
            inputs=[],
            outputs=[output()],
        )


NODES: list[type[io.ComfyNode]] = [
    DegradationOperator,
    *resampling.NODES,
    *blurs.NODES,
    *masks.NODES,
    *camera.NODES,
    *compression.NODES,
    *sensing.NODES,
    NoDegradation,
]
