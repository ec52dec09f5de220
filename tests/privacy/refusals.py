"""Policies against jobs, without a run."""

import pytest
from tiny_job import with_limits

from mucald.config.job import JobConfig
from mucald.errors import PolicyError
from mucald.methods import family_of
from mucald.privacy.policy import DEFAULT, TO_ALLOW, Policy, check_disclosures

STRICT = with_limits(
    DEFAULT,
    latents={"min_cut": 1, "max_snr": 0.2, "max_releases": 12, "mode": ["fresh", "once"]},
    feature_gradients={"max_clip": None, "min_noise": 0.0},
)
"""The default, but for the tiny job's cut, releases and gradients."""


def check(of: Policy, config: JobConfig) -> None:
    disclosures = family_of(config.method).disclosures(config, of)
    check_disclosures(of, "polyp", disclosures, config.runtime.record)


def refusal(of: Policy, config: JobConfig) -> str:
    with pytest.raises(PolicyError) as caught:
        check(of, config)
    assert caught.value.public == str(caught.value), "the server reads it all"
    said, end, _ = str(caught.value).partition(f"; {TO_ALLOW}")
    assert end
    return said
