"""What a round's training began with."""

import pytest
import torch
from tiny_job import CPU, PLAIN, equal_tensors, make_copy, tiny_config

from mucald.methods.split.server.kept_weights import RoundStart
from mucald.state.averages import total_norm


def round_start(folder, proximal, keeps_shared):
    config = tiny_config(PLAIN, losses={"proximal": proximal})
    segments = make_copy(config).segments
    return RoundStart(config, segments, keeps_shared, folder / "start", CPU), segments


def test_it_is_the_present_weights_until_they_are_noted_and_those_until_it_is_forgotten(tmp_path):
    start, segments = round_start(tmp_path, 0.0, keeps_shared=True)
    first = {name: tensor.clone() for name, tensor in segments.state_dict().items() if "middle." in name}
    assert equal_tensors(start.weights(), first)
    start.note()
    with torch.no_grad():
        for parameter in segments.parameters():
            parameter.add_(1.0)
    start.note()
    assert equal_tensors(start.weights(), first), "the second note comes after the first step"
    start.forget()
    assert equal_tensors(start.weights(), {name: segments.state_dict()[name] for name in first})


def test_what_nobody_compares_with_is_not_written(tmp_path):
    start, _ = round_start(tmp_path, 0.0, keeps_shared=False)
    start.note()
    assert start.weights() == {}
    assert list(tmp_path.iterdir()) == []
    assert start.add_proximal_gradient({}) is None


@pytest.mark.parametrize("mu", [0.5, 0.001])
def test_the_proximal_term_is_half_mu_times_the_squared_distance_and_its_gradient_mu_times_the_offset(
    mu, tmp_path
):
    start, segments = round_start(tmp_path, mu, keeps_shared=False)
    middle = dict(segments.middle.named_parameters())
    start.note()
    before = {name: parameter.detach().clone() for name, parameter in middle.items()}
    with torch.no_grad():
        for number, parameter in enumerate(middle.values()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
            parameter.grad = torch.ones_like(parameter)
    next(iter(middle.values())).grad = None
    value = start.add_proximal_gradient(middle)
    offsets = {name: parameter.detach() - before[name] for name, parameter in middle.items()}
    assert value == 0.5 * mu * total_norm(offsets.values()) ** 2
    first, *others = middle
    assert middle[first].grad is None
    assert all(torch.equal(middle[name].grad, torch.add(1, offsets[name], alpha=mu)) for name in others)
