"""The node for artists: a photo in, a photo out."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from comfy_api.latest import io, ui
from torch import Tensor

from ..operators.observation import Observation, check_extent
from ..priors.comfy import stride_of
from ..restoration.decision import done, strangeness
from ..restoration.diagnosis import WRONGS, Diagnosis, Wish, diagnose
from ..restoration.pipeline import with_known
from ..restoration.several import WHITE, Several
from ..restoration.verdict import verdict
from ..samplers import METHODS, Sample
from .details import fitting
from .inputs import effort, invent, sampling_seed, sensitivity, strength
from .kit import (
    ADVANCED,
    Folder,
    MeasurementSocket,
    Operator,
    connected,
    from_images,
    required,
    schema,
    side_by_side,
    to_images,
)
from .models import EmptyFlowConditioning
from .sampling import Chosen, Prompt, Walk, planned, restore
from .waiting import waiting

METHOD = METHODS["refine"]


class RestorePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RestorePhoto",
            Folder.TOP,
            display_name="Restore Photo",
            description="Finds out what is wrong with a photo, and repairs it.",
            search_aliases=[
                *("restore", "repair", "fix", "enhance", "deblur", "denoise", "upscale"),
                *("sharpen", "old photo", "scratches", "jpeg artifacts", "flowdps"),
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Your photo at its own size. Of a batch, the first one tells what is"
                    " wrong with all.",
                ),
                io.Model.Input("model", tooltip="Any flow model: SD3, SD3.5, Flux, ..."),
                io.Vae.Input("vae", tooltip="The autoencoder of the same model."),
                io.Combo.Input(
                    "wrong",
                    options=list(WRONGS),
                    default=next(iter(WRONGS)),
                    tooltip="What is wrong with the photo. If you know, choose it: what is not"
                    " looked for cannot be found by mistake. small: it is enlarged. scratched:"
                    " scratches are found, or painted with a mask. old video: every second line is"
                    " from another instant.",
                ),
                strength("what was measured in the photo"),
                invent(
                    "0: faithful, hardly any new detail; 0.5: detail that fits the photo;"
                    " 1: inventive, the photo is only a guide, and it takes longer.",
                ),
                io.Int.Input(
                    "enlarge",
                    default=0,
                    min=0,
                    max=16,
                    tooltip="How many times larger the result is. 0: four times if it is small,"
                    " else the photo's own size; 2 needs little new detail; 8 much of it.",
                ),
                effort("normal"),
                sampling_seed("Another seed gives slightly different detail."),
                io.Int.Input(
                    "versions",
                    default=1,
                    min=1,
                    max=16,
                    optional=True,
                    tooltip="How many different restorations; the map then shows where they"
                    " differ. 1 is enough for most photos; more take as many times longer.",
                    **ADVANCED,
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where the photo is lost: scratches, holes, something to be"
                    " replaced. The rest of a photo that is only scratched stays as it is.",
                ),
                io.Conditioning.Input(
                    "prompt",
                    optional=True,
                    tooltip="What the photo shows. It may be left out; it helps where much has to"
                    " be invented.",
                ),
                sensitivity(
                    "Of the search for scratches. Low: only strong ones; high: faint ones, and"
                    " sometimes hairs and wires as well. Look at the map first.",
                    optional=True,
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The restored photo."),
                io.Image.Output(
                    display_name="before_after", tooltip="The photo and the result side by side."
                ),
                io.Mask.Output(
                    display_name="invented",
                    tooltip="Bright where the model added something of its own (one version) or"
                    " where the versions differ (several): 1 from"
                    f" {WHITE * 127.5:.0f} of 255 grey levels on.",
                ),
                io.String.Output(
                    display_name="report", tooltip="What was found, done, and how well it fits."
                ),
                MeasurementSocket.Output(
                    display_name="measurement", tooltip="For the other nodes of this pack."
                ),
                Operator.Output(
                    display_name="operator", tooltip="The damage, for the other nodes of this pack."
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
        strength: str,
        invent: float,
        enlarge: int,
        effort: str,
        seed: int,
        versions: int = 1,
        mask: Tensor | None = None,
        prompt: Any = None,
        sensitivity: float = 0.5,
    ) -> io.NodeOutput:
        wish = Wish(wrong, strength, effort, invent, enlarge, sensitivity)
        x = to_images(image, "photo", ground=False)
        check_extent(wish.scale * x.shape[2], wish.scale * x.shape[3])
        required(model=model, vae=vae)
        connected(conditioning=prompt)
        found = diagnose(x[:1], wish, _painted(mask, x), waiting())
        settings, levels = planned(wish, model)
        observation = Observation.from_photo(x, found.recipe, found.noise_level, stride_of(vae))
        own = image[..., :3].movedim(-1, 1).expand(-1, 3, -1, -1).cpu()
        if found.healthy:
            kept, lost = own.movedim(1, -1).contiguous(), torch.zeros(len(x), *x.shape[2:])
        else:
            found.found.append(done(METHOD.title, settings, len(levels) - 1))
            found.warnings += _strange(vae, x, found.noise_level)
            if prompt is None:
                prompt = EmptyFlowConditioning.execute(model, 1)[0]
            kept, lost = _restored(
                model,
                vae,
                prompt,
                observation,
                found,
                Chosen(METHOD, settings),
                Walk(seed, levels.float(), samples=versions),
            )
            if found.only_lost and found.lost is not None:
                kept = with_known(kept.movedim(-1, 1), own, found.lost)
                kept = kept.movedim(1, -1).contiguous()
        kept = _with_alpha(kept, image)
        report = "\n".join(found.sentences)
        return io.NodeOutput(
            kept,
            side_by_side(from_images(x), kept[..., :3]),
            lost,
            report,
            observation,
            found.recipe,
            ui=ui.PreviewText(report),
        )


def _painted(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """The mask (H, W) of the photos' size; None for an empty one. ValueError for another size."""
    masks = fitting(mask, x.shape[2], x.shape[3], "photo")
    return None if masks is None else masks.amax(0)


def _strange(vae: Any, x: Tensor, noise_level: float) -> list[str]:
    """A warning if the model's autoencoder cannot keep such a photo."""

    def round_trip(part: Tensor) -> Tensor:
        back = vae.decode(vae.encode(from_images(part)))
        return to_images(back.reshape(1, *back.shape[-3:]), ground=False)

    return strangeness(x, noise_level, stride_of(vae), round_trip)


def _restored(
    model: Any,
    vae: Any,
    prompt: Any,
    observation: Observation,
    found: Diagnosis,
    how: Chosen,
    walk: Walk,
) -> tuple[Tensor, Tensor]:
    """IMAGE of all versions, and the map (N, H, W) of what was invented."""
    kept: list[Sample] = []
    _, image, ratio = restore(how, model, vae, Prompt(prompt), observation, walk, keep=kept.append)
    found.found.append(verdict(ratio, "grain"))
    x, photos = to_images(image, ground=False), len(observation.y)
    if walk.samples > 1:
        every = [Several(x[k::photos], [ratio] * walk.samples) for k in range(photos)]
        return image, torch.cat([each.map[:, 0] for each in every])
    start = kept[-1].start
    assert start is not None, "Refine starts from a picture"
    apart = (x - observation.crop(start.to(x)).clamp(-1, 1)).square().mean(1).sqrt()
    return image, (apart / WHITE).clamp(0, 1)


def _with_alpha(kept: Tensor, image: Tensor) -> Tensor:
    """The photo's alpha, resized, added to its restorations."""
    if image.shape[-1] != 4:
        return kept
    alpha = image[..., 3:].movedim(-1, 1).float().cpu()
    alpha = F.interpolate(alpha, kept.shape[1:3], mode="bilinear", antialias=True).movedim(1, -1)
    return torch.cat([kept, alpha.repeat(len(kept) // len(alpha), 1, 1, 1)], -1)


NODES: list[type[io.ComfyNode]] = [RestorePhoto]
