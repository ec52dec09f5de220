import pytest
import torch
from torch import nn

from mucald.errors import AttackError
from mucald_studies.attacks.harness.fitting import Budget, fit


class Number(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(1.0))


def test_training_ends_when_the_held_out_loss_is_flat():
    model = Number()
    budget = Budget(max_steps=5000, interval=5, patience=2, reductions=1, rate=0.05)
    curve = fit(model, lambda _: model.value.square() + 1, lambda: model.value.square() + 1, budget)
    assert curve[-1][0] < 1000
    assert curve[-1][1] == pytest.approx(1, abs=0.02)
    assert curve[0][1] > 1.2


def test_the_best_weights_are_kept_and_not_the_last():
    model = Number()
    losses = iter([3.0, 1.0, 2.0, 4.0])
    seen = []

    def held_out():
        seen.append(float(model.value.detach()))
        return torch.tensor(next(losses))

    fit(model, lambda _: model.value, held_out, Budget(max_steps=4, interval=1, patience=9, rate=0.1))
    assert float(model.value.detach()) == seen[1]


def test_the_end_comes_at_the_budget():
    model = Number()
    curve = fit(
        model, lambda _: model.value, lambda: model.value, Budget(max_steps=7, interval=3, patience=99)
    )
    assert [step for step, _ in curve] == [3, 6, 7]


def test_a_training_that_diverges_is_named():
    model = Number()
    with pytest.raises(AttackError, match="diverged at step 2"):
        fit(model, lambda _: model.value, lambda: torch.tensor(float("nan")), Budget(max_steps=4, interval=2))


@pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"auxiliary": 0}, {"leaked": 0.0}, {"leaked": 1.0}])
def test_a_senseless_budget_is_refused(wrong):
    with pytest.raises(AttackError):
        Budget(**wrong)
