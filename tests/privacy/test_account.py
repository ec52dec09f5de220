import json
import logging
import math

import dp_accounting
import numpy as np
import pytest
import torch
from commands import load_tool
from dp_accounting import rdp
from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss
from tiny_job import REPOSITORY, run_job, tiny_config, with_limits, write_policy

from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald.methods.split.disclosures import disclosures, under
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.site.release import Release
from mucald.privacy.disclosure import KINDS, WEIGHT_PARTS, Disclosure, account, fact_of, shown, weights
from mucald.privacy.gaussian import DELTA, epsilon
from mucald.privacy.policy import OPEN

T = 300
SNR = float(CosineSchedule(400).snr(T))
NUMBERS = 4 * 8 * 8
JOBS = sorted(path.parent.name for path in REPOSITORY.glob("jobs/*/meta.json"))


def of_kind(config, images_per_case: int = 1) -> dict[str, Disclosure]:
    found = disclosures(config, images_per_case)
    kinds = {disclosure.kind: disclosure for disclosure in found}
    assert len(kinds) == len(found), "a split job discloses each kind once"
    return kinds


def latents(config, images_per_case: int = 1):
    return of_kind(config, images_per_case)["latents"].bounds


def gradients(config):
    return of_kind(config)["feature gradients"].bounds["train"]


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
    account_of_one = latents(tiny_config())["test"]
    scale = math.sqrt(1 + 1 / SNR)  # 1/√ᾱ, since the noise is √(1 − ᾱ)
    assert account_of_one.mu == pytest.approx(float(distance) / scale / math.sqrt(1 - 1 / scale**2), rel=1e-3)


def test_a_clip_below_one_deviation_lowers_the_sensitivity_with_it():
    wide, narrow = (latents(tiny_config(release={"clip": clip}))["test"].mu for clip in (3.0, 0.25))
    assert narrow == pytest.approx(wide / 4)


@pytest.mark.parametrize("releases", [1, 8])
def test_averaging_the_releases_meets_the_error_floor(releases):
    release = Release(tiny_config().release, "a secret of the site", "north")
    x = torch.randn(40, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    clean, signal = release.bounded(x), math.sqrt(float(CosineSchedule(400).alpha_bar(T)))
    mean = torch.stack([release.latent(x, number).latent / signal for number in range(releases)]).mean(dim=0)
    floor = latents(tiny_config(training={"rounds": releases}))["train"].error_floor
    assert floor == pytest.approx(1 / (releases * SNR))
    assert float((mean - clean).square().mean()) == pytest.approx(floor, rel=0.02)


def test_releases_and_images_of_a_patient_compose_with_their_root():
    one = latents(tiny_config(training={"rounds": 1}))["train"]
    assert one.mu == pytest.approx(2 * math.sqrt(NUMBERS * SNR))
    four = latents(tiny_config(training={"rounds": 2, "local_epochs": 2}))
    assert four["train"].mu == pytest.approx(2 * one.mu)
    assert [four[split].releases for split in ("train", "validation", "test")] == [4, 2, 1]
    patient = latents(tiny_config(training={"rounds": 1}), 9)["train"]
    assert patient.mu == pytest.approx(3 * one.mu)
    assert patient.error_floor == one.error_floor, "other images do not help to estimate this one's latent"
    assert patient.epsilon == pytest.approx(epsilon(3 * one.mu))


def test_without_noise_no_bound_holds():
    of = of_kind(tiny_config(release={"noised": False}))["latents"]
    assert all((b.error_floor, b.mu, b.epsilon) == (0.0, None, None) for b in of.bounds.values())
    assert (of.facts["snr"], of.noise) == (None, "none")
    assert "Latents leave without noise" in of.meaning[0]


def test_with_the_noise_in_the_servers_hands_none_holds_for_training_images():
    of = of_kind(tiny_config(crdm={"supervision": "epsilon"}))
    bounds = of["latents"].bounds
    assert (bounds["train"].error_floor, bounds["train"].mu) == (0.0, None)
    assert bounds["test"].mu is not None
    assert "no bound holds" in of["latents"].meaning[0]
    assert "is given to the server" in of["latent noise"].meaning[0]
    without = of_kind(tiny_config(crdm={"supervision": "epsilon"}, release={"noised": False}))
    assert "latent noise" not in without, "there is none to give"


def test_a_single_release_counts_once_however_long_the_run_and_its_gradients_for_every_step():
    run = {"training": {"rounds": 5, "local_epochs": 3}, "release": {"gradient_clip": 1.0}}
    noised = {"release": {"gradient_noise_std": 4.0}}
    fresh, once = (of_kind(tiny_config(run, noised, release={"mode": mode})) for mode in ("fresh", "once"))
    bounds = once["latents"].bounds
    assert [bound.releases for bound in bounds.values()] == [1, 1, 1]
    assert [bound.releases for bound in fresh["latents"].bounds.values()] == [15, 5, 1]
    assert bounds["train"] == bounds["test"] == fresh["latents"].bounds["test"]
    assert bounds["train"].error_floor == pytest.approx(1 / SNR)
    assert once["feature gradients"] == fresh["feature gradients"]
    assert once["feature gradients"].bounds["train"].releases == 15
    assert (once["latents"].facts["releases"], fresh["latents"].facts["releases"]) == (1, 15)


def test_gradients_have_a_bound_that_counts_their_batch_once_noised():
    assert gradients(tiny_config()).mu is None
    noised = tiny_config(release={"gradient_clip": 0.1, "gradient_noise_std": 4.0})
    bound = gradients(noised)
    assert bound.mu == pytest.approx(2 * math.sqrt(2 * 2) / 4.0), "2 images per batch, 2 epochs"
    other_clip = tiny_config(release={"gradient_clip": 5.0, "gradient_noise_std": 4.0})
    assert gradients(other_clip) == bound


def test_proxies_have_a_ratio_and_no_bound():
    proxies = of_kind(tiny_config())["proxies"]
    assert "at SNR 4." in proxies.meaning[0]
    assert "no differential privacy holds" in proxies.meaning[0]
    assert proxies.bounds == {}
    clean = of_kind(tiny_config(release={"proxy_noise_std": 0.0}))["proxies"]
    assert (clean.noise, "without noise" in clean.meaning[0]) == ("none", True)
    assert "proxies" not in of_kind(tiny_config(crdm={"encoder": "none"}))


def test_an_empty_guarantee_is_called_that_and_a_real_one_in_odds():
    assert "guarantees nothing" in of_kind(tiny_config())["latents"].sentences()[1]
    quiet = of_kind(tiny_config(release={"t": 396}, training={"rounds": 1}))["latents"]
    odds = round(50 * (1 + math.erf(quiet.bounds["train"].mu / 2 / math.sqrt(2))))
    assert f"right at most {odds} times in 100" in quiet.sentences()[1]
    assert "more than guessing the mean" in quiet.meaning[0]


@pytest.mark.parametrize("part", WEIGHT_PARTS)
def test_weights_without_noise_guarantee_nothing_and_the_account_says_so(part):
    of = account([weights(part, "in every round")], 1)
    (sentence,) = of["meaning"]
    assert sentence.startswith(f"Weights ({part}) leave without noise, which guarantees nothing")
    (disclosure,) = of["disclosures"]
    assert (disclosure["facts"]["epsilon"], disclosure["bounds"], disclosure["noise"]) == (None, {}, "none")


def test_a_shared_front_end_is_in_the_account_and_a_private_one_is_not():
    shared = of_kind(tiny_config(algorithm={"name": "fedper"}))["weights"]
    assert shared.facts["part"] == "front end"
    assert "weights" not in of_kind(tiny_config())


@pytest.mark.parametrize("job", JOBS)
def test_every_job_says_all_that_a_policy_limits_and_nothing_that_is_no_number(job):
    config, _ = load_job(REPOSITORY / "jobs" / job)
    found = family_of(config.method).disclosures(config)
    assert found[0].kind == "scores"
    for disclosure in found:
        limited = {fact_of(name) for name in KINDS[disclosure.kind].limits}
        assert set(disclosure.facts) == limited, "the account shows what can be limited, and no more"
        assert disclosure.often
        assert disclosure.noise
        assert disclosure.sentences(), "in plain sentences"
    of = account(found, 1)
    assert json.loads(json.dumps(of, allow_nan=False))["meaning"] == [s for d in found for s in d.sentences()]


def test_pooled_data_are_not_passed_over():
    config, _ = load_job(REPOSITORY / "jobs/baseline_centralized")
    (scores,) = family_of(config.method).disclosures(config)
    assert "images of all sites lie at 'pooled'" in scores.meaning[-1]


def test_a_run_names_the_file_of_a_sites_account_and_does_not_print_it(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run_job(tiny_config(training={"rounds": 1}), tmp_path)
    path = tmp_path / "results/south/privacy_account.json"
    assert f"site 'south': what left it, and what that can tell, is in {path}" in caplog.messages
    assert not any("guarantees nothing" in message for message in caplog.messages)


def test_results_hold_the_jobs_account_and_a_site_keeps_its_own(full):
    expected = json.loads(json.dumps(account(disclosures(tiny_config()), 1)))
    assert full.run.results["privacy"] == expected
    assert (expected["delta"], expected["images_per_case"]) == (DELTA, 1)
    for site in ("north", "south", "west"):
        own = full.run.folder / "results" / site / "privacy_account.json"
        assert json.loads(own.read_text()) == expected


def test_a_sites_account_is_of_what_its_policy_makes_of_the_job(tmp_path):
    policy = with_limits(OPEN, feature_gradients={"max_clip": 0.5, "min_noise": 4.0})
    write_policy(tmp_path / "home/south", policy)
    config = tiny_config(training={"rounds": 1})
    run = run_job(config, tmp_path)
    accounts = [
        json.loads((tmp_path / f"results/{site}/privacy_account.json").read_text())
        for site in ("south", "north")
    ]
    assert accounts[0] == json.loads(json.dumps(account(disclosures(under(policy, config)), 1)))
    assert accounts[1] == run.results["privacy"]
    assert accounts[0] != accounts[1]


def printed_by_tool(capsys, *arguments: str) -> tuple[str, list[list[str]]]:
    assert load_tool("privacy_account").main(list(arguments)) == 0
    printed = capsys.readouterr().out
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    return printed, rows


@pytest.mark.parametrize(
    ("name", "times", "steps"),
    [("mucald", "1", "8"), ("mucald_strict", "1", "12"), ("mucald_fresh", "12", "12")],
)
def test_the_command_prints_the_account_as_a_table_with_its_meaning(name, times, steps, capsys):
    job = REPOSITORY / "jobs" / name
    of = of_kind(load_job(job)[0], 4)
    printed, rows = printed_by_tool(capsys, str(job), "--images-per-case", "4")
    train = of["latents"].bounds["train"]
    assert rows[3] == [
        "latents, train",
        f"{times} × per image",
        of["latents"].noise,
        f"{train.error_floor:.3g}",
        f"{train.mu:.3g}",
        f"{train.epsilon:.3g}",
    ]
    gradient = of["feature gradients"].bounds["train"]
    bound = ["no bound"] * 2 if gradient.mu is None else [f"{gradient.mu:.3g}", f"{gradient.epsilon:.3g}"]
    noise = of["feature gradients"].noise
    assert rows[6] == ["feature gradients, train", f"{steps} × per image", noise, "no bound", *bound]
    assert (gradient.mu is None) is (name == "mucald_fresh")
    assert all(sentence in printed for disclosure in of.values() for sentence in disclosure.sentences())
    assert "of 4096 numbers" in printed
    assert f"mode {of['latents'].facts['mode']}" in printed


@pytest.mark.parametrize("name", JOBS)
def test_the_command_has_a_row_for_all_that_any_job_discloses(name, capsys):
    config, _ = load_job(REPOSITORY / "jobs" / name)
    found = family_of(config.method).disclosures(config)
    printed, rows = printed_by_tool(capsys, str(REPOSITORY / "jobs" / name))
    expected = [[d.kind] if not d.bounds else [f"{d.kind}, {split}" for split in d.bounds] for d in found]
    assert [row[0] for row in rows[2:]] == [name for names in expected for name in names]
    assert {len(row) for row in rows} == {6}
    for disclosure in found:
        assert all(f"{fact} {shown(value)}" in printed for fact, value in disclosure.facts.items())
        assert all(sentence in printed for sentence in disclosure.sentences())


def test_the_command_names_a_wrong_job(capsys, tmp_path):
    assert load_tool("privacy_account").main([str(tmp_path)]) == 1
    assert "meta.json" in capsys.readouterr().err
