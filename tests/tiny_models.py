"""Tiny random models, written once: a single file like the demo prior, and a diffusers folder."""

from types import SimpleNamespace

import pytest
import torch
from comfyui_flowdps.training.emoji_narrow import NarrowAutoencoder, embed
from comfyui_flowdps.training.export import transformer_state
from safetensors.torch import save_file

CONTEXT, POOLED, POSITIONS = 24, 12, 8
SCALE = 0.9


@pytest.fixture(scope="session")
def tiny_transformer():
    """Makes a random SD3 transformer; every call of the same arguments gives the same weights."""
    from diffusers import SD3Transformer2DModel

    def make(patch=1, layers=2, qk_norm="rms_norm", dual=(), context=CONTEXT, pooled=POOLED):
        model = SD3Transformer2DModel(
            sample_size=POSITIONS * patch,
            patch_size=patch,
            in_channels=16,
            num_layers=layers,
            attention_head_dim=64,
            num_attention_heads=layers,
            joint_attention_dim=context,
            caption_projection_dim=64 * layers,
            pooled_projection_dim=pooled,
            out_channels=16,
            pos_embed_max_size=POSITIONS,
            qk_norm=qk_norm,
            dual_attention_layers=dual,
        ).requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        for name, value in model.named_parameters():
            centre = 1.0 if ".norm_" in name else 0.0
            value.copy_(centre + 0.08 * torch.randn(value.shape, generator=generator))
        return model

    return make


@pytest.fixture(scope="session")
def demo(tmp_path_factory, tiny_transformer):
    """A file in the layout of the demo prior, with what went into it."""
    torch.manual_seed(2)
    transformer, autoencoder = tiny_transformer(), NarrowAutoencoder().requires_grad_(False)
    state = {f"model.diffusion_model.{k}": v for k, v in transformer_state(transformer).items()}
    state |= {f"first_stage_model.{k}": v for k, v in embed(autoencoder).items()}
    state["first_stage_model.vae_scale"] = torch.tensor(1.5305 * SCALE)
    state["first_stage_model.vae_shift"] = torch.tensor(0.0609)
    path = tmp_path_factory.mktemp("demo") / "demo.safetensors"
    save_file(state, path)
    return SimpleNamespace(
        path=path, state=state, transformer=transformer, autoencoder=autoencoder, scale=SCALE
    )


def _tokenizer(length):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<end>", "<unk>", "a", "photo", "of", "cat", "blurry"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        model_max_length=length,
    )


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory, tiny_transformer):
    """diffusers' own SD3 pipeline with tiny random parts, and the folder that it was saved to."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    torch.manual_seed(3)
    clip = CLIPTextConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        projection_dim=POOLED // 2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
    )
    t5 = T5Config(vocab_size=8, d_model=40, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    vae = AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=16,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    pipe = StableDiffusion3Pipeline(
        transformer=tiny_transformer(patch=2, context=40),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=CLIPTextModelWithProjection(clip),
        tokenizer=_tokenizer(12),
        text_encoder_2=CLIPTextModelWithProjection(clip),
        tokenizer_2=_tokenizer(12),
        text_encoder_3=T5EncoderModel(t5).eval(),
        tokenizer_3=_tokenizer(300),
    )
    folder = tmp_path_factory.mktemp("folder") / "sd3"
    pipe.save_pretrained(folder)
    return SimpleNamespace(pipe=pipe, folder=folder)
