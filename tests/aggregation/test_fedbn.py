import pytest
import torch
from tiny_job import PLAIN, Federation, draw, equal_tensors, make_copy, tiny_config
from torch import Tensor, nn

from mucald.federation.method import Contributor
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.server.aggregator import Aggregator
from mucald.methods.split.server.site_copy import SiteCopy

SITES = ("north", "south", "west")
NORMS = (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm)


def without_norms(module: nn.Module) -> None:
    """Replace every normalisation layer by the identity."""
    for name, child in module.named_children():
        if isinstance(child, NORMS):
            setattr(module, name, nn.Identity())
        else:
            without_norms(child)


def norm_names(copy: SiteCopy) -> set[str]:
    return {
        f"{path}.{name}"
        for path, module in copy.segments.named_modules()
        if isinstance(module, NORMS)
        for name in module.state_dict()
    }


def moved_copies(*changes, norms: bool = True) -> list[SiteCopy]:
    """Return copies each of whose floating-point tensors lies elsewhere."""
    copies = [make_copy(tiny_config(PLAIN, *changes), site) for site in SITES]
    for seed, copy in enumerate(copies):
        if not norms:
            without_norms(copy.segments)
        copy.begin_round()
        for tensor in copy.segments.state_dict().values():
            if tensor.is_floating_point():
                tensor += draw(*tensor.shape, seed=seed)
    return copies


def aggregated(rule: str, *changes, norms: bool = True) -> list[dict[str, Tensor]]:
    """Return every site's networks after a round that ``rule`` ends."""
    copies = moved_copies(*changes, norms=norms)
    config = tiny_config(PLAIN, *changes, aggregation={"rule": rule})
    aggregator = Aggregator(config, make_algorithm(config.algorithm))
    aggregator.end_round(copies, dict.fromkeys(SITES, Contributor(4, None)))
    return [copy.segments.state_dict() for copy in copies]


@pytest.mark.parametrize("backbone", ["unet", "swin_unet"])
def test_without_normalisation_layers_it_is_equal(backbone):
    change = {"network": {"backbone": backbone}}
    fedbn, equal = (aggregated(rule, change, norms=False) for rule in ("fedbn", "equal"))
    assert all(equal_tensors(one, other) for one, other in zip(fedbn, equal, strict=True))
    with_norms = zip(aggregated("fedbn", change), aggregated("equal", change), strict=True)
    assert not any(equal_tensors(one, other) for one, other in with_norms)


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
@pytest.mark.parametrize("backbone", ["unet", "swin_unet"])
def test_normalisation_layers_stay_with_the_site_and_all_else_is_equal(backbone, norm, statistics):
    changes = {"network": {"backbone": backbone, "norm": norm}}, {"aggregation": {"statistics": statistics}}
    before = moved_copies(*changes)
    own = norm_names(before[0])
    assert own
    # The Swin-Unet's middle network has layer normalisation, whatever the convolutional levels have.
    assert any("running_var" in name for name in own) is ((backbone, norm) == ("unet", "batch"))
    fedbn, equal = aggregated("fedbn", *changes), aggregated("equal", *changes)
    for copy, state, mean in zip(before, fedbn, equal, strict=True):
        for name, tensor in copy.segments.state_dict().items():
            assert torch.equal(state[name], tensor if name in own else mean[name]), name


def test_over_rounds_each_site_has_its_own_layers_and_the_others_are_one(tmp_path):
    config = tiny_config(PLAIN, network={"norm": "batch"}, aggregation={"rule": "fedbn"})
    federation = Federation(config, tmp_path)
    federation.run(2)
    own = norm_names(federation.copies["north"])
    first, *others = (federation.copies[site].segments.state_dict() for site in SITES)
    for name, tensor in first.items():
        same = all(torch.equal(tensor, other[name]) for other in others)
        if "num_batches" not in name:
            assert same is (name not in own), name
