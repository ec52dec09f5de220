"""Encoder and decoder are those of MONAI's DynUNet, in names, first weights' spread and outputs."""

import pytest
import torch
from monai.networks.nets import DynUNet

from mucald.nets.dynunet import Decoder, Encoder

FEATURES = (4, 6, 8, 10)
ENCODERS = ("input_block", "downsamples", "bottleneck")
DECODERS = ("upsamples", "output_block")


def monais(dims: int) -> DynUNet:
    torch.manual_seed(3)
    levels = len(FEATURES)
    return DynUNet(dims, 5, 3, [3] * levels, [1, 2, 2, 2], [2, 2, 2], filters=list(FEATURES))


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_go_either_way_by_their_prefixes_and_outputs_are_equal(dims):
    theirs, encoder, decoder = monais(dims), Encoder(dims, 5, FEATURES), Decoder(dims, FEATURES, 3)
    for ours, prefixes in ((encoder, ENCODERS), (decoder, DECODERS)):
        state = {name: t for name, t in theirs.state_dict().items() if name.startswith(prefixes)}
        assert list(state) == list(ours.state_dict())
        ours.load_state_dict(state)
    inputs = torch.randn(2, 5, *[16] * dims)
    outputs = [theirs(inputs), decoder(encoder(inputs))]
    assert outputs[0].shape == (2, 3, *[16] * dims)
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().mean().backward()
    own = encoder.input_block.conv1[0].weight.grad
    assert torch.equal(own, theirs.input_block.conv1.conv.weight.grad)


@pytest.mark.parametrize("dims", [2, 3])
def test_first_weights_are_spread_as_in_monai(dims):
    theirs = dict(monais(dims).named_parameters())
    for ours in (Encoder(dims, 5, FEATURES), Decoder(dims, FEATURES, 3)):
        for name, parameter in ours.named_parameters():
            if parameter.ndim > 1 and parameter.numel() > 200:
                assert float(parameter.detach().std() / theirs[name].detach().std()) == pytest.approx(
                    1, abs=0.3
                )
            elif parameter.ndim == 1:
                assert torch.equal(parameter, theirs[name])


def test_an_encoder_gives_a_skip_connection_for_every_level_but_the_deepest():
    deepest, skips = Encoder(3, 2, FEATURES)(torch.randn(1, 2, 16, 16, 8))
    assert deepest.shape == (1, 10, 2, 2, 1)
    assert [tuple(skip.shape[1:]) for skip in skips] == [(4, 16, 16, 8), (6, 8, 8, 4), (8, 4, 4, 2)]
