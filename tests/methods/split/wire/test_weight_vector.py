import pytest
import torch

from mucald.errors import WireError
from mucald.methods.split.wire.weight_vector import from_vector, to_vector
from mucald.nets import build_backbone


def front_end(norm: str) -> torch.nn.Module:
    return build_backbone("unet", features=(4, 8), cut=1, latent_channels=2, norm=norm).front_end()


@pytest.mark.parametrize("statistics", [False, True])
def test_another_front_end_takes_over_what_is_shared_and_nothing_else(statistics):
    source, target = front_end("batch"), front_end("batch")
    source(torch.ones(2, 3, 8, 8))
    target(torch.zeros(2, 3, 8, 8))
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    from_vector(target, to_vector(source, statistics), statistics)
    parameters = dict(source.named_parameters())
    for name, tensor in target.state_dict().items():
        shared = name in parameters or (statistics and tensor.is_floating_point())
        assert torch.equal(tensor, source.state_dict()[name] if shared else before[name]), name
    means = (tensors["levels.0.0.adn.N.running_mean"] for tensors in (before, source.state_dict()))
    assert not torch.equal(*means)


def test_the_parameters_stay_those_that_an_optimiser_knows():
    module = front_end("instance")
    known = list(module.parameters())
    from_vector(module, torch.zeros_like(to_vector(module, False)), False)
    assert all(one is other for one, other in zip(known, module.parameters(), strict=True))
    assert all(bool((parameter == 0).all()) for parameter in known)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_vector_of_another_length_is_refused_and_changes_nothing(change):
    module = front_end("instance")
    before = to_vector(module, False)
    with pytest.raises(
        WireError, match=rf"WEIGHTS has shape \({len(before) + change},\), not \({len(before)},\)"
    ):
        from_vector(module, torch.zeros(len(before) + change), False)
    with pytest.raises(WireError, match="WEIGHTS has shape"):
        from_vector(module, before[None], False)
    assert torch.equal(to_vector(module, False), before)
