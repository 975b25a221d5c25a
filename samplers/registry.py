"""The registry of methods; command line, nodes, benchmark and documents are derived from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .consistency import PixelCorrection
from .curves import Schedule
from .flair import FlairSettings, SquaredSteps, flair, flair_levels
from .flowchef import FlowChefSettings, flowchef
from .flowdps import FlowDPSSettings, flowdps
from .gradient_step import GradientStep, InnerSteps
from .latino import LatinoSettings, latino, latino_levels
from .method import Sample
from .model_error import MeasuredError, ResidualError, WhiteError
from .pixel_step import PixelStep
from .psld import PSLDSettings, psld
from .refine import RefineSettings, refine, refine_levels
from .schedule import published_sigmas
from .settings import MethodSettings, flat, with_values


def published_levels(settings: MethodSettings, steps: int) -> Tensor:
    """The schedule of the FlowDPS paper, whatever the settings."""
    return published_sigmas(steps)


@dataclass(frozen=True)
class Method:
    """A row of the registry.

    name: its name on the command line, in lower case.
    title: its name in the nodes, whose ids are ``FlowDPS_<title>Sampler`` and
        ``FlowDPS_<title>SamplerObject``; these must not change once published.
    about: what it does, in one plain sentence.
    function: ``function(prior, z, sigmas, measurement, settings, generators, callback=None)``,
        which returns latents like z (N, C, h, w), or a ``Sample``.
    settings: the class of its settings.
    presets: settings by name; the first one is the default.
    notes: what each preset is, by its name.
    through_model: whether it takes gradients through the model, which needs more memory.
    encodes: whether it encodes pictures without a gradient, which takes memory of its own.
    steps: number of noise levels, unless another one is chosen; steps_note: what others do.
    levels: ``levels(settings, steps)``, the noise levels of a run, float64 (steps + 1,), falling to
        0.
    cfg: weight of guidance, unless another one is chosen; 1 is none, at half the work.
    own_start: whether it starts from the photo, whatever latents it is given.
    calibration: rms error of the mean of several samples over their rms spread, as measured with
        the demo prior and the default preset; None: not measured.
    """

    name: str
    title: str
    about: str
    function: Callable[..., Tensor | Sample]
    settings: type[MethodSettings]
    presets: Mapping[str, MethodSettings]
    notes: Mapping[str, str]
    through_model: bool = False
    encodes: bool = False
    steps: int = 28
    steps_note: str = "Below 10 the result is coarse; 28 as in the paper; above 50 little changes."
    levels: Callable[[Any, int], Tensor] = published_levels
    cfg: float = 2.0
    own_start: bool = False
    calibration: float | None = None

    @property
    def gradients(self) -> bool:
        """Whether any preset takes gradients through the decoder."""
        return any(settings.gradients for settings in self.presets.values())

    def has(self, name: str) -> bool:
        """Whether the settings of any preset have a value of that name."""
        return any(name in flat(settings) for settings in self.presets.values())

    def with_a(self, name: str) -> list[str]:
        """The presets whose settings have a value of that name."""
        return [preset for preset, settings in self.presets.items() if name in flat(settings)]

    @property
    def default(self) -> str:
        """The name of the default preset."""
        return next(iter(self.presets))

    def preset(self, name: str | None = None) -> Any:
        """Settings of this method for the preset ``name``, None for the default; ValueError for an
        unknown name."""
        name = self.default if name is None else name
        if name not in self.presets:
            raise ValueError(
                f"{self.name} has no preset {name!r}; expected one of {', '.join(self.presets)}"
            )
        return self.presets[name]


FINISH = PixelCorrection(0.04)
FLOWDPS = FlowDPSSettings(
    data_step=PixelStep(MeasuredError(trust=1.0, unmeasured=0.3)), finish=FINISH, weight="one"
)
THOROUGH = FlowDPSSettings(
    data_step=InnerSteps(
        0.2, loss="squared", rule="adam", decay=1.0, inner_steps=8, proximal_weight=2.0
    ),
    finish=FINISH,
    weight="one",
)
FLOWCHEF = FlowChefSettings(data_step=GradientStep(2.0, loss="residual"), finish=FINISH)
PSLD = PSLDSettings(data_step=GradientStep(3.0), finish=FINISH)

REFINE = RefineSettings()
TUNED = (
    "settings that were chosen by measurement with the small demo prior, and with no large model"
)
PUBLISHED = "exactly the paper's update, to compare with"
SAME = "the same, since nothing can be left out of this method"

ROWS = (
    Method(
        name="refine",
        title="Refine",
        about="A classical restoration first, and a few low noise levels from there on, without any"
        " gradient: little work and memory, and closest to the photo.",
        function=refine,
        settings=RefineSettings,
        presets={
            "tuned": REFINE,
            "fast": with_values(REFINE, views=1, pairs=1),
            "thorough": with_values(REFINE, views=4),
        },
        notes={
            "tuned": TUNED,
            "fast": "a third of the work, up to 0.15 dB worse where it was measured",
            "thorough": "twice the work, up to 0.1 dB better where it was measured",
        },
        cfg=1.0,
        own_start=True,
        encodes=True,
        steps=3,
        steps_note="3 are enough for a denoise of 0.3; take about ten times the denoise.",
        levels=refine_levels,
    ),
    Method(
        name="flowdps",
        title="FlowDPS",
        about="Moves every step towards the photo and takes new noise: the paper's method, which"
        " invents where the photo says little.",
        function=flowdps,
        settings=FlowDPSSettings,
        presets={
            "tuned": FLOWDPS,
            "thorough": THOROUGH,
            "published": FlowDPSSettings(data_step=InnerSteps(15.0, inner_steps=3)),
            # TriPS (2605.26470): of its weights for DIV2K, one that serves all tasks. The paper's
            # fall from 300 to 100 (super-resolution), 300 to 200 (Gaussian blur), and 350 to 150
            # (motion blur, where guidance is slow and renewal lin); six inner steps share them.
            "trips": FlowDPSSettings(
                data_step=InnerSteps(50.0, loss="hybrid", inner_steps=6),
                weight="one",
                renew=Schedule("late", 1.0, 0.0),
                step_factor=Schedule("lin", 1.0, 0.5),
                guidance=Schedule("fast", 1.0, 6.0),
            ),
        },
        notes={
            "tuned": f"{TUNED}; one step in pixels per noise level, without gradients",
            "thorough": "gradients, at eight times the work (225 passes through the decoder);"
            " better with the demo prior at enlarging and camera shake, worse at soft blur",
            "published": f"{PUBLISHED}; its authors ran it with Stable Diffusion 3",
            "trips": "TriPS, with more steps early and less noise late; it sets the weight of the"
            " prompt itself, from 1 to 6",
        },
        calibration=2.0,
    ),
    Method(
        name="flowchef",
        title="FlowChef",
        about="One step towards the photo per noise level, and no new noise: fast, less exact.",
        function=flowchef,
        settings=FlowChefSettings,
        presets={
            "tuned": FLOWCHEF,
            "fast": FLOWCHEF,
            "published": FlowChefSettings(data_step=GradientStep(15.0)),
        },
        notes={"tuned": TUNED, "fast": SAME, "published": PUBLISHED},
    ),
    Method(
        name="flair",
        title="FLAIR",
        about="Keeps one clean picture and pulls it by turns to the model and to the photo, down to"
        " the photo's noise.",
        function=flair,
        settings=FlairSettings,
        presets={
            "tuned": FlairSettings(
                data_step=InnerSteps(0.4, loss="squared", rule="adam", stop=1.0, inner_steps=10),
                finish=FINISH,
            ),
            "published": FlairSettings(data_step=SquaredSteps(), calibration="sd3"),
        },
        notes={"tuned": TUNED, "published": PUBLISHED},
        encodes=True,
        own_start=True,
        steps=6,
        steps_note="6 for tuned, where more do no better with the demo prior; 50 as in the paper.",
        levels=flair_levels,
    ),
    Method(
        name="latino",
        title="LATINO",
        about="A few steps without any gradient: fast, with little memory, and made for models of"
        " few steps.",
        function=latino,
        settings=LatinoSettings,
        presets={
            "tuned": LatinoSettings(data_step=PixelStep(WhiteError()), finish=FINISH),
            "published": LatinoSettings(data_step=PixelStep(ResidualError())),
        },
        notes={"tuned": TUNED, "published": PUBLISHED},
        encodes=True,
        own_start=True,
        steps=8,
        steps_note="8 as in the paper, for models of few steps; other models need 16 and more.",
        levels=latino_levels,
    ),
    # Needs gradients through the model.
    Method(
        name="psld",
        title="PSLD",
        about="One step per noise level with the gradient through the model itself: slow, and needs"
        " the most memory.",
        function=psld,
        settings=PSLDSettings,
        presets={
            "tuned": PSLD,
            "fast": PSLD,
            "published": PSLDSettings(data_step=GradientStep(15.0)),
        },
        notes={"tuned": TUNED, "fast": SAME, "published": PUBLISHED},
        through_model=True,
    ),
)
METHODS: dict[str, Method] = {row.name: row for row in ROWS}
PRESETS = tuple(dict.fromkeys(name for row in ROWS for name in row.presets))
"""The names of all presets; a method has some of them."""


def method_named(name: str) -> Method:
    """The method called ``name``; ValueError for an unknown name."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; expected one of {', '.join(METHODS)}")
    return METHODS[name]


def preset(method: str, name: str | None = None) -> Any:
    """Settings of ``method`` for the preset ``name``, of the method's settings class.

    None is the method's default preset.

    Raises ValueError for an unknown method or preset.
    """
    return method_named(method).preset(name)
