"""The node for films: the frames of a video in, restored frames out."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..operators import Cadence, Exposure, Fields, Identity, Recipe
from ..operators.observation import Observation, check_extent
from ..operators.registry import OVER_TIME as ROWS_OVER_TIME
from ..priors.comfy import (
    cells_for,
    frames_of,
    is_video,
    latent_shape,
    stride_of,
    video_shape,
)
from ..restoration.diagnosis import WRONGS, Wish
from ..restoration.film import (
    GRAIN,
    OF_FILMS,
    FilmRestoring,
    Look,
    Treatment,
    looked_at,
    one_field,
)
from ..restoration.pipeline import Request
from ..samplers import METHODS
from .inputs import effort, invent, sampling_seed, strength
from .kit import ADVANCED, Folder, connected, from_images, opaque, required, schema, to_images
from .models import EmptyFlowConditioning
from .sampling import Chosen, Prompt, Walk, planned, restore
from .waiting import waiting

METHOD = METHODS["refine"]
DROPPED = ROWS_OVER_TIME[Cadence.name]
OVER_TIME = ("nothing", "fields, top first", "fields, bottom first", "long exposure", "dropped")


def over_time_of(name: str, number: int, wrong: str) -> Recipe | None:
    """What happened to the film over time; ValueError for an unknown name."""
    if name not in OVER_TIME:
        raise ValueError(f"over_time is {name!r}; expected one of {'; '.join(OVER_TIME)}")
    if name == "long exposure":
        return Exposure(number)
    if name == "dropped":
        return DROPPED.make(number)
    if name == OVER_TIME[0] and OF_FILMS.get(wrong) != "fields":
        return None
    return Fields("bottom" if "bottom" in name else "top")


class RestoreFilm(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RestoreFilm",
            Folder.FILM,
            display_name="Restore Film",
            description="Restores the frames of a video so that they flicker less: shots are found,"
            " and frames tell of each other.",
            search_aliases=["video", "deinterlace", "denoise video", "flicker", "dust", "flowdps"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "image", tooltip="The frames in order, such as those of Get Video Components."
                ),
                io.Model.Input(
                    "model",
                    tooltip="Any flow model. One for videos, such as Wan, restores all frames of a"
                    " window at once.",
                ),
                io.Vae.Input("vae", tooltip="The autoencoder of the same model."),
                io.Combo.Input(
                    "wrong",
                    options=list(WRONGS),
                    default=next(iter(WRONGS)),
                    tooltip="What is wrong with the frames. scratched: dust that lasts one frame;"
                    " old video: fields of two moments, top first. The rest is as in Restore"
                    " Photo, and is looked for in some frames of every shot.",
                ),
                io.Combo.Input(
                    "over_time",
                    options=list(OVER_TIME),
                    default=OVER_TIME[0],
                    tooltip="What happened over time. fields: two moments in every frame; the"
                    " result has twice as many frames. long exposure: a frame is the mean of"
                    " several moments. dropped: frames are missing, and are made.",
                ),
                io.Boolean.Input(
                    "flicker",
                    default=False,
                    tooltip="On: the brightness of the frames is made even, as far as it differs"
                    " from that of the frames around. Off: it stays.",
                ),
                effort("fast"),
                sampling_seed("Another seed gives slightly different detail, in all frames alike."),
                io.Int.Input(
                    "number",
                    default=2,
                    min=2,
                    max=64,
                    optional=True,
                    tooltip="Of long exposure: how many moments a frame is the mean of. Of dropped:"
                    " of how many frames the last one is missing. 2 is every other; 64 hardly any.",
                    **ADVANCED,
                ),
                invent(
                    "0: faithful, hardly any new detail; 0.5: detail that fits; 1:"
                    " inventive, which can differ from shot to shot.",
                    optional=True,
                ),
                strength("what was measured", optional=True),
                io.Int.Input(
                    "window",
                    default=9,
                    min=1,
                    max=257,
                    optional=True,
                    tooltip="Frames that are restored at once. 1 takes the least memory; a video"
                    " model knows motion from 5 on, and needs memory for all of them.",
                    **ADVANCED,
                ),
                io.Int.Input(
                    "reach",
                    default=3,
                    min=0,
                    max=16,
                    optional=True,
                    tooltip="How many frames before and after one tell of it. 0: none, so that"
                    " grain is told from detail in each frame alone; 3: much steadier; more is"
                    " slow.",
                    **ADVANCED,
                ),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    optional=True,
                    tooltip="Frames a second of the given film, from Get Video Components. They"
                    " change no frame, only the output fps, which is twice as much for fields.",
                    **ADVANCED,
                ),
                io.Conditioning.Input(
                    "prompt", optional=True, tooltip="What the film shows. It may be left out."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The restored frames, for Create Video."
                ),
                io.Float.Output(
                    display_name="fps",
                    tooltip="Frames a second of the result, for Create Video.",
                ),
                io.String.Output(
                    display_name="report", tooltip="What was found in every shot, a line each."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        model: Any,
        vae: Any,
        wrong: str,
        over_time: str,
        flicker: bool,
        effort: str,
        seed: int,
        number: int = 2,
        invent: float = 0.5,
        strength: str = "as found",
        window: int = 9,
        reach: int = 3,
        fps: float = 25.0,
        prompt: Any = None,
    ) -> io.NodeOutput:
        found = over_time_of(over_time, number, wrong)
        dust = OF_FILMS.get(wrong) == "dust"
        plain = wrong in OF_FILMS or isinstance(found, Fields)
        wish = Wish(GRAIN if plain else wrong, strength, effort, invent)
        to_images(image[:1], "film", ground=False)
        image = opaque(image, "film")
        check_extent(wish.scale * image.shape[1], wish.scale * image.shape[2])
        required(model=model, vae=vae)
        connected(conditioning=prompt)
        if prompt is None:
            prompt = EmptyFlowConditioning.execute(model, 1)[0]
        request = request_for(wish, model, seed)
        how = Treatment(request, found, flicker, dust, window=window, reach=reach)
        lines: list[str] = []
        restoring = restoring_by(how, wish, model, vae, prompt, lines.append)
        frames = (to_images(image[k : k + 1], "film") for k in range(len(image)))
        result = torch.cat([from_images(x) for x in restoring(frames)])
        report = "\n".join([*lines, f"{len(image)} frames became {len(result)}."])
        return io.NodeOutput(result, fps * how.rate, report, ui=ui.PreviewText(report))


def request_for(wish: Wish, model: Any, seed: int) -> Request:
    """The request for all shots, with the noise levels that suit MODEL."""
    settings, levels = planned(wish, model)
    return Request(
        Identity(), METHOD.name, settings, len(levels) - 1, seed=seed % 2**63, observed=True
    )


def restoring_by(
    how: Treatment, wish: Wish, model: Any, vae: Any, prompt: Any, say: Any
) -> FilmRestoring:
    """The restoring of a film by MODEL: frame by frame with the noise of the shot, or all frames of
    a window at once, with windows that share a quarter, where it is a model of videos."""
    video = is_video(model) and how.window > 1

    def takes(count: int) -> int:
        return frames_of(vae, cells_for(vae, count)) if video else count

    def run(observation: Observation, request: Request, name: str) -> Tensor:
        count, size = observation.count, observation.padded_size
        if video and takes(count) == count:
            latent = {"samples": torch.zeros(video_shape(model, vae, count, *size))}
        else:
            latent = {
                "samples": torch.zeros(latent_shape(model, vae, count, *size)),
                "batch_index": [0] * count,
            }
        levels = METHOD.levels(request.settings, request.steps).float()
        walk = Walk(request.seed, levels, latent)
        chosen = Chosen(METHOD, request.settings)
        _, image, _ = restore(chosen, model, vae, Prompt(prompt), observation, walk)
        return to_images(image)

    def look(frames: list[Tensor]) -> Look:
        if isinstance(how.over_time, Fields):
            frames = [one_field(each) for each in frames]
        return looked_at(frames, wish, how.request, waiting())

    overlap = min(how.window - 1, max(1, how.window // 4)) if video else 0
    how = dataclasses.replace(how, window=takes(how.window))
    return FilmRestoring(how, run, look, stride_of(vae), say, overlap, takes)


NODES: list[type[io.ComfyNode]] = [RestoreFilm]
