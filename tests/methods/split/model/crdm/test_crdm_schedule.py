import math

import pytest
import torch

from mucald.errors import ConfigError
from mucald.methods.split.model.crdm.schedule import CosineSchedule

SCHEDULE = CosineSchedule()


@pytest.mark.parametrize(
    ("level", "alpha_bar", "gain"),
    [(100, 0.844, 0.43), (200, 0.48995, 1.020), (300, 0.1415, 2.46), (350, 0.036, 5.17), (380, 5.5e-3, 13.5),
     (390, 1.2e-3, 28.5), (398, 1.5e-5, 257), (399, 1.5e-8, 8117)],
)  # fmt: skip
def test_known_levels(level, alpha_bar, gain):
    got = SCHEDULE.alpha_bar(level)
    assert float(got) == pytest.approx(alpha_bar, rel=0.03)
    assert float(SCHEDULE.snr(level)) == pytest.approx(1 / gain**2, rel=0.02)


def test_known_levels_to_all_given_digits():
    assert float(SCHEDULE.alpha_bar(200)) == pytest.approx(0.48995, abs=5e-6)
    assert float(1 / SCHEDULE.snr(399).sqrt()) == pytest.approx(8117, abs=1)


def test_unclipped_levels_follow_the_closed_form():
    def signal(step: int) -> float:
        return math.cos((step / 400 + 0.008) / 1.008 * math.pi / 2) ** 2

    # Only the last beta is clipped, so the product of the others telescopes.
    expected = [signal(step + 1) / signal(0) for step in range(399)]
    torch.testing.assert_close(SCHEDULE.alpha_bar(torch.arange(399)), torch.tensor(expected))


def test_noise_grows_with_the_level():
    levels = SCHEDULE.alpha_bar(torch.arange(400))
    assert bool((levels.diff() < 0).all())
    assert bool((levels > 0).all())


def test_noised_mixes_signal_and_noise_per_sample():
    x, noise = torch.full((2, 3, 4, 4), 2.0), torch.full((2, 3, 4, 4), -1.0)
    x_t = SCHEDULE.noised(x, torch.tensor([200, 300]), noise)
    for sample, alpha_bar in zip(x_t, (0.4899477, 0.1415450), strict=True):
        expected = 2 * math.sqrt(alpha_bar) - math.sqrt(1 - alpha_bar)
        torch.testing.assert_close(sample, torch.full_like(sample, expected))


def test_noise_in_two_steps_has_the_moments_of_one():
    t, s = torch.tensor([120]), torch.tensor([310])
    one = torch.ones(1, 1)
    # The coefficients of x, of the first and of the second noise, found by switching the others off.
    of_x = SCHEDULE.renoised(SCHEDULE.noised(one, t, 0 * one), t, s, 0 * one)
    of_first = SCHEDULE.renoised(SCHEDULE.noised(0 * one, t, one), t, s, 0 * one)
    of_second = SCHEDULE.renoised(0 * one, t, s, one)
    torch.testing.assert_close(of_x.square()[0], SCHEDULE.alpha_bar(s))
    torch.testing.assert_close((of_first.square() + of_second.square())[0], 1 - SCHEDULE.alpha_bar(s))


def test_posterior_mean_is_the_regression_of_x_t_on_x_s():
    t, s = torch.tensor([200]), torch.tensor([260])
    a_t, a_s = float(SCHEDULE.alpha_bar(t)), float(SCHEDULE.alpha_bar(s))
    x0, x_s = 0.7, -0.4
    # Given x0, (x_t, x_s) is Gaussian: slope = cov(x_t, x_s) / var(x_s).
    slope = math.sqrt(a_s / a_t) * (1 - a_t) / (1 - a_s)
    expected = math.sqrt(a_t) * x0 + slope * (x_s - math.sqrt(a_s) * x0)
    got = SCHEDULE.posterior_mean(torch.tensor([[x0]]), torch.tensor([[x_s]]), t, s)
    assert float(got) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("level", [-1, 400, torch.tensor([0, 400]), torch.tensor([1.0])])
def test_level_outside_the_schedule(level):
    with pytest.raises(ConfigError, match="from 0 to 399"):
        SCHEDULE.alpha_bar(level)


def test_impossible_schedule():
    with pytest.raises(ConfigError, match="timesteps"):
        CosineSchedule(timesteps=1)
