"""Checks of the inputs before the first pass. Each raises a ValueError with one sentence."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import comfy.sample
import torch
from torch import Tensor

from ..operators.observation import Observation
from ..priors.comfy import frames_of, is_video, latent_shape, stride_of


def images_of(vae: Any, shape: tuple[int, ...]) -> int:
    """How many images latents of ``shape`` are: the frames of all films, if they have a time axis
    longer than 1."""
    return shape[0] * (frames_of(vae, shape[2]) if len(shape) == 5 else 1)


def check_latent(observation: Observation, vae: Any, shape: tuple[int, ...]) -> None:
    """ValueError unless latents of ``shape`` are those of the measurement's images, of which there
    are as many where the latents are a film."""
    if len(shape) == 5 and shape[2] > 1 and images_of(vae, shape) != observation.count:
        raise ValueError(
            f"the latent is a video of {images_of(vae, shape)} frames, and the measurement belongs"
            f" to {observation.count}: give both the same number"
        )
    height, width = (n * stride_of(vae) for n in shape[-2:])
    tall, wide = observation.padded_size
    if (height, width) != (tall, wide):
        raise ValueError(
            f"the latent is {width}x{height} pixels and the measurement belongs to an image of"
            f" {wide}x{tall}: use the latent of Encode Measurement"
        )


def check_conditioning(model: Any, conditioning: Any, name: str) -> None:
    """ValueError where MODEL needs a pooled text vector and ``conditioning`` has none."""
    for _, values in conditioning:
        try:
            model.model.encode_adm(**values)
        except KeyError as error:
            if error.args[0] == "pooled_output":
                raise ValueError(
                    f"the {name} conditioning has no pooled output, which this MODEL needs: encode"
                    " the prompt with the CLIP of the same checkpoint, or use Empty Flow"
                    " Conditioning"
                ) from error
        except Exception:  # It may need values that only a run has; the host reports other errors.
            continue


def check_form(model: Any, shape: tuple[int, ...]) -> None:
    """ValueError unless latents of ``shape`` are as MODEL takes them, at least one; a latent
    without the time axis of a video model gets it from the host."""
    if not all(shape):
        raise ValueError(
            "the latent holds no picture: look at the node that made it, or use the latent of"
            " Encode Measurement"
        )
    video = is_video(model)
    if len(shape) not in ((4, 5) if video else (4,)):
        kind = {3: "of sound", 5: "of a video model"}.get(len(shape), "of another kind")
        raise ValueError(
            f"the latent is {kind}, and this MODEL makes pictures: use the latent of Encode"
            " Measurement"
        )


def check_mask(mask: Tensor, observation: Observation, shape: tuple[int, ...]) -> Tensor:
    """The noise mask (N, 1, H, W) at the size of the padded image; ValueError for another size."""
    mask = mask.reshape(-1, 1, *mask.shape[-2:])
    size = tuple(mask.shape[-2:])
    if size == observation.image_size and observation.padded:
        bottom, right = (a - b for a, b in zip(observation.padded_size, size, strict=True))
        return torch.nn.functional.pad(mask, (0, right, 0, bottom), mode="replicate")
    if size not in (observation.padded_size, shape[-2:]):
        raise ValueError(
            f"the mask is {size[1]}x{size[0]} and the restoration {observation.image_size[1]}x"
            f"{observation.image_size[0]}; expected a mask of that size"
        )
    return mask


def start_of(
    model: Any, vae: Any, observation: Observation, latent: dict[str, Any] | None
) -> tuple[Tensor, Tensor | None]:
    """Latents (N, C, h, w) to start from and their noise mask; None is an empty latent.

    Raises ValueError where MODEL, VAE, measurement and latent do not fit together.
    """
    stride, (height, width) = stride_of(vae), observation.padded_size
    if height % stride or width % stride:
        raise ValueError(
            f"the restoration is {width}x{height} and this VAE needs sides that are multiples of"
            f" {stride}: connect the VAE to Encode Measurement"
        )
    shape = latent_shape(model, vae, observation.count, height, width)
    latent = latent or {"samples": torch.zeros(shape)}
    check_form(model, tuple(latent["samples"].shape))
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    if samples.shape[1] != shape[1]:
        raise ValueError(
            f"the latent has {samples.shape[1]} channels and the MODEL {shape[1]}: encode it with"
            " the VAE of the same model family"
        )
    check_latent(observation, vae, tuple(samples.shape))
    mask = latent.get("noise_mask")
    if mask is not None:
        mask = check_mask(mask, observation, tuple(samples.shape))
    return samples, mask
