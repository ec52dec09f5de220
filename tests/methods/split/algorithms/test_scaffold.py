from typing import Any

import pytest
import torch
from tiny_job import PLAIN, Federation, draw, equal_tensors, tiny_config
from torch import Tensor, nn

from mucald.aggregation import State
from mucald.methods.split.algorithms.scaffold import Scaffold

SCAFFOLD: dict[str, Any] = {"algorithm": {"name": "scaffold"}}
SITES = ("north", "south", "west")
RATE = 0.05


class Quadratic:
    """A site whose mini-batch losses are quadratics in two parameters; trained by plain SGD."""

    def __init__(self, site: str, number: int, steps: int):
        self.site = site
        self.targets = draw(steps, 5, seed=number).double()
        self.scales = draw(steps, 5, seed=100 + number).double().square()

    def train(self, scaffold: Scaffold, start: Tensor, memory: State, scratch: State) -> Tensor:
        middle = nn.ParameterDict({"a": start[:2].clone(), "b": start[2:].clone()})
        optimiser = torch.optim.SGD(middle.parameters(), lr=RATE)
        for target, scale in zip(self.targets, self.scales, strict=True):
            optimiser.zero_grad()
            weights = torch.cat([middle["a"], middle["b"]])
            (scale * (weights - target).square()).sum().backward()
            scaffold.adjust_gradients(self.site, dict(middle.named_parameters()), memory, scratch)
            optimiser.step()
        return torch.cat([middle["a"], middle["b"]]).detach()


def flat(memory: State, prefix: str) -> Tensor:
    zeros = {"a": torch.zeros(2), "b": torch.zeros(3)}
    return torch.cat([memory.get(f"{prefix}.{name}", zero).double() for name, zero in zeros.items()])


def test_under_sgd_the_variates_are_those_of_option_ii():
    """c_i - c + (x - y_i) / (K η), and the server's own update, over rounds in which a site may fail."""
    scaffold, memory = Scaffold(), {}
    steps = {"north": 3, "south": 5, "west": 4}
    problems = [Quadratic(site, number, steps[site]) for number, site in enumerate(SITES)]
    start = draw(5, seed=9).double()
    for failed in ((), ("west",), ()):
        scratches, ends, expected = {}, {}, {}
        before = {site: flat(memory, f"site.{site}") for site in SITES}
        server = flat(memory, "server")
        for problem in problems:
            site, scratch = problem.site, {}
            ends[site] = problem.train(scaffold, start, memory, scratch)
            if site not in failed:
                scratches[site] = scratch
                expected[site] = before[site] - server + (start - ends[site]) / (steps[site] * RATE)
        middles = {site: {"a": end[:2], "b": end[2:]} for site, end in ends.items()}
        scaffold.end_round(middles, scratches, memory)
        for site in SITES:
            torch.testing.assert_close(flat(memory, f"site.{site}"), expected.get(site, before[site]))
        changes = [expected[site] - before[site] for site in expected]
        share = len(expected) / len(SITES)
        torch.testing.assert_close(flat(memory, "server"), server + share * torch.stack(changes).mean(dim=0))
        start = torch.stack([ends[site] for site in expected]).mean(dim=0)
    assert flat(memory, "server").abs().min() > 0


def test_what_a_step_adds_is_the_difference_of_the_variates():
    memory = {"server.w": torch.tensor([3.0, 1.0]), "site.north.w": torch.tensor([0.5, -1.0])}
    middle = {"w": nn.Parameter(torch.zeros(2)), "idle": nn.Parameter(torch.zeros(2))}
    middle["w"].grad = torch.tensor([1.0, 1.0])
    Scaffold().adjust_gradients("north", middle, memory, {})
    assert middle["w"].grad.tolist() == [3.5, 3.0]
    assert middle["idle"].grad is None
    middle["w"].grad = torch.tensor([1.0, 1.0])
    Scaffold().adjust_gradients("newcomer", middle, memory, {})
    assert middle["w"].grad.tolist() == [4.0, 2.0], "a variate that does not exist yet is zero"


def test_the_first_round_is_splitfeds_and_the_second_is_not(tmp_path):
    scaffold = Federation(tiny_config(PLAIN, SCAFFOLD), tmp_path / "scaffold")
    splitfed = Federation(tiny_config(PLAIN), tmp_path / "splitfed")
    for alike in (True, False):
        scaffold.run(1)
        splitfed.run(1)
        for site in SITES:
            assert equal_tensors(scaffold.parameters(site), splitfed.parameters(site)) is alike


def test_the_servers_variate_is_the_mean_of_the_sites_while_all_take_part(tmp_path):
    federation = Federation(tiny_config(PLAIN, SCAFFOLD), tmp_path)
    for _ in range(2):
        federation.run(1)
        memory = federation.coordinator.method._aggregator.algorithm_state
        names = [name.removeprefix("server.") for name in memory if name.startswith("server.")]
        assert set(names) == {
            name for name, _ in federation.copies["north"].segments.middle.named_parameters()
        }
        for name in names:
            total = sum(memory[f"site.{site}.{name}"] for site in SITES)
            torch.testing.assert_close(total, 3 * memory[f"server.{name}"], rtol=1e-4, atol=1e-7)


def test_a_site_that_fails_keeps_its_variate():
    scaffold, memory = Scaffold(), {}
    notes = {site: {"steps": torch.tensor(2.0), "w": torch.tensor([4.0])} for site in SITES}
    middles = {site: {"w": torch.zeros(1)} for site in SITES}
    scaffold.end_round(middles, notes, memory)
    notes["south"]["w"] = torch.tensor([10.0])
    scaffold.end_round(middles, {"south": notes["south"]}, memory)
    assert [memory[f"site.{site}.w"].item() for site in SITES] == [2.0, 5.0, 2.0]
    assert memory["server.w"].item() == pytest.approx(3.0)
