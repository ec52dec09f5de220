import dataclasses
import json
import logging
import math
import subprocess
import sys
import typing
from dataclasses import dataclass

import pytest
import torch
from recording import record_run
from tiny_job import (
    EXACT_WIRE,
    PLAIN,
    REPOSITORY,
    Federation,
    run_job,
    tiny_config,
    with_limits,
    write_policy,
)

from mucald.config.schema import parse
from mucald.errors import PolicyError, TrainingError
from mucald.federation.participant import create_site
from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald.methods.split import algorithms
from mucald.methods.split.algorithms import SplitFed
from mucald.methods.split.config import PayloadType, ReleaseMode
from mucald.methods.split.disclosures import under
from mucald.methods.split.wire.messages import Field, Phase, decode
from mucald.privacy.disclosure import KINDS, SCORES, WEIGHT_PARTS, Disclosure, fact_of, weights
from mucald.privacy.policy import DEFAULT, OPEN, Policy, check_disclosures, read_policy

STRICT = with_limits(
    DEFAULT, latents={"min_cut": 1, "max_snr": 0.2, "max_releases": 12, "mode": ["fresh", "once"]}
)
"""The default, but for the tiny job's cut and releases."""
JOBS = sorted(path.parent.name for path in REPOSITORY.glob("jobs/*/meta.json"))


def check(of: Policy, config) -> None:
    disclosures = family_of(config.method).disclosures(config, of)
    check_disclosures(of, "polyp", disclosures, config.runtime.record)


def refusal(of: Policy, config) -> str:
    with pytest.raises(PolicyError) as caught:
        check(of, config)
    assert caught.value.public == str(caught.value), "the server reads it all"
    return str(caught.value)


def refusal_of(of: Policy, *disclosures: Disclosure) -> str:
    with pytest.raises(PolicyError) as caught:
        check_disclosures(of, "polyp", disclosures, recorded=False)
    return str(caught.value)


def shipped(name: str):
    return load_job(REPOSITORY / "jobs" / name)[0]


def test_the_template_is_the_default():
    template = json.loads((REPOSITORY / "workspace_templates/site/policy.json").read_text())
    assert parse(type(DEFAULT), template) == DEFAULT
    assert list(template) == [field.name for field in dataclasses.fields(DEFAULT)]
    for kind, limits in template["discloses"].items():
        assert list(limits) == list(KINDS[kind].limits), "in the order of the documents"


@pytest.mark.parametrize("name", ["mucald", "mucald_unet3plus", "mucald_swin_unet"])
def test_the_default_allows_the_full_method(name):
    check(DEFAULT, shipped(name))


def test_the_default_refuses_repeated_releases_clean_latents_the_papers_cut_and_the_papers_supervision():
    repeated = "policy latents.mode once, job fresh; policy latents.max_releases 1, job 12"
    assert refusal(DEFAULT, shipped("mucald_fresh")) == (
        f"site 'polyp' refuses: policy latents.max_snr 0.05, job 0.164883; {repeated}"
    )
    assert refusal(DEFAULT, shipped("ablation_no_forward_noise")) == (
        f"site 'polyp' refuses: policy latents.max_snr 0.05, job without bound; {repeated}"
    )
    assert refusal(DEFAULT, shipped("mucald_paper")) == (
        f"site 'polyp' refuses: policy latents.max_snr 0.05, job 0.960583; {repeated}; "
        "policy latents.min_cut 2, job 0; policy latents.max_channels 16, job 32"
    )
    config = shipped("mucald_fresh")
    epsilon = dataclasses.replace(config, crdm=dataclasses.replace(config.crdm, supervision="epsilon"))
    assert "the job discloses latent noise, which the policy does not name" in refusal(DEFAULT, epsilon)


@pytest.mark.parametrize("job", JOBS)
def test_the_open_policy_allows_every_shipped_job(job):
    check(OPEN, shipped(job))


@pytest.mark.parametrize(
    ("allowed", "rule", "asked", "text"),
    [
        (
            {"release": {"t": 301}},
            {"latents": {"max_snr": 0.164}},
            {"release": {"t": 300}},
            "policy latents.max_snr 0.164, job 0.164883",
        ),
        # Any bound asks for noise.
        (
            {"release": {"t": 0}},
            {"latents": {"max_snr": 1e9}},
            {"release": {"noised": False}},
            "policy latents.max_snr 1e+09, job without bound",
        ),
        (
            {"release": {"mode": "once"}},
            {"latents": {"mode": ["once"]}},
            {"release": {"mode": "fresh"}},
            "policy latents.mode once, job fresh",
        ),
        (
            {"release": {"mode": "once"}, "training": {"rounds": 9}},
            {"latents": {"max_releases": 1}},
            {"training": {"rounds": 2}},
            "policy latents.max_releases 1, job 2",
        ),
        (
            {"crdm": {"supervision": "ambient"}},
            {"latent_noise": None},
            {"crdm": {"supervision": "epsilon"}},
            "the job discloses latent noise, which the policy does not name",
        ),
        (
            {"training": {"rounds": 3}},
            {"latents": {"max_releases": 6}},
            {"training": {"rounds": 3, "local_epochs": 3}},
            "policy latents.max_releases 6, job 9",
        ),
        (
            {"network": {"cut": 1}},
            {"latents": {"min_cut": 1}},
            {"network": {"cut": 0}},
            "policy latents.min_cut 1, job 0",
        ),
        (
            {"network": {"latent_channels": 4}},
            {"latents": {"max_channels": 4}},
            {"network": {"latent_channels": 5}},
            "policy latents.max_channels 4, job 5",
        ),
        (
            {"wire": {"feature_gradient": "int8"}},
            {"feature_gradients": {"payload_type": ["int8"]}},
            {"wire": {"feature_gradient": "bfloat16"}},
            "policy feature gradients.payload_type int8, job bfloat16",
        ),
        (
            {"wire": {"latent": "int4"}},
            {"latents": {"payload_type": ["int4", "bfloat16"]}},
            {"wire": {"latent": "int8"}},
            "policy latents.payload_type int4, bfloat16, job int8",
        ),
        (
            {"wire": {"latent": "bfloat16"}},
            {"latents": {"payload_type": ["bfloat16"]}},
            {"wire": {"latent": "float32"}},
            "policy latents.payload_type bfloat16, job float32",
        ),
        (
            {"release": {"proxy_noise_std": 0.5}},
            {"proxies": {"min_noise": 0.5}},
            {"release": {"proxy_noise_std": 0.49}},
            "policy proxies.min_noise 0.5, job 0.49",
        ),
        (
            {"crdm": {"encoder": "none"}},
            {"proxies": None},
            {},
            "the job discloses proxies, which the policy does not name",
        ),
    ],
)
def test_each_rule_allows_its_bound_and_refuses_beyond_it_with_both_values(allowed, rule, asked, text):
    check(with_limits(OPEN, **rule), tiny_config(allowed))
    assert text in refusal(with_limits(OPEN, **rule), tiny_config(asked))
    check(OPEN, tiny_config(asked))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_the_policy_does_not_name_is_refused_whatever_its_facts(kind):
    facts = {
        fact_of(name): 1.0 if limit.values is None else limit.values[0]
        for name, limit in KINDS[kind].limits.items()
    }
    disclosure = Disclosure(kind, "once", "none", facts)
    check_disclosures(OPEN, "polyp", [disclosure], recorded=False)
    without = with_limits(OPEN, **{kind.replace(" ", "_"): None})
    said = f"site 'polyp' refuses: the job discloses {kind}, which the policy does not name"
    assert refusal_of(without, disclosure) == said


def test_no_policy_can_allow_a_kind_that_nobody_has_judged():
    new = Disclosure("thumbnails", "in every round", "none")
    for policy in (OPEN, DEFAULT):
        assert refusal_of(policy, SCORES, new) == (
            "site 'polyp' refuses: the job discloses thumbnails, which the policy does not name"
        )


@pytest.mark.parametrize(
    ("fact", "shown"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        ("low", "low"),
        (True, "True"),
        (None, "without bound"),
    ],
)
def test_a_fact_that_is_no_number_keeps_no_bound(fact, shown):
    highest = with_limits(OPEN, weights={"max_epsilon": 5.0})
    facts = {"part": "encoder", "epsilon": fact}
    said = f"policy weights.max_epsilon 5, job {shown}"
    assert said in refusal_of(highest, Disclosure("weights", "once", "none", facts))
    least = with_limits(OPEN, proxies={"min_noise": 0.5})
    assert f"job {shown}" in refusal_of(least, Disclosure("proxies", "once", "none", {"noise": fact}))


@pytest.mark.parametrize("policy", [OPEN, DEFAULT], ids=["open", "default"])
@pytest.mark.parametrize(
    ("kind", "limit"), [(kind, limit) for kind, content in KINDS.items() for limit in content.limits]
)
def test_a_method_that_does_not_say_what_a_policy_limits_is_refused(policy, kind, limit):
    facts = {fact_of(name): None for name in KINDS[kind].limits if name != limit}
    if kind in policy.discloses:
        said = refusal_of(policy, Disclosure(kind, "once", "none", facts))
        assert f"policy {kind}.{limit} " in said
        assert "job does not say (its method declares too little)" in said


def test_both_sides_of_a_limit_look_different_when_they_are():
    """A hospital copies the rounded number that a tool prints."""
    for limit, fact in ((0.00644, 0.006441), (0.0128757, 0.01287573)):
        facts = {"part": "encoder", "epsilon": fact}
        policy = with_limits(OPEN, weights={"max_epsilon": limit})
        said = f"policy weights.max_epsilon {limit}, job {fact}"
        assert said in refusal_of(policy, Disclosure("weights", "once", "none", facts))


def test_the_template_refuses_weights_without_noise_and_names_them():
    for part in WEIGHT_PARTS:
        said = refusal_of(DEFAULT, weights(part, "in every round"))
        assert "policy weights.max_epsilon 1, job without bound" in said
        assert (f"policy weights.part decoder under DP, job {part}" in said) is (part != "decoder under DP")
    private = {"part": "decoder under DP", "epsilon": 1.0}
    check_disclosures(DEFAULT, "polyp", [Disclosure("weights", "once", "Gaussian", private)], recorded=False)


def test_rules_of_what_the_job_does_not_send_do_not_bind():
    without_proxies = tiny_config(crdm={"encoder": "none"}, release={"proxy_noise_std": 0.0})
    check(with_limits(OPEN, proxies={"min_noise": 1.0}), without_proxies)
    clean = tiny_config(release={"noised": False}, crdm={"supervision": "epsilon"})
    check(with_limits(OPEN, latent_noise=None), clean)


def test_the_noise_is_not_handed_out_even_where_no_denoiser_learns_from_it():
    config = tiny_config(crdm={"supervision": "epsilon", "denoiser": False})
    assert "the job discloses latent noise" in refusal(with_limits(OPEN, latent_noise=None), config)


def test_an_algorithm_that_shares_the_front_end_needs_leave(monkeypatch):
    @dataclass(frozen=True)
    class Sharing(SplitFed):
        shares_front_end = True

    monkeypatch.setitem(algorithms.ALGORITHMS, "sharing", Sharing)
    config = tiny_config(algorithm={"name": "sharing"})
    check(OPEN, config)
    others = [part for part in WEIGHT_PARTS if part != "front end"]
    refused = refusal(with_limits(OPEN, weights={"part": others}), config)
    assert f"policy weights.part {', '.join(others)}, job front end" in refused
    refused = refusal(with_limits(OPEN, weights=None), config)
    assert "the job discloses weights, which the policy does not name" in refused


def test_a_job_that_records_needs_leave(tmp_path):
    recorded = tiny_config(PLAIN, runtime={"record": True})
    check(OPEN, recorded)
    of = dataclasses.replace(OPEN, recording=False)
    assert refusal(of, recorded) == (
        "site 'polyp' refuses: policy recording false, job records (runtime.record)"
    )
    write_policy(tmp_path / "home/south", of)
    recording = record_run(recorded, tmp_path)
    assert {site for site, _, _ in recording.messages} == {"north", "west"}
    assert {path.stem for path in (recording.run.server / "recording").glob("*.messages")} == {
        "north",
        "west",
    }


def test_the_values_that_a_policy_may_list_are_those_that_a_job_may_have():
    latents, gradients = KINDS["latents"].limits, KINDS["feature gradients"].limits
    assert latents["mode"].values == typing.get_args(ReleaseMode)
    for limits in (latents, gradients):
        assert limits["payload_type"].values == typing.get_args(PayloadType)


def test_phantoms_are_open_own_images_have_the_default_and_the_file_wins(tmp_path):
    assert read_policy(tmp_path, "polyp") == OPEN
    assert read_policy(tmp_path / "none", "polyp") == OPEN
    (tmp_path / "site.json").write_text("{}")
    assert read_policy(tmp_path, "polyp") == DEFAULT
    own = with_limits(OPEN, latents={"max_releases": 3})
    write_policy(tmp_path, own)
    assert read_policy(tmp_path, "polyp") == own


EARLIER = {
    "require_noise": True,
    "max_snr": 0.05,
    "release_modes": ["once"],
    "supervision": ["sure", "ambient"],
    "max_releases": 1,
    "min_cut": 2,
    "max_latent_channels": 16,
    "payload_types": ["float32"],
    "min_proxy_noise_std": 0.5,
    "share_front_end": False,
    "gradient_clip": None,
    "gradient_noise_std": 0.0,
    "tensorboard_images": True,
    "recording": False,
}


def wrong(folder, content) -> str:
    (folder / "policy.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(PolicyError) as caught:
        read_policy(folder, "polyp")
    assert str(folder / "policy.json") in str(caught.value)
    assert caught.value.public == "site 'polyp' cannot start: its policy.json is wrong, see its log"
    return str(caught.value)


def test_a_policy_of_an_earlier_version_is_refused_with_what_mends_it(tmp_path):
    said = wrong(tmp_path, EARLIER)
    assert "a policy of an earlier version" in said.lower()
    assert "has to be written anew; start from workspace_templates/site/policy.json" in said


NOT_POSITIVE = "must be positive, or null for no bound, not "
NEGATIVE = "must not be negative, or null for no bound, not "
MODES = "must list some of fresh, once"
TYPES = "must list some of float32, bfloat16, int8, int4"


@pytest.mark.parametrize(
    ("kind", "limit", "value", "message"),
    [
        ("latents", "max_snr", 0, f"{NOT_POSITIVE}0"),
        ("latents", "max_snr", "low", f"{NOT_POSITIVE}low"),
        ("latents", "max_snr", True, f"{NOT_POSITIVE}True"),
        ("latents", "max_snr", math.nan, f"{NOT_POSITIVE}nan"),
        ("latents", "max_snr", math.inf, f"{NOT_POSITIVE}inf"),
        ("latents", "mode", ["onec"], f"{MODES}, not onec; did you mean 'once'"),
        ("latents", "mode", ["memoised"], f"{MODES}, not memoised"),
        ("latents", "mode", [], f"{MODES}; leave out the whole kind to forbid it"),
        ("latents", "mode", "once", MODES),
        ("latents", "mode", None, MODES),
        ("latents", "payload_type", [], TYPES),
        ("latents", "payload_type", [["int8"]], TYPES),
        ("latents", "max_releases", 0, f"{NOT_POSITIVE}0"),
        ("latents", "max_channels", 0, f"{NOT_POSITIVE}0"),
        ("latents", "min_cut", -1, f"{NEGATIVE}-1"),
        ("proxies", "min_noise", -0.1, f"{NEGATIVE}-0.1"),
        ("proxies", "min_noise", math.nan, f"{NEGATIVE}nan"),
        ("feature gradients", "max_clip", 0, f"{NOT_POSITIVE}0"),
        ("feature gradients", "min_noise", -1, f"{NEGATIVE}-1"),
        ("feature gradients", "min_noise", 1, "counts in units of max_clip, so give that too"),
        ("weights", "part", ["fron end"], ", not fron end; did you mean 'front end'"),
    ],
)
def test_a_wrong_limit_is_named_to_the_site_and_not_to_the_server(kind, limit, value, message, tmp_path):
    content = dataclasses.asdict(with_limits(OPEN))
    content["discloses"][kind][limit] = value
    said = wrong(tmp_path, content)
    assert f"'discloses.{kind}.{limit}' " in said
    assert message in said


@pytest.mark.parametrize(
    ("kind", "limits", "message"),
    [
        ("latent", {}, "unknown kind 'latent'; did you mean 'latents'? (known: scores, latents, "),
        ("images", {}, "names the unknown kind 'images' (known: scores, latents, "),
        ("scores", {"max_snr": 1}, "unknown key 'discloses.scores.max_snr'"),
        ("proxies", {"min_nois": 1}, "unknown key 'discloses.proxies.min_nois'; did you mean 'min_noise'"),
        ("proxies", None, "'discloses.proxies' must be of type dict"),
    ],
)
def test_an_unknown_kind_or_limit_is_named_with_the_nearest(kind, limits, message, tmp_path):
    content = dataclasses.asdict(OPEN)
    content["discloses"] |= {kind: limits}
    assert message in wrong(tmp_path, content)


def test_a_policy_must_be_whole_and_json(tmp_path):
    content = dataclasses.asdict(OPEN)
    del content["recording"]
    assert "missing key 'recording'" in wrong(tmp_path, content)
    assert "'require_noise'" in wrong(tmp_path, dataclasses.asdict(OPEN) | {"require_noise": True})
    assert "'recording' must be of type bool" in wrong(tmp_path, dataclasses.asdict(OPEN) | {"recording": 1})
    assert "'discloses' must be of type dict" in wrong(tmp_path, dataclasses.asdict(OPEN) | {"discloses": []})
    assert "not valid JSON" in wrong(tmp_path, "{")
    for kind, content in KINDS.items():
        for limit in content.limits:
            policy = dataclasses.asdict(OPEN)
            del policy["discloses"][kind][limit]
            assert f"missing key 'discloses.{kind}.{limit}'" in wrong(tmp_path, policy)


def test_a_policy_is_read_before_anything_that_takes_long_is_imported():
    """FLARE's process at a site reads it at its start."""
    program = "import sys, mucald.privacy.policy; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "mucald.privacy.disclosure" in done.stdout.split()
    assert not {"torch", "numpy", "scipy", "monai", "nvflare"} & set(done.stdout.split())


def test_a_bound_of_any_size_can_be_read_and_shown(tmp_path):
    huge = with_limits(OPEN, latents={"max_releases": 10**400, "min_cut": 10**400})
    write_policy(tmp_path, huge)
    assert read_policy(tmp_path, "polyp") == huge
    assert "policy latents.min_cut 1000" in refusal(huge, tiny_config())


@pytest.mark.parametrize(
    ("own", "job", "expected"),
    [
        ((None, 0.0), (None, 0.0), (None, 0.0)),
        ((None, None), (None, 0.0), (None, 0.0)),
        ((1.0, 0.5), (None, 0.0), (1.0, 0.5)),
        ((1, None), (2.0, 0.1), (1, 0.1)),
        ((None, 0.0), (2.0, 0.1), (2.0, 0.1)),
        ((1.0, 0.0), (2.0, 0.1), (1.0, 0.1)),
        ((3.0, 0.5), (2.0, 0.1), (2.0, 0.5)),
    ],
)
def test_of_two_bounds_on_the_gradient_the_stricter_wins(own, job, expected):
    config = tiny_config(release={"gradient_clip": job[0], "gradient_noise_std": job[1]})
    asked = config.release
    policy = with_limits(OPEN, feature_gradients={"max_clip": own[0], "min_noise": own[1]})
    carried_out = under(policy, config)
    release = carried_out.release
    assert (release.gradient_clip, release.gradient_noise_std) == expected
    assert dataclasses.replace(release, gradient_clip=job[0], gradient_noise_std=job[1]) == asked
    assert dataclasses.replace(carried_out, release=asked) == config
    # What the site keeps by itself refuses nothing.
    check(policy, config)


def test_a_policy_without_gradients_refuses_them_and_clips_nothing():
    policy = with_limits(OPEN, feature_gradients=None)
    assert under(policy, tiny_config()) == tiny_config()
    assert "the job discloses feature gradients" in refusal(policy, tiny_config())


def test_a_refused_site_sends_nothing_and_the_others_go_on(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    write_policy(tmp_path / "home/south", STRICT)
    recording = record_run(tiny_config(PLAIN), tmp_path)
    assert {site for site, _, _ in recording.messages} == {"north", "west"}
    assert {report["site"] for report in recording.reports} == {"north", "west"}
    results = recording.run.results
    reason = "site 'south' refuses: policy latents.max_snr 0.2, job without bound"
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
    content = dataclasses.asdict(OPEN)
    content["discloses"]["latents"]["max_snr"] = -1
    home = tmp_path / "home/south"
    home.mkdir(parents=True)
    (home / "policy.json").write_text(json.dumps(content))
    recording = record_run(tiny_config(PLAIN), tmp_path)
    assert "south" not in {site for site, _, _ in recording.messages}
    assert "max_snr' must be positive" in recording.run.results["failures"][0]["reason"]


def test_a_participant_with_the_data_of_all_sites_needs_the_leave_of_each(tmp_path):
    config, cpu = shipped("baseline_centralized"), torch.device("cpu")
    home = tmp_path / config.participant
    family = family_of(config.method)
    write_policy(home / "polyp", with_limits(OPEN, scores=None))
    with pytest.raises(PolicyError, match="site 'polyp' refuses: the job discloses scores, which"):
        create_site(family, config.participant, config, home, "run", cpu)
    write_policy(home / "polyp", OPEN)
    write_policy(home, with_limits(OPEN, scores=None))
    with pytest.raises(PolicyError, match=f"site '{config.participant}' refuses: the job discloses scores"):
        create_site(family, config.participant, config, home, "run", cpu)


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

    write_policy(tmp_path / "home/south", with_limits(OPEN, feature_gradients={"max_clip": clip}))
    Federation(tiny_config(wire=EXACT_WIRE), tmp_path, carrier=carrier).run(1)
    south, north = torch.cat(norms["south"]), torch.cat(norms["north"])
    torch.testing.assert_close(south, torch.full_like(south, clip))
    assert float(north.min()) > 2 * clip
