import dataclasses
import json
import logging
from dataclasses import dataclass

import pytest
import torch
from recording import record_run
from tiny_job import EXACT_WIRE, PLAIN, REPOSITORY, Federation, run_job, tiny_config, write_policy

from mucald.config.schema import parse
from mucald.errors import PolicyError, TrainingError
from mucald.methods.jobs import load_job
from mucald.methods.split import algorithms
from mucald.methods.split.algorithms import SplitFed
from mucald.methods.split.wire.messages import Field, Phase, decode
from mucald.privacy.policy import DEFAULT, OPEN, check_job, read_policy

STRICT = dataclasses.replace(
    DEFAULT, min_cut=1, max_snr=0.2, max_releases=12, release_modes=("fresh", "once")
)
"""The default, but for the tiny job's cut and releases."""


def policy(**changes):
    return dataclasses.replace(OPEN, **changes)


def refusal(of, config) -> str:
    with pytest.raises(PolicyError) as caught:
        check_job(of, "polyp", config)
    assert caught.value.public == str(caught.value), "the server reads it all"
    return str(caught.value)


def test_the_template_is_the_default():
    template = json.loads((REPOSITORY / "workspace_templates/site/policy.json").read_text())
    assert parse(type(DEFAULT), template) == DEFAULT
    assert list(template) == [field.name for field in dataclasses.fields(DEFAULT)]


@pytest.mark.parametrize("name", ["mucald", "mucald_unet3plus", "mucald_swin_unet"])
def test_the_default_allows_the_full_method(name):
    check_job(DEFAULT, "polyp", load_job(REPOSITORY / "jobs" / name)[0])


def test_the_default_refuses_repeated_releases_clean_latents_the_papers_cut_and_the_papers_supervision():
    repeated = (
        "policy release_modes once, job releases fresh; policy max_releases 1, job releases an image 12 times"
    )
    assert refusal(DEFAULT, load_job(REPOSITORY / "jobs/mucald_fresh")[0]) == (
        f"site 'polyp' refuses: policy max_snr 0.05, job releases at SNR 0.165; {repeated}"
    )
    assert refusal(DEFAULT, load_job(REPOSITORY / "jobs/ablation_no_forward_noise")[0]) == (
        f"site 'polyp' refuses: policy require_noise true, job releases without noise; {repeated}"
    )
    assert refusal(DEFAULT, load_job(REPOSITORY / "jobs/mucald_paper")[0]) == (
        f"site 'polyp' refuses: policy max_snr 0.05, job releases at SNR 0.961; {repeated}; "
        "policy min_cut 2, job cuts at 0; policy max_latent_channels 16, job releases 32"
    )
    config, _ = load_job(REPOSITORY / "jobs/mucald_fresh")
    epsilon = dataclasses.replace(config, crdm=dataclasses.replace(config.crdm, supervision="epsilon"))
    assert "policy supervision sure, ambient, job asks for epsilon" in refusal(DEFAULT, epsilon)


def test_the_default_refuses_noise_that_cancels():
    memoised = tiny_config(release={"mode": "memoised"})
    assert "policy release_modes fresh, once, job releases memoised" in refusal(STRICT, memoised)


@pytest.mark.parametrize("job", sorted(path.parent.name for path in REPOSITORY.glob("jobs/*/meta.json")))
def test_the_open_policy_allows_every_shipped_job(job):
    check_job(OPEN, "polyp", load_job(REPOSITORY / "jobs" / job)[0])


@pytest.mark.parametrize(
    ("allowed", "rule", "asked", "text"),
    [
        (
            {"release": {"t": 301}},
            {"max_snr": 0.164, "require_noise": True},
            {"release": {"t": 300}},
            "policy max_snr 0.164, job releases at SNR 0.165",
        ),
        ({}, {"require_noise": True}, {"release": {"noised": False}}, "policy require_noise true, job"),
        (
            {"release": {"mode": "once"}},
            {"release_modes": ("once",)},
            {"release": {"mode": "fresh"}},
            "policy release_modes once, job releases fresh",
        ),
        (
            {"release": {"mode": "once"}, "training": {"rounds": 9}},
            {"max_releases": 1},
            {"training": {"rounds": 2}},
            "policy max_releases 1, job releases an image 2 times",
        ),
        ({}, {"supervision": ("sure",)}, {"crdm": {"supervision": "ambient"}}, "sure, job asks for ambient"),
        (
            {"training": {"rounds": 3}},
            {"max_releases": 6},
            {"training": {"rounds": 3, "local_epochs": 3}},
            "policy max_releases 6, job releases an image 9 times",
        ),
        ({"network": {"cut": 1}}, {"min_cut": 1}, {"network": {"cut": 0}}, "policy min_cut 1, job cuts at 0"),
        (
            {"network": {"latent_channels": 4}},
            {"max_latent_channels": 4},
            {"network": {"latent_channels": 5}},
            "policy max_latent_channels 4, job releases 5",
        ),
        (
            {"wire": {"feature_gradient": "int8"}},
            {"payload_types": ("int8",)},
            {"wire": {"feature_gradient": "bfloat16"}},
            "policy payload_types int8, job sends the feature_gradient as bfloat16",
        ),
        (
            {"wire": {"latent": "int4"}},
            {"payload_types": ("int4", "bfloat16")},
            {"wire": {"latent": "int8"}},
            "policy payload_types int4, bfloat16, job sends the latent as int8",
        ),
        (
            {"wire": {"latent": "bfloat16"}},
            {"payload_types": ("bfloat16",)},
            {"wire": {"latent": "float32"}},
            "policy payload_types bfloat16, job sends the latent as float32",
        ),
        (
            {"release": {"proxy_noise_std": 0.5}},
            {"min_proxy_noise_std": 0.5},
            {"release": {"proxy_noise_std": 0.49}},
            "policy min_proxy_noise_std 0.5, job noises with 0.49",
        ),
    ],
)
def test_each_rule_allows_its_bound_and_refuses_beyond_it_with_both_values(allowed, rule, asked, text):
    if allowed:
        check_job(policy(**rule), "polyp", tiny_config(allowed))
    assert text in refusal(policy(**rule), tiny_config(asked))
    check_job(OPEN, "polyp", tiny_config(asked))


def test_rules_of_what_the_job_does_not_send_do_not_bind():
    without_proxies = tiny_config(crdm={"encoder": "none"}, release={"proxy_noise_std": 0.0})
    check_job(policy(min_proxy_noise_std=1.0), "polyp", without_proxies)
    clean = tiny_config(release={"noised": False}, crdm={"supervision": "epsilon"})
    check_job(policy(supervision=("sure",)), "polyp", clean)


def test_the_noise_is_not_handed_out_even_where_no_denoiser_learns_from_it():
    config = tiny_config(crdm={"supervision": "epsilon", "denoiser": False})
    assert "job asks for epsilon" in refusal(policy(supervision=("sure",)), config)


def test_an_algorithm_that_shares_the_front_end_needs_leave(monkeypatch):
    @dataclass(frozen=True)
    class Sharing(SplitFed):
        shares_front_end = True

    monkeypatch.setitem(algorithms.ALGORITHMS, "sharing", Sharing)
    config = tiny_config(algorithm={"name": "sharing"})
    check_job(OPEN, "polyp", config)
    assert "policy share_front_end false, job shares it (sharing)" in refusal(
        policy(share_front_end=False), config
    )


def test_phantoms_are_open_own_images_have_the_default_and_the_file_wins(tmp_path):
    assert read_policy(tmp_path, "polyp") == OPEN
    assert read_policy(tmp_path / "none", "polyp") == OPEN
    (tmp_path / "site.json").write_text("{}")
    assert read_policy(tmp_path, "polyp") == DEFAULT
    write_policy(tmp_path, max_releases=3)
    assert read_policy(tmp_path, "polyp") == policy(max_releases=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_snrs": 1}, "unknown key 'max_snrs'; did you mean 'max_snr'"),
        ({"max_snr": 0}, "max_snr must be positive"),
        ({"max_snr": "low"}, "'max_snr' must be of type float"),
        ({"max_snr": 0.2}, "max_snr bounds what leaves without noise too, so require_noise must be true"),
        ({"supervision": ["shure"]}, "did you mean 'sure'"),
        ({"supervision": []}, "supervision must allow at least one"),
        ({"payload_types": []}, "payload_types must allow at least one"),
        ({"max_releases": 0}, "max_releases must be at least 1"),
        ({"max_latent_channels": 0}, "max_latent_channels must be at least 1"),
        ({"min_cut": -1}, "min_cut must not be negative"),
        ({"min_proxy_noise_std": -0.1}, "min_proxy_noise_std must not be negative"),
        ({"gradient_clip": 0}, "gradient_clip must be positive"),
        ({"gradient_noise_std": -1}, "gradient_noise_std must not be negative"),
        ({"gradient_noise_std": 1}, "gradient_noise_std counts in units of gradient_clip"),
        ({"require_noise": 1}, "'require_noise' must be of type bool"),
    ],
)
def test_a_wrong_policy_is_named_to_the_site_and_not_to_the_server(change, message, tmp_path):
    write_policy(tmp_path, **change)
    with pytest.raises(PolicyError, match=message) as caught:
        read_policy(tmp_path, "polyp")
    assert str(tmp_path / "policy.json") in str(caught.value)
    assert caught.value.public == "site 'polyp' cannot start: its policy.json is wrong, see its log"


def test_a_policy_must_be_whole_and_json(tmp_path):
    content = dataclasses.asdict(OPEN)
    del content["recording"]
    (tmp_path / "policy.json").write_text(json.dumps(content))
    with pytest.raises(PolicyError, match="missing key 'recording'"):
        read_policy(tmp_path, "polyp")
    (tmp_path / "policy.json").write_text("{")
    with pytest.raises(PolicyError, match="not valid JSON"):
        read_policy(tmp_path, "polyp")


@pytest.mark.parametrize(
    ("own", "job", "expected"),
    [
        ((None, 0.0), (None, 0.0), (None, 0.0)),
        ((1.0, 0.5), (None, 0.0), (1.0, 0.5)),
        ((None, 0.0), (2.0, 0.1), (2.0, 0.1)),
        ((1.0, 0.0), (2.0, 0.1), (1.0, 0.1)),
        ((3.0, 0.5), (2.0, 0.1), (2.0, 0.5)),
    ],
)
def test_of_two_bounds_on_the_gradient_the_stricter_wins(own, job, expected):
    asked = tiny_config(release={"gradient_clip": job[0], "gradient_noise_std": job[1]}).release
    release = policy(gradient_clip=own[0], gradient_noise_std=own[1]).tightened(asked)
    assert (release.gradient_clip, release.gradient_noise_std) == expected
    assert dataclasses.replace(release, gradient_clip=job[0], gradient_noise_std=job[1]) == asked


def test_a_refused_site_sends_nothing_and_the_others_go_on(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    write_policy(tmp_path / "home/south", STRICT)
    recording = record_run(tiny_config(PLAIN), tmp_path)
    assert {site for site, _, _ in recording.messages} == {"north", "west"}
    assert {report["site"] for report in recording.reports} == {"north", "west"}
    results = recording.run.results
    reason = "site 'south' refuses: policy require_noise true, job releases without noise"
    assert results["failures"] == [{"site": "south", "round": n, "reason": reason} for n in range(3)]
    assert reason in caplog.text
    assert sorted(results["sites"]) == ["north", "west"]
    assert not list((tmp_path / "home/south").glob("runs/*")), "not even a checkpoint was begun"


def test_too_many_refusals_end_the_run(tmp_path):
    for site in ("north", "south"):
        write_policy(tmp_path / "home" / site, STRICT)
    with pytest.raises(TrainingError, match="1 sites finished round 1, but min_sites is 2"):
        run_job(tiny_config(PLAIN), tmp_path)


def test_a_site_with_a_wrong_policy_does_not_start(tmp_path):
    write_policy(tmp_path / "home/south", max_snr=-1)
    recording = record_run(tiny_config(PLAIN), tmp_path)
    assert "south" not in {site for site, _, _ in recording.messages}
    assert "max_snr must be positive" in recording.run.results["failures"][0]["reason"]


def test_a_job_that_the_policy_allows_gives_the_numbers_of_one_without_policy(tmp_path, full):
    write_policy(tmp_path / "home/south", STRICT)
    assert run_job(tiny_config(), tmp_path).numbers() == full.run.numbers()


def test_a_sites_own_bound_holds_for_its_gradients_whatever_the_job_says(tmp_path):
    clip = 1e-4
    norms: dict[str, list[torch.Tensor]] = {}

    def carrier(name, send):
        def listening(data: bytes) -> bytes:
            message = decode(data)
            if message.phase is Phase.TRAIN_BACKWARD:
                gradient = message.fields[Field.FEATURE_GRADIENT]
                norms.setdefault(name, []).append(torch.linalg.vector_norm(gradient, dim=(1, 2, 3)))
            return send(data)

        return listening

    write_policy(tmp_path / "home/south", gradient_clip=clip)
    Federation(tiny_config(wire=EXACT_WIRE), tmp_path, carrier=carrier).run(1)
    south, north = torch.cat(norms["south"]), torch.cat(norms["north"])
    torch.testing.assert_close(south, torch.full_like(south, clip))
    assert float(north.min()) > 2 * clip
