"""What one image can change of a step, and what an attacker can tell of it."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta
from tiny_job import draw
from torch import Tensor, nn

from mucald.errors import TrainingError
from mucald.privacy.dp.steps import LOSS_SHARE, PrivateStep
from mucald.privacy.gaussian import epsilon

STEP = PrivateStep(clip=1.5, noise_multiplier=2.0, largest_loss=4.0)


def model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 5))


def squares(net: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
    return (net(x[rows]) - x[rows]).square().mean(dim=1)


def released(step: PrivateStep, x: Tensor, key: tuple = (1,), **more) -> tuple[Tensor, float]:
    net = model()
    loss = step.gradients(net, lambda rows: squares(net, x, rows), len(x), key, **more)
    return torch.cat([p.grad.flatten() for p in net.parameters()]), loss


def test_without_noise_it_is_the_mean_of_clipped_gradients_and_losses():
    net, x = model(), draw(7, 5)
    gradient, _ = released(PrivateStep(1e6, 0.0, 1e6), x)
    mean = torch.autograd.grad(squares(net, x, torch.arange(7)).mean(), list(net.parameters()))
    torch.testing.assert_close(gradient, torch.cat([g.flatten() for g in mean]), rtol=1e-5, atol=1e-6)
    _, loss = released(PrivateStep(1.0, 0.0, 1e6), x)
    assert loss == pytest.approx(squares(net, x, torch.arange(7)).mean().item(), rel=1e-5)


def test_one_image_moves_gradient_and_loss_by_at_most_the_sensitivity():
    quiet, x = PrivateStep(1.5, 0.0, 4.0), draw(6, 5)
    wild = 1e3 * draw(1, 5, seed=9)
    without, loss_without = released(quiet, torch.cat((x, torch.zeros(0, 5))))
    with_it, loss_with = released(quiet, torch.cat((x, wild)))
    share = LOSS_SHARE * quiet.clip / quiet.largest_loss
    moved = torch.cat((7 * with_it - 6 * without, torch.tensor([share * (7 * loss_with - 6 * loss_without)])))
    assert float(moved.norm()) == pytest.approx(quiet.sensitivity, rel=1e-4)


def test_noise_has_the_deviation_that_the_accounting_assumes():
    x = draw(4, 5)
    quiet, _ = released(PrivateStep(1.5, 0.0, 4.0), x)
    noise = torch.stack([released(STEP, x, (number,))[0] - quiet for number in range(200)]) * len(x)
    assert float(noise.std()) == pytest.approx(STEP.noise_multiplier * STEP.sensitivity, rel=0.02)
    assert abs(float(noise.mean())) < 0.1
    losses = [released(STEP, x, (number,))[1] for number in range(300)]
    share = LOSS_SHARE * STEP.clip / STEP.largest_loss
    expected = STEP.noise_multiplier * STEP.sensitivity / share
    assert np.std(losses) * len(x) == pytest.approx(expected, rel=0.15)


def test_equal_keys_give_equal_noise_and_others_another():
    x = draw(4, 5)
    assert torch.equal(released(STEP, x, ("a",))[0], released(STEP, x, ("a",))[0])
    assert not torch.equal(released(STEP, x, ("a",))[0], released(STEP, x, ("b",))[0])


def test_what_no_image_takes_part_in_is_added_as_it_is():
    quiet, x = PrivateStep(1.5, 0.0, 4.0), draw(6, 5)
    net = model()
    plain, _ = released(quiet, x)
    parameters = list(net.parameters())

    def extra() -> Tensor:
        return 3 * parameters[0].sum() + 0 * sum(p.sum() for p in parameters[1:])

    quiet.gradients(net, lambda rows: squares(net, x, rows), 6, (0,), extra=extra)
    both = torch.cat([p.grad.flatten() for p in net.parameters()])
    torch.testing.assert_close(both[:30], plain[:30] + 3)
    torch.testing.assert_close(both[30:], plain[30:])


def test_a_gradient_that_is_not_finite_is_refused():
    with pytest.raises(TrainingError, match="not finite"):
        released(STEP, torch.full((2, 5), float("nan")))


def audited(step: PrivateStep, delta: float, trials: int) -> float:
    """Return a lower bound on ε, right with 95 % confidence, from guesses whether a canary took part.

    The attacker chooses all images and the starting weights, sees every noised gradient, and measures how far
    it points along the canary's (Jagielski et al., NeurIPS 2020; Nasr et al., USENIX Security 2023).
    """
    canary, x = 50 * draw(1, 5, seed=5), draw(3, 5)
    quiet = PrivateStep(step.clip, 0.0, step.largest_loss)
    base = 3 * released(quiet, x)[0]
    direction = 4 * released(quiet, torch.cat((x, canary)))[0] - base
    direction = direction / direction.norm()
    scores = {}
    for name, data in (("in", torch.cat((x, canary))), ("out", x)):
        scores[name] = [
            float((len(data) * released(step, data, (name, trial))[0] - base) @ direction)
            for trial in range(trials)
        ]
    # Thresholds come from one half, the counts from the other.
    best, half = 0.0, trials // 2
    middle = (np.mean(scores["in"][:half]) + np.mean(scores["out"][:half])) / 2
    for threshold in (middle, *np.quantile(scores["out"][:half], (0.2, 0.5, 0.8, 0.95))):
        hits = sum(score > threshold for score in scores["in"][half:])
        false = sum(score > threshold for score in scores["out"][half:])
        rest = trials - half
        confidence = 0.05 / 10  # over two bounds at five thresholds
        least = beta.ppf(confidence, hits, rest - hits + 1) if hits else 0.0
        most = beta.ppf(1 - confidence, false + 1, rest - false) if false < rest else 1.0
        if least > delta:
            best = max(best, math.log((least - delta) / most))
    return best


CLAIMED = epsilon(1.0, 1e-2)


def test_an_attacker_who_knows_all_but_one_image_finds_less_than_the_claim():
    found = audited(PrivateStep(1.0, 1.0, 4.0), 1e-2, 1200)
    assert 0.5 < found < CLAIMED, "above nothing, so the attack is one"


@pytest.mark.parametrize(
    ("broken", "what"),
    [(PrivateStep(1.0, 0.1, 4.0), "a tenth of the noise"), (PrivateStep(40.0, 1.0 / 40, 4.0), "no clipping")],
)
def test_the_audit_finds_a_step_that_keeps_less_than_it_claims(broken, what):
    """``no clipping``: the noise is that of a clip of 1, but samples keep gradients of up to 40."""
    assert audited(broken, 1e-2, 300) > CLAIMED, what
