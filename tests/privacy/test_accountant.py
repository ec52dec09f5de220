import importlib.util
import json
import math

import dp_accounting
import numpy as np
import pytest
import torch
from dp_accounting import rdp
from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss
from mucald.privacy.accountant import DELTA, account, epsilon, meaning
from tiny_job import REPOSITORY, tiny_config

from mucald.methods.jobs import load_job
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.site.release import Release

T = 300
SNR = float(CosineSchedule(400).snr(T))
NUMBERS = 4 * 8 * 8


def load_tool():
    spec = importlib.util.spec_from_file_location("privacy_account", REPOSITORY / "tools/privacy_account.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0, 5.0, 30.0, 180.0, 900.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
def test_epsilon_is_where_the_oracle_finds_delta(mu, delta):
    found = epsilon(mu, delta)
    oracle = GaussianPrivacyLoss(1 / mu)
    if found == 0:
        assert oracle.get_delta_for_epsilon(0) <= delta
    else:
        assert oracle.get_delta_for_epsilon(found) == pytest.approx(delta, rel=1e-6)


@pytest.mark.parametrize(("snr", "releases"), [(21.8, 1), (0.961, 24), (0.165, 120), (0.0055, 1)])
def test_the_exact_epsilon_lies_a_little_below_the_renyi_accountants(snr, releases):
    accountant = rdp.RdpAccountant(orders=np.concatenate([np.linspace(1.01, 3, 200), np.arange(3.5, 300)]))
    accountant.compose(dp_accounting.GaussianDpEvent(1 / (2 * math.sqrt(snr))), releases)
    exact, upper = epsilon(2 * math.sqrt(snr * releases)), accountant.get_epsilon(DELTA)
    assert exact < upper < 1.15 * exact


@pytest.mark.parametrize(
    ("snr", "expected"),
    [
        (21.8, (82.7, 1240, 5680)),
        (0.961, (9.75, 86.2, 321)),
        (0.165, (3.45, 24.2, 76.7)),
        (0.0374, (1.50, 9.35, 26.3)),
    ],
)
def test_known_values_for_latents_of_norm_1(snr, expected):
    for releases, value in zip((1, 24, 120), expected, strict=True):
        assert epsilon(2 * math.sqrt(snr * releases)) == pytest.approx(value, rel=4e-3)


@pytest.mark.parametrize("mu", [0.5, 1.0, 3.0])
def test_delta_is_the_excess_of_the_privacy_loss_over_epsilon(mu):
    loss = np.random.default_rng(0).normal(mu**2 / 2, mu, 2_000_000)
    value = epsilon(mu, 0.05)
    excess = np.maximum(1 - np.exp(value - loss), 0).mean()
    assert excess == pytest.approx(0.05, rel=0.02)


def test_epsilon_of_huge_mu_follows_its_asymptote_and_of_none_is_0():
    for mu in (1e3, 1e6, 1e9):
        # Φ⁻¹(1e-5), with the second term of δ of order 1/μ
        assert epsilon(mu) == pytest.approx(mu**2 / 2 + 4.26489 * mu, rel=1e-5)
    assert epsilon(0.0) == 0.0
    assert epsilon(1e-6) == 0.0


def test_no_latent_moves_by_more_than_the_sensitivity_and_opposite_ones_do():
    release = Release(tiny_config().release, "a secret of the site", "north")
    draws = torch.randn(50, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 9 + 3
    bounded = release.bounded(draws)
    assert float(torch.linalg.vector_norm(bounded, dim=(1, 2, 3)).max()) <= math.sqrt(NUMBERS) * (1 + 1e-6)
    signs = torch.sign(draws[:1] - draws[:1].median())
    distance = torch.linalg.vector_norm(release.bounded(signs) - release.bounded(-signs))
    assert float(distance) == pytest.approx(2 * math.sqrt(NUMBERS), rel=1e-3)
    account_of_one = account(tiny_config()).latents["test"]
    scale = math.sqrt(1 + 1 / SNR)  # 1/√ᾱ, since the noise is √(1 − ᾱ)
    assert account_of_one.mu == pytest.approx(float(distance) / scale / math.sqrt(1 - 1 / scale**2), rel=1e-3)


def test_a_clip_below_one_deviation_lowers_the_sensitivity_with_it():
    wide, narrow = (account(tiny_config(release={"clip": clip})).latents["test"].mu for clip in (3.0, 0.25))
    assert narrow == pytest.approx(wide / 4)


@pytest.mark.parametrize("releases", [1, 8])
def test_averaging_the_releases_meets_the_error_floor(releases):
    release = Release(tiny_config().release, "a secret of the site", "north")
    x = torch.randn(40, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    clean, signal = release.bounded(x), math.sqrt(float(CosineSchedule(400).alpha_bar(T)))
    mean = torch.stack([release.latent(x, number).latent / signal for number in range(releases)]).mean(dim=0)
    floor = account(tiny_config(training={"rounds": releases})).latents["train"].error_floor
    assert floor == pytest.approx(1 / (releases * SNR))
    assert float((mean - clean).square().mean()) == pytest.approx(floor, rel=0.02)


def test_releases_and_images_of_a_patient_compose_with_their_root():
    one = account(tiny_config(training={"rounds": 1})).latents["train"]
    assert one.mu == pytest.approx(2 * math.sqrt(NUMBERS * SNR))
    four = account(tiny_config(training={"rounds": 2, "local_epochs": 2})).latents
    assert four["train"].mu == pytest.approx(2 * one.mu)
    assert [four[split].releases for split in ("train", "validation", "test")] == [4, 2, 1]
    patient = account(tiny_config(training={"rounds": 1}), 9).latents["train"]
    assert patient.mu == pytest.approx(3 * one.mu)
    assert patient.error_floor == one.error_floor, "other images do not help to estimate this one's latent"
    assert patient.epsilon == pytest.approx(epsilon(3 * one.mu))


def test_without_noise_no_bound_holds():
    of = account(tiny_config(release={"noised": False}))
    assert all((b.error_floor, b.mu, b.epsilon) == (0.0, None, None) for b in of.latents.values())
    assert "Latents leave without noise" in meaning(of)[0]


def test_with_the_noise_in_the_servers_hands_none_holds_for_training_images():
    of = account(tiny_config(crdm={"supervision": "epsilon"}))
    assert (of.latents["train"].error_floor, of.latents["train"].mu) == (0.0, None)
    assert of.latents["test"].mu is not None
    assert "is given to the server" in meaning(of)[0]


def test_a_single_release_counts_once_however_long_the_run_and_its_gradients_for_every_step():
    run = {"training": {"rounds": 5, "local_epochs": 3}, "release": {"gradient_clip": 1.0}}
    noised = {"release": {"gradient_noise_std": 4.0}}
    fresh, once = (account(tiny_config(run, noised, release={"mode": mode})) for mode in ("fresh", "once"))
    assert [bound.releases for bound in once.latents.values()] == [1, 1, 1]
    assert once.latents["train"] == once.latents["test"] == fresh.latents["test"]
    assert once.latents["train"].error_floor == pytest.approx(1 / SNR)
    assert once.feature_gradients == fresh.feature_gradients
    assert once.feature_gradients.releases == 15


def test_no_bound_holds_for_what_shares_its_noise_and_leaves_twice():
    of = account(tiny_config(release={"mode": "memoised"}))
    assert [bound.mu for bound in of.latents.values()][:2] == [None, None]
    assert of.latents["test"] == account(tiny_config()).latents["test"]
    assert "cancels" in meaning(of)[0]
    single = account(tiny_config(release={"mode": "memoised"}, training={"rounds": 1}))
    assert single.latents["train"].mu is not None


def test_gradients_have_a_bound_that_counts_their_batch_once_noised():
    assert account(tiny_config()).feature_gradients.mu is None
    noised = tiny_config(release={"gradient_clip": 0.1, "gradient_noise_std": 4.0})
    bound = account(noised).feature_gradients
    assert bound.mu == pytest.approx(2 * math.sqrt(2 * 2) / 4.0), "2 images per batch, 2 epochs"
    other_clip = tiny_config(release={"gradient_clip": 5.0, "gradient_noise_std": 4.0})
    assert account(other_clip).feature_gradients == bound


def test_proxies_have_a_ratio_and_no_bound():
    assert account(tiny_config()).proxy_snr == pytest.approx(4.0)
    assert "no differential privacy holds" in meaning(account(tiny_config()))[-1]
    assert "without noise" in meaning(account(tiny_config(release={"proxy_noise_std": 0.0})))[-1]
    none = account(tiny_config(crdm={"encoder": "none"}))
    assert (none.proxy_snr, meaning(none)[-1]) == (None, "No proxies leave.")


def test_an_empty_guarantee_is_called_that_and_a_real_one_in_odds():
    assert "guarantees nothing" in meaning(account(tiny_config()))[1]
    quiet = tiny_config(release={"t": 396}, training={"rounds": 1})
    mu = account(quiet).latents["train"].mu
    odds = round(50 * (1 + math.erf(mu / 2 / math.sqrt(2))))
    assert f"right at most {odds} times in 100" in meaning(account(quiet))[1]
    assert "more than guessing the mean" in meaning(account(quiet))[0]


def test_results_hold_the_jobs_account_and_a_site_keeps_its_own(full):
    expected = json.loads(json.dumps(account(tiny_config()).to_dict()))
    assert full.run.results["privacy"]["account"] == expected
    for site in ("north", "south", "west"):
        own = full.run.folder / "results" / site / "privacy_account.json"
        assert json.loads(own.read_text()) == expected


@pytest.mark.parametrize(("name", "times"), [("mucald", "1"), ("mucald_fresh", "12")])
def test_the_command_prints_the_account_as_a_table_with_its_meaning(name, times, capsys):
    job = REPOSITORY / "jobs" / name
    of = account(load_job(job)[0], 4)
    assert load_tool().main([str(job), "--images-per-case", "4"]) == 0
    printed = capsys.readouterr().out
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    assert rows[2] == [
        "latent, train",
        times,
        f"{of.latents['train'].error_floor:.3g}",
        f"{of.latents['train'].mu:.3g}",
        f"{of.latents['train'].epsilon:.3g}",
    ]
    gradient = of.feature_gradients
    bound = ["no bound"] * 2 if gradient.mu is None else [f"{gradient.mu:.3g}", f"{gradient.epsilon:.3g}"]
    assert rows[-1] == ["feature gradient", "12", "no bound", *bound]
    assert (gradient.mu is None) is (name == "mucald_fresh")
    assert all(sentence in printed for sentence in meaning(of))
    assert "4096 numbers per latent" in printed


def test_the_command_names_a_wrong_job(capsys, tmp_path):
    assert load_tool().main([str(tmp_path)]) == 1
    assert "meta.json" in capsys.readouterr().err
