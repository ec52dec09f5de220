import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from tiny_job import tiny_config

from mucald.methods.split.site.release import Release
from mucald.wire.codec import FORMATS, decode_tensor

T = 300
SHAPE = (3, 4, 32, 32)


def release(secret: str = "a secret of the site", site: str = "north", **changes) -> Release:
    return Release(tiny_config(release=changes).release, secret, site)


def latent(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def alpha_bar(t: int, timesteps: int = 400, s: float = 0.008) -> float:
    """The cosine schedule in closed form: a product of ratios is the ratio of its ends."""

    def f(step: int) -> float:
        return math.cos((step / timesteps + s) / (1 + s) * math.pi / 2) ** 2

    return f(t + 1) / f(0)


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(np.corrcoef(one.detach().flatten(), other.detach().flatten())[0, 1])


def test_every_sample_is_standardised_whatever_its_scale():
    loud = latent()
    loud[1] = 1000 * loud[1] + 50
    bounded = release(clip=100.0).bounded(loud)
    np.testing.assert_allclose(bounded.mean(dim=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(bounded.var(dim=(1, 2, 3), unbiased=False), 1, rtol=1e-4)
    torch.testing.assert_close(bounded[1], release(clip=100.0).bounded(latent())[1], atol=1e-3, rtol=1e-3)


def test_what_lies_beyond_the_clip_is_clamped_and_nothing_else_changes():
    x = latent()
    x[0, 0, 0, :2] = torch.tensor([1000.0, -1000.0])
    free, bounded = release(clip=100.0).bounded(x), release(clip=1.5).bounded(x)
    assert bounded.max() == 1.5
    assert bounded.min() == -1.5
    torch.testing.assert_close(bounded, torch.from_numpy(np.clip(free.numpy(), -1.5, 1.5)))


def test_a_constant_latent_gives_zeros():
    assert bool((release().bounded(torch.full(SHAPE, 7.0)) == 0).all())


def test_the_release_is_signal_and_noise_at_level_t():
    """x_t = √ᾱ x + √(1−ᾱ) ε with ᾱ in closed form."""
    released = release().latent(latent(), 0, 0, "train")
    signal = alpha_bar(T)
    expected = math.sqrt(signal) * release().bounded(latent()) + math.sqrt(1 - signal) * released.noise
    torch.testing.assert_close(released.latent, expected, atol=1e-5, rtol=1e-5)
    assert released.level.dtype == torch.int32
    assert released.level.tolist() == [T] * SHAPE[0]


def test_the_noise_is_standard_normal():
    noise = release().latent(latent(), 0, 0, "train").noise
    assert kstest(noise.flatten().numpy(), norm.cdf).pvalue > 0.01
    assert abs(float(noise.var()) - 1) < 4 * math.sqrt(2 / noise.numel())


def test_the_noise_is_independent_across_samples_channels_sites_rounds_and_steps():
    x = latent()
    draws = [
        release().latent(x, 0, 0, "train").noise,
        release().latent(x, 1, 0, "train").noise,
        release().latent(x, 0, 1, "train").noise,
        release().latent(x, 0, 0, "validation").noise,
        release(site="south").latent(x, 0, 0, "train").noise,
        release(secret="the secret of another").latent(x, 0, 0, "train").noise,
    ]
    planes = torch.stack(draws).flatten(0, 2).flatten(1)
    assert len(planes) == len(draws) * SHAPE[0] * SHAPE[1]
    correlations = np.corrcoef(planes)[np.triu_indices(len(planes), k=1)]
    # Of 2556 pairs of 1024 numbers each, the largest correlation lies near 3.9 standard errors.
    assert np.abs(correlations).max() < 5 / math.sqrt(planes.shape[1])
    assert np.std(correlations) == pytest.approx(1 / math.sqrt(planes.shape[1]), rel=0.1)


def test_equal_samples_of_one_batch_get_different_noise():
    noise = release().latent(latent()[:1].expand(SHAPE), 0, 0, "train").noise
    assert all(abs(correlation(a, b)) < 0.08 for a, b in itertools.combinations(noise, 2))


def test_an_equal_latent_under_an_equal_key_is_released_to_the_bit():
    first, second = (release().latent(latent(), 2, 5, "train").latent for _ in range(2))
    assert torch.equal(first, second)


def test_subtracting_two_releases_of_a_moving_latent_leaves_the_noise_in_place():
    """Equal keys with noise of their own: the difference has the variance of two draws."""
    x = latent()
    moved = x.clone()
    moved[0, 0, 0, 0] += 1e-3
    one, other = (release().latent(y, 0, 0, "train") for y in (x, moved))
    assert abs(correlation(one.noise, other.noise)) < 5 / math.sqrt(x.numel())
    difference = float((one.latent - other.latent).detach().std())
    assert difference == pytest.approx(math.sqrt(2 * (1 - alpha_bar(T))), rel=0.02)


def test_the_same_release_in_another_round_is_the_same_in_mode_once_alone():
    def in_rounds(mode: str) -> list[torch.Tensor]:
        return [release(mode=mode).latent(latent(), number, 3, "validation").latent for number in (1, 2)]

    assert torch.equal(*in_rounds("once"))
    assert not torch.equal(*in_rounds("fresh"))
    other = release(mode="once").latent(latent(), 1, 4, "validation").latent
    assert abs(correlation(other - in_rounds("once")[0], latent())) < 0.05


def difference_and_image(mode: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the difference of two releases as the server reads them, and that of the clean latents."""
    one, other = latent(), latent() + 0.1 * latent(1)
    of = release(mode=mode, noised=True)
    keys = ((0, 0, "train", 4, 7, 2), (5, 9, "train", 4, 7, 2))
    sent = [
        decode_tensor("float32", memoryview(FORMATS["float32"].encode(of.latent(x, *key).latent)), SHAPE)
        for x, key in zip((one, other), keys, strict=True)
    ]
    return sent[0] - sent[1], of.bounded(one) - of.bounded(other)


@pytest.mark.parametrize("mode", ["fresh", "once"])
def test_two_releases_differ_by_noise(mode):
    difference, clean = difference_and_image(mode)
    assert abs(correlation(difference, clean)) < 0.1
    assert float(difference.std()) == pytest.approx(math.sqrt(2 * (1 - alpha_bar(T))), rel=0.02)


def test_without_noise_the_bounded_latent_leaves_and_nothing_else():
    released = release(noised=False).latent(latent(), 0, 0, "train")
    assert torch.equal(released.latent, release().bounded(latent()))
    assert released.noise is None
    assert released.level.tolist() == [0] * SHAPE[0]


def test_the_gradient_reaches_the_front_end_through_standardisation_and_clamp():
    weight = latent(1)
    x = latent().requires_grad_()
    (release(clip=1.0).latent(x, 0, 0, "train").latent * weight).sum().backward()
    y = latent().requires_grad_()
    std, mean = torch.std_mean(y, dim=(1, 2, 3), correction=0, keepdim=True)
    clamped = torch.where(((y - mean) / std).abs() < 1, (y - mean) / std, ((y - mean) / std).sign())
    (math.sqrt(alpha_bar(T)) * clamped * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-4)
    assert float(x.grad.abs().max()) > 0.01


def proxies(rows: int = 4000) -> torch.Tensor:
    values = latent(2, (rows, 4))
    values[::7, 1] = torch.nan
    return values


def test_proxies_are_noised_with_the_stated_variance_and_missing_ones_masked():
    values = proxies()
    noised, present = release(proxy_noise_std=0.5).proxies(values, "train")
    assert present.dtype == torch.uint8
    assert torch.equal(present.bool(), ~values.isnan())
    assert bool((noised[values.isnan()] == 0).all())
    noise = (noised - values)[present.bool()].numpy()
    assert kstest(noise, norm(scale=0.5).cdf).pvalue > 0.01
    columns = np.corrcoef(np.where(values.isnan(), 0, noised - values), rowvar=False)
    assert np.abs(columns - np.eye(4)).max() < 5 / math.sqrt(len(values))


def test_proxies_without_noise_are_the_proxies():
    noised, present = release(proxy_noise_std=0.0).proxies(proxies(), "train")
    assert torch.equal(noised[present.bool()], proxies()[present.bool()])


def test_asking_for_proxies_again_tells_nothing_more():
    first, second = (release().proxies(proxies(), "train")[0] for _ in range(2))
    assert torch.equal(first, second)


def test_proxies_of_other_splits_sites_and_images_have_noise_of_their_own():
    """Shared noise would cancel in a difference: one more image moves the z-scores of all others."""
    values = latent(3, (4000, 4))
    moved = 0.999 * values + 0.001
    noises = [
        release().proxies(values, "train")[0] - values,
        release().proxies(values, "validation")[0] - values,
        release(site="south").proxies(values, "train")[0] - values,
        release(secret="the secret of another").proxies(values, "train")[0] - values,
        release().proxies(moved, "train")[0] - moved,
    ]
    for one, other in itertools.combinations(noises, 2):
        assert abs(correlation(one, other)) < 5 / math.sqrt(one.numel())


def norms(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(x, dim=(1, 2, 3))


def test_a_gradient_without_a_bound_leaves_as_it_is_and_a_wide_one_changes_no_bit():
    gradient = latent()
    assert release().gradient(gradient, 0, 0, "train") is gradient
    assert torch.equal(release(gradient_clip=1e6).gradient(gradient, 0, 0, "train"), gradient)


def test_every_samples_gradient_is_scaled_to_the_clip_on_its_own():
    gradient = latent()
    gradient[0] *= 1e-6
    gradient[1] = 0
    clipped = release(gradient_clip=0.5).gradient(gradient, 0, 0, "train")
    assert torch.equal(clipped[:2], gradient[:2])
    torch.testing.assert_close(norms(clipped)[2], torch.tensor(0.5))
    torch.testing.assert_close(clipped[2], gradient[2] * (0.5 / norms(gradient)[2]))


def test_the_noise_on_a_gradient_is_gaussian_in_units_of_the_clip_and_new_for_every_gradient():
    settings = {"gradient_clip": 0.5, "gradient_noise_std": 0.1}
    clipped = release(gradient_clip=0.5).gradient(latent(), 0, 0, "train")
    noise = release(**settings).gradient(latent(), 0, 0, "train") - clipped
    assert kstest(noise.flatten(), norm(0, 0.05).cdf).pvalue > 0.01
    again = release(**settings).gradient(latent(), 0, 0, "train") - clipped
    assert torch.equal(again, noise)
    elsewhere = [
        release(**settings).gradient(latent(), 0, 1, "train") - clipped,
        release("another secret of it", **settings).gradient(latent(), 0, 0, "train") - clipped,
        release(**settings).gradient(latent(1), 0, 0, "train")
        - release(gradient_clip=0.5).gradient(latent(1), 0, 0, "train"),
    ]
    assert all(abs(correlation(noise, other)) < 0.05 for other in elsewhere)
