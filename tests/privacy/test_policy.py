"""What a policy allows and refuses of what jobs disclose."""

import dataclasses
import math
import re
import typing
from dataclasses import dataclass

import pytest
from refusals import STRICT, check, refusal
from tiny_job import REPOSITORY, tiny_config, with_limits

from mucald.config.schema import parse, read_json
from mucald.errors import PolicyError
from mucald.methods.jobs import load_job
from mucald.methods.split import algorithms
from mucald.methods.split.algorithms import SplitFed
from mucald.methods.split.config import PayloadType, ReleaseMode, SplitConfig
from mucald.methods.split.disclosures import under
from mucald.privacy.disclosure import (
    KINDS,
    SCORES,
    WEIGHT_PARTS,
    Disclosure,
    fact_of,
    private_weights,
    weights,
)
from mucald.privacy.dp.budget import Guarantee
from mucald.privacy.policy import DEFAULT, OPEN, TO_ALLOW, Policy, check_disclosures

JOBS = sorted(path.parent.name for path in REPOSITORY.glob("jobs/*/meta.json"))


REFUSES = "site 'polyp' refuses by its policy.json: "


def refusal_of(of: Policy, *disclosures: Disclosure) -> str:
    with pytest.raises(PolicyError) as caught:
        check_disclosures(of, "polyp", disclosures, recorded=False)
    return str(caught.value).removesuffix(f"; {TO_ALLOW}")


def shipped(name: str):
    return load_job(REPOSITORY / "jobs" / name)[0]


@pytest.mark.parametrize("name", ["mucald", "mucald_strict", "mucald_unet3plus", "mucald_swin_unet"])
def test_the_default_allows_the_full_method(name):
    check(DEFAULT, shipped(name))


@pytest.mark.parametrize(
    ("job", "file"), [("mucald", "policy.json"), ("mucald_strict", "policy_strict.json")]
)
def test_each_template_allows_its_job_as_it_stands_and_nothing_weaker(job, file):
    template = parse(Policy, read_json(REPOSITORY / "workspace_templates/site" / file))
    config = shipped(job)
    check(template, config)
    assert under(template, config) == config, "the site carries the job out as it is"

    def weaker(**release: float | None) -> SplitConfig:
        return dataclasses.replace(config, release=dataclasses.replace(config.release, **release))

    assert "latents.max_snr" in refusal(template, weaker(t=config.release.t - 1))
    bounds = {"gradient_clip": None, "gradient_noise_std": 0.0}
    assert under(template, weaker(**bounds)) == config, "the site bounds its gradients by itself"


def test_the_strict_template_refuses_the_default_job():
    strict = parse(Policy, read_json(REPOSITORY / "workspace_templates/site/policy_strict.json"))
    assert refusal(strict, shipped("mucald")) == (
        "site 'polyp' refuses by its policy.json: latents.max_snr allows 0.0129, the job has 0.037351"
    )


def test_the_default_refuses_repeated_releases_clean_latents_the_papers_cut_and_the_papers_supervision():
    repeated = "latents.mode allows once, the job has fresh; latents.max_releases allows 1, the job has 12"
    assert refusal(DEFAULT, shipped("mucald_fresh")) == (
        f"{REFUSES}latents.max_snr allows 0.0374, the job has 0.164883; {repeated}"
    )
    assert refusal(DEFAULT, shipped("ablation_no_forward_noise")) == (
        f"{REFUSES}latents.max_snr allows 0.0374, the job has no bound; {repeated}"
    )
    assert refusal(DEFAULT, shipped("mucald_paper")) == (
        f"{REFUSES}latents.max_snr allows 0.0374, the job has 0.960583; {repeated}; "
        "latents.min_cut allows 2, the job has 0; latents.max_channels allows 16, the job has 32"
    )
    config = shipped("mucald_fresh")
    epsilon = dataclasses.replace(config, crdm=dataclasses.replace(config.crdm, supervision="epsilon"))
    assert "latent noise may not leave" in refusal(DEFAULT, epsilon)


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
            "latents.max_snr allows 0.164, the job has 0.164883",
        ),
        # Any bound asks for noise.
        (
            {"release": {"t": 0}},
            {"latents": {"max_snr": 1e9}},
            {"release": {"noised": False}},
            "latents.max_snr allows 1e+09, the job has no bound",
        ),
        (
            {"release": {"mode": "once"}},
            {"latents": {"mode": ["once"]}},
            {"release": {"mode": "fresh"}},
            "latents.mode allows once, the job has fresh",
        ),
        (
            {"release": {"mode": "once"}, "training": {"rounds": 9}},
            {"latents": {"max_releases": 1}},
            {"training": {"rounds": 2}},
            "latents.max_releases allows 1, the job has 2",
        ),
        (
            {"crdm": {"supervision": "ambient"}},
            {"latent_noise": None},
            {"crdm": {"supervision": "epsilon"}},
            "latent noise may not leave",
        ),
        (
            {"training": {"rounds": 3}},
            {"latents": {"max_releases": 6}},
            {"training": {"rounds": 3, "local_epochs": 3}},
            "latents.max_releases allows 6, the job has 9",
        ),
        (
            {"network": {"cut": 1}},
            {"latents": {"min_cut": 1}},
            {"network": {"cut": 0}},
            "latents.min_cut allows 1, the job has 0",
        ),
        (
            {"network": {"latent_channels": 4}},
            {"latents": {"max_channels": 4}},
            {"network": {"latent_channels": 5}},
            "latents.max_channels allows 4, the job has 5",
        ),
        (
            {"wire": {"feature_gradient": "int8"}},
            {"feature_gradients": {"payload_type": ["int8"]}},
            {"wire": {"feature_gradient": "bfloat16"}},
            "feature gradients.payload_type allows int8, the job has bfloat16",
        ),
        (
            {"wire": {"latent": "int4"}},
            {"latents": {"payload_type": ["int4", "bfloat16"]}},
            {"wire": {"latent": "int8"}},
            "latents.payload_type allows int4, bfloat16, the job has int8",
        ),
        (
            {"wire": {"latent": "bfloat16"}},
            {"latents": {"payload_type": ["bfloat16"]}},
            {"wire": {"latent": "float32"}},
            "latents.payload_type allows bfloat16, the job has float32",
        ),
        (
            {"release": {"proxy_noise_std": 0.5}},
            {"proxies": {"min_noise": 0.5}},
            {"release": {"proxy_noise_std": 0.49}},
            "proxies.min_noise allows 0.5, the job has 0.49",
        ),
        (
            {"crdm": {"encoder": "none"}},
            {"proxies": None},
            {},
            "proxies may not leave",
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
    said = f"site 'polyp' refuses by its policy.json: {kind} may not leave"
    assert refusal_of(without, disclosure) == said


def test_no_policy_can_allow_a_kind_that_nobody_has_judged():
    new = Disclosure("thumbnails", "in every round", "none")
    for policy in (OPEN, DEFAULT):
        assert refusal_of(policy, SCORES, new) == (
            "site 'polyp' refuses by its policy.json: thumbnails may not leave"
        )


@pytest.mark.parametrize(
    ("fact", "shown"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        ("low", "low"),
        (True, "True"),
        (None, "no bound"),
    ],
)
def test_a_fact_that_is_no_number_keeps_no_bound(fact, shown):
    highest = with_limits(OPEN, weights={"max_epsilon": 5.0})
    facts = {"part": "encoder", "epsilon": fact}
    said = f"weights.max_epsilon allows 5, the job has {shown}"
    assert said in refusal_of(highest, Disclosure("weights", "once", "none", facts))
    least = with_limits(OPEN, proxies={"min_noise": 0.5})
    assert f"the job has {shown}" in refusal_of(least, Disclosure("proxies", "once", "none", {"noise": fact}))


@pytest.mark.parametrize("policy", [OPEN, DEFAULT], ids=["open", "default"])
@pytest.mark.parametrize(
    ("kind", "limit"), [(kind, limit) for kind, content in KINDS.items() for limit in content.limits]
)
def test_a_method_that_does_not_say_what_a_policy_limits_is_refused(policy, kind, limit):
    facts = {fact_of(name): None for name in KINDS[kind].limits if name != limit}
    if kind in policy.discloses:
        said = refusal_of(policy, Disclosure(kind, "once", "none", facts))
        assert f"{kind}.{limit} allows " in said
        assert "the job's method does not say what it has" in said


def test_both_sides_of_a_limit_look_different_when_they_are():
    """A hospital copies the rounded number that a tool prints."""
    for limit, fact in ((0.00644, 0.006441), (0.0128757, 0.01287573)):
        facts = {"part": "encoder", "epsilon": fact}
        policy = with_limits(OPEN, weights={"max_epsilon": limit})
        said = f"weights.max_epsilon allows {limit}, the job has {fact}"
        assert said in refusal_of(policy, Disclosure("weights", "once", "none", facts))


def test_the_template_refuses_weights_without_noise_and_names_them():
    for part in WEIGHT_PARTS:
        said = refusal_of(DEFAULT, weights(part, "in every round"))
        assert "weights.max_epsilon allows 1, the job has no bound" in said
        assert "weights.max_delta allows 0.0001, the job has no bound" in said
        admitted = ("decoder under DP", "class Gaussians under DP")
        assert (f"weights.part allows {', '.join(admitted)}, the job has {part}" in said) is (
            part not in admitted
        )
    private = private_weights("decoder under DP", "once", Guarantee(1.0, 1e-4), 10, 1)
    check_disclosures(DEFAULT, "polyp", [private], recorded=False)
    for epsilon, delta, said in (
        (1.01, 1e-4, "max_epsilon allows 1, the job has 1.01"),
        (1.0, 2e-4, "max_delta allows 0.0001"),
    ):
        weaker = private_weights("decoder under DP", "once", Guarantee(epsilon, delta), 10, 1)
        assert said in refusal_of(DEFAULT, weaker)


def test_rules_of_what_the_job_does_not_send_do_not_bind():
    without_proxies = tiny_config(crdm={"encoder": "none"}, release={"proxy_noise_std": 0.0})
    check(with_limits(OPEN, proxies={"min_noise": 1.0}), without_proxies)
    clean = tiny_config(release={"noised": False}, crdm={"supervision": "epsilon"})
    check(with_limits(OPEN, latent_noise=None), clean)


def test_the_noise_is_not_handed_out_even_where_no_denoiser_learns_from_it():
    config = tiny_config(crdm={"supervision": "epsilon", "denoiser": False})
    assert "latent noise may not leave" in refusal(with_limits(OPEN, latent_noise=None), config)


def test_an_algorithm_that_shares_the_front_end_needs_leave(monkeypatch):
    @dataclass(frozen=True)
    class Sharing(SplitFed):
        shares_front_end = True

    monkeypatch.setitem(algorithms.ALGORITHMS, "sharing", Sharing)
    config = tiny_config(algorithm={"name": "sharing"})
    check(OPEN, config)
    others = [part for part in WEIGHT_PARTS if part != "front end"]
    refused = refusal(with_limits(OPEN, weights={"part": others}), config)
    assert f"weights.part allows {', '.join(others)}, the job has front end" in refused
    refused = refusal(with_limits(OPEN, weights=None), config)
    assert "weights may not leave" in refused


def test_groups_need_leave_for_front_and_back_end():
    groups = {"algorithm": {"name": "groups", "args": {"rule": "by_size"}}}
    refused = refusal(STRICT, tiny_config(groups))
    assert (
        "weights.part allows decoder under DP, class Gaussians under DP, the job has front and back end"
        in refused
    )
    assert "weights.max_epsilon allows 1, the job has no bound" in refused
    others = [part for part in WEIGHT_PARTS if part != "front and back end"]
    assert "the job has front and back end" in refusal(
        with_limits(OPEN, weights={"part": others}), tiny_config(groups)
    )
    check(OPEN, tiny_config(groups))
    alone = {"sites": {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}}}
    check(with_limits(OPEN, weights=None), tiny_config(groups, alone))


def test_the_values_that_a_policy_may_list_are_those_that_a_job_may_have():
    latents, gradients = KINDS["latents"].limits, KINDS["feature gradients"].limits
    assert latents["mode"].values == typing.get_args(ReleaseMode)
    for limits in (latents, gradients):
        assert limits["payload_type"].values == typing.get_args(PayloadType)


def test_a_refusal_names_a_part_of_the_docs_that_is_there():
    file, title = re.match("(.*), '(.*)',", TO_ALLOW).groups()
    assert f"\n## {title}\n" in (REPOSITORY / file).read_text(encoding="utf-8")
