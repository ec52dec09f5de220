import dataclasses
from typing import Any

import pytest
import torch
from tiny_job import PLAIN, draw, equal_models, run_job, tiny_config
from torch import Tensor, nn

from mucald.aggregation import State
from mucald.errors import ConfigError
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.algorithms.mocha import RELATION, Mocha
from mucald.methods.split.config import AlgorithmConfig

SITES = ("north", "south", "west")
LOCAL = {"aggregation": {"rule": "local"}}


def mocha(regularisation: float) -> dict[str, Any]:
    args = {"regularisation": regularisation, "ridge": 1e-4}
    return {"algorithm": {"name": "mocha", "args": args}}


def networks(*, spread: float = 1.0) -> dict[str, State]:
    """Return three networks, ``spread`` apart from what they have in common."""
    common = draw(12, seed=50)
    columns = {site: common + spread * draw(12, seed=number) for number, site in enumerate(SITES)}
    return {site: {"b": column[:2], "a": column[2:].view(2, 5)} for site, column in columns.items()}


def matrix(middles: dict[str, State]) -> Tensor:
    """Return W (P, N), its rows in the order of the parameters' names."""
    return torch.stack([torch.cat([m["a"].flatten(), m["b"]]) for m in middles.values()], dim=1).double()


def added(algorithm: Mocha, middle: State, memory: State, site: str) -> Tensor:
    """Return what the algorithm adds to gradients of zero."""
    parameters = {name: nn.Parameter(tensor.clone()) for name, tensor in middle.items()}
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    algorithm.adjust_gradients(site, parameters, memory, {})
    return torch.cat([parameters["a"].grad.flatten(), parameters["b"].grad])


def learned(algorithm: Mocha, middles: dict[str, State]) -> State:
    memory = {}
    algorithm.end_round(middles, {}, memory)
    return memory


def test_the_relation_is_the_closed_form():
    middles = networks()
    relation = learned(Mocha(0.1, 1e-3), middles)[RELATION]
    gram = matrix(middles).T @ matrix(middles)
    gram += 1e-3 * gram.trace() / 3 * torch.eye(3)
    assert relation.trace().item() == pytest.approx(1)
    torch.testing.assert_close(relation, relation.T)
    root = relation * (gram.trace() / (relation @ relation).trace()).sqrt()
    torch.testing.assert_close(root @ root, gram)
    assert torch.linalg.eigvalsh(relation).min() > 0


def test_no_other_relation_of_trace_one_makes_the_regulariser_smaller():
    middles = networks()
    best = learned(Mocha(0.1, 1e-9), middles)[RELATION]
    w = matrix(middles)

    def regulariser(relation: Tensor) -> Tensor:
        return (w @ torch.linalg.inv(relation) @ w.T).trace()

    for seed in range(20):
        other = best + 0.02 * draw(3, 3, seed=seed).double() @ draw(3, 3, seed=seed).double().T
        assert regulariser(other / other.trace()) > regulariser(best)


def test_a_steps_gradient_is_that_of_the_regulariser():
    """λ/2 tr(W Ω⁻¹ Wᵀ) by autograd, site i's column as it is now, the others as they were."""
    algorithm, middles, present = Mocha(0.3, 1e-3), networks(), networks(spread=0.7)
    memory = learned(algorithm, middles)
    for number, site in enumerate(SITES):
        w = matrix(middles)
        w[:, number] = matrix(present)[:, number]
        w.requires_grad_()
        (0.3 / 2 * (w @ torch.linalg.inv(memory[RELATION]) @ w.T).trace()).backward()
        found = added(algorithm, present[site], memory, site)
        torch.testing.assert_close(found.double(), w.grad[:, number], rtol=1e-4, atol=1e-5)


def test_before_the_first_relation_nothing_is_added():
    assert not added(Mocha(0.3, 1e-3), networks()["north"], {}, "north").any()


def test_identical_sites_stay_identical():
    algorithm, middles = Mocha(0.3, 1e-4), networks(spread=0.0)
    memory = learned(algorithm, middles)
    first, *others = (added(algorithm, middles[site], memory, site) for site in SITES)
    assert torch.linalg.eigvalsh(memory[RELATION]).min() > 0, "equal columns need the ridge"
    # Together they only shrink: Ω's eigenvalue for what they have in common is nearly all of its trace.
    common = matrix(middles)[:, 0].float()
    share = torch.linalg.eigvalsh(memory[RELATION]).max().item()
    torch.testing.assert_close(first, 0.3 / share * common, rtol=1e-4, atol=1e-6)
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-6)


def test_sites_are_drawn_together_the_more_the_more_alike_they_are():
    algorithm = Mocha(1.0, 1e-6)
    pulls = []
    for spread in (0.01, 0.1, 1.0):
        middles = networks(spread=spread)
        w = matrix(middles)
        memory = learned(algorithm, middles)
        pull = torch.stack([added(algorithm, middles[site], memory, site) for site in SITES], dim=1).double()
        apart = w - w.mean(dim=1, keepdim=True)
        assert (pull * apart).sum() > 0
        pulls.append(((pull * apart).sum() / apart.square().sum()).item())
    assert pulls[0] > pulls[1] > pulls[2]


def test_the_memory_does_not_follow_the_networks_into_the_next_round():
    algorithm, middles = Mocha(0.3, 1e-3), networks()
    memory = learned(algorithm, middles)
    before = {name: tensor.clone() for name, tensor in memory.items()}
    for middle in middles.values():
        for tensor in middle.values():
            tensor += 1.0
    assert all(torch.equal(tensor, before[name]) for name, tensor in memory.items())


def test_without_its_weight_it_is_local(tmp_path):
    local = run_job(tiny_config(PLAIN, LOCAL), tmp_path / "local")
    off, on = (run_job(tiny_config(PLAIN, LOCAL, mocha(x)), tmp_path / str(x)) for x in (0.0, 0.01))
    assert off.results["rounds"] == local.results["rounds"]
    assert all(equal_models(run, local) is (run is off) for run in (off, on))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regularisation": -0.1}, "regularisation must not be negative"),
        ({"ridge": 0.0}, "ridge must be positive"),
        ({"rigde": 0.1}, "did you mean 'ridge'"),
    ],
)
def test_wrong_arguments(change, message):
    config = AlgorithmConfig("mocha", {"regularisation": 0.1, "ridge": 0.1})
    with pytest.raises(ConfigError, match=message):
        make_algorithm(dataclasses.replace(config, args=config.args | change))
