import pytest
import torch
from comfyui_flowdps.priors.prune import prune
from comfyui_flowdps.priors.sd3_file import Checkpoint, load_autoencoder
from torch import nn


def _count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("side", "channels"), [("encoder", 3), ("decoder", 16)])
def test_pruned_network_computes_the_same_with_far_fewer_weights(demo, side, channels):
    layers = getattr(load_autoencoder(Checkpoint(demo.path)).module, side).layers.double()
    narrow = getattr(demo.autoencoder, side)
    small = prune(layers)
    x = torch.rand(2, channels, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(small(x), layers(x), rtol=1e-12, atol=1e-12)
    assert _count(small) == _count(narrow) < 0.8 * _count(layers)


def test_a_full_network_keeps_every_channel():
    from diffusers import AutoencoderTiny

    layers = AutoencoderTiny(latent_channels=16).requires_grad_(False).decoder.layers
    small = prune(layers)
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(small(x), layers(x))
    assert _count(small) == _count(layers)


def test_channels_and_blocks_dead_in_odd_places_stay_exact():
    from diffusers import AutoencoderTiny

    torch.manual_seed(4)
    layers = AutoencoderTiny(latent_channels=16).requires_grad_(False).encoder.layers.double()
    # A block first fills a channel that its convolution leaves empty; another block has a dead
    # middle; a convolution without a bias is all zero.
    for part in (layers[0], layers[1].conv[2], layers[3].conv[4]):
        part.weight[5:20] = 0
        part.bias[5:20] = 0
    layers[4].conv[2].weight.zero_()
    layers[4].conv[2].bias.zero_()
    layers[6].weight.zero_()
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    small = prune(layers)
    torch.testing.assert_close(small(x), layers(x), rtol=1e-12, atol=1e-12)
    assert _count(small) < _count(layers)


def test_other_topologies_are_left_alone():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 3, 3))
    assert prune(layers) is layers
