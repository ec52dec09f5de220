import pytest
import torch
from next_states import next_states
from torch import Tensor

from mucald.aggregation import Contribution, make_rule
from mucald.aggregation.fedbone import aggregated
from mucald.errors import ConfigError
from mucald.randomness import normal

SITES = ("ankara", "berlin", "cairo")


def fedbone(learning_rate: float = 1.0, momentum: float = 0.0):
    return make_rule("fedbone", {"learning_rate": learning_rate, "momentum": momentum})


def numbers(*key: str, rows: int = 4, columns: int = 20) -> Tensor:
    return normal((rows, columns), *key).double()


def contributions(states: list[dict[str, Tensor]]) -> list[Contribution]:
    return [Contribution(site, state, 1) for site, state in zip(SITES, states, strict=True)]


def by_hand(gradients: Tensor, reference: Tensor) -> Tensor:
    """GPAggregation written out, vector by vector."""
    cosines = torch.stack([g @ reference / (g.norm() * reference.norm()) for g in gradients])
    attention = (cosines - cosines.min()).exp()
    attention = attention / attention.sum()
    scaled = [len(gradients) * a * g for a, g in zip(attention, gradients, strict=True)]
    projected = []
    for i, vector in enumerate(scaled):
        for j, other in enumerate(scaled):
            if i != j and vector @ other < 0:
                vector = vector - (vector @ other) / (other @ other) * other
        projected.append(vector)
    return torch.stack(projected).mean(dim=0)


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_aggregation_is_what_the_steps_say(seed):
    gradients, reference = numbers(seed, "g"), numbers(seed, "r", rows=1)[0]
    assert ((gradients @ gradients.T) < 0).any(), "there are conflicts"
    torch.testing.assert_close(aggregated(gradients, reference), by_hand(gradients, reference))


def test_orthogonal_gradients_of_equal_similarity_give_their_mean():
    gradients = torch.linalg.qr(numbers("q", rows=20, columns=4)).Q.T
    torch.testing.assert_close(aggregated(gradients, gradients.mean(dim=0)), gradients.mean(dim=0))


def test_with_a_step_of_one_and_no_momentum_such_gradients_give_the_rule_equal():
    start = {"w": normal((3, 4), "start"), "b": normal((3,), "bias")}
    ends = []
    for number in range(3):
        end = {name: tensor.clone() for name, tensor in start.items()}
        end["w"][number] += 0.5 * torch.tensor([1.0, -1.0, 1.0, 1.0])
        ends.append(end)
    before = dict.fromkeys(SITES, start)
    ours = next_states(fedbone(), before, contributions(ends))
    equal = next_states(make_rule("equal", {}), before, contributions(ends))
    for site in SITES:
        for name in start:
            torch.testing.assert_close(ours[site][name], equal[site][name], rtol=1e-7, atol=1e-8)
        assert not torch.equal(ours[site]["w"], start["w"])


def test_a_gradient_loses_what_opposes_another_and_no_more():
    nothing_alike = torch.zeros(2).double()
    conflict, agreement = torch.tensor([[[1.0, 0.0], [-1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]]).double()
    # (1, 0) becomes (1/2, 1/2) and (-1, 1) becomes (0, 1): each is at right angles to the other as it was.
    assert aggregated(conflict, nothing_alike).tolist() == [0.25, 0.75]
    assert aggregated(agreement, nothing_alike).tolist() == [1.0, 0.5]


def test_a_gradient_like_the_last_aggregate_weighs_more():
    gradients = torch.eye(3).double()
    result = aggregated(gradients, torch.tensor([1.0, 0.2, 0.0]).double())
    assert result[0] > 1 / 3 > result[2]
    assert result.sum() == pytest.approx(1)


def test_gradients_of_zero_are_no_error():
    assert torch.equal(aggregated(torch.zeros(3, 5).double(), torch.zeros(5).double()), torch.zeros(5))


def test_rounds_follow_sgd_with_momentum_on_the_aggregates():
    """The same as torch's SGD, given the aggregates as gradients."""
    rule, memory = fedbone(0.3, 0.9), {}
    shape = (3, 4)
    state = {"w": normal(shape, "start")}
    reference = torch.nn.Parameter(state["w"].double().clone())
    optimiser = torch.optim.SGD([reference], lr=0.3, momentum=0.9)
    previous = None
    for number in range(3):
        moves = [normal(shape, "move", number, site) for site in SITES]
        ends = [{"w": state["w"] - move} for move in moves]
        gradients = torch.stack([(state["w"].double() - end["w"].double()).flatten() for end in ends])
        previous = by_hand(gradients, gradients.mean(dim=0) if previous is None else previous)
        reference.grad = previous.view(shape)
        optimiser.step()
        results = next_states(rule, dict.fromkeys((*SITES, "failed"), state), contributions(ends), memory)
        assert all(torch.equal(result["w"], results["ankara"]["w"]) for result in results.values())
        state = results["ankara"]
        torch.testing.assert_close(state["w"], reference.detach().float(), rtol=1e-5, atol=1e-6)
        assert state["w"].dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0, "momentum": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": 1.0, "momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"learning_rate": 1.0}, "missing key 'aggregation.args.momentum'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_rule("fedbone", arguments)
