"""The file policy.json: what is read from it, and what is said of a wrong one."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
from refusals import refusal
from tiny_job import REPOSITORY, tiny_config, with_limits, write_policy

from mucald.config.schema import parse
from mucald.errors import PolicyError
from mucald.privacy.disclosure import KINDS
from mucald.privacy.policy import DEFAULT, OPEN, read_policy


def test_the_template_is_the_default():
    template = json.loads((REPOSITORY / "workspace_templates/site/policy.json").read_text())
    assert parse(type(DEFAULT), template) == DEFAULT
    assert list(template) == [field.name for field in dataclasses.fields(DEFAULT)]
    for kind, limits in template["discloses"].items():
        assert list(limits) == list(KINDS[kind].limits), "in the order of the documents"


def test_phantoms_are_open_own_images_have_the_default_and_the_file_wins(tmp_path):
    assert read_policy(tmp_path, "polyp") == OPEN
    assert read_policy(tmp_path / "none", "polyp") == OPEN
    (tmp_path / "site.json").write_text("{}")
    assert read_policy(tmp_path, "polyp") == DEFAULT
    own = with_limits(OPEN, latents={"max_releases": 3})
    write_policy(tmp_path, own)
    assert read_policy(tmp_path, "polyp") == own
    (tmp_path / "policy.json").unlink()
    (tmp_path / "policy.json").symlink_to("/nowhere/policy.json")
    with pytest.raises(PolicyError, match=r"policy.json is a link that leads nowhere; mount what"):
        read_policy(tmp_path, "polyp")


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
    assert "latents.min_cut allows 1000" in refusal(huge, tiny_config())
