"""What a job says of volumes."""

from typing import Any

import pytest

from mucald.config.common import VolumeConfig, VolumePlan
from mucald.config.merge import overridden
from mucald.config.schema import parse
from mucald.errors import ConfigError


def test_what_a_plan_leaves_out_is_that_of_all_tasks() -> None:
    config = parse(VolumeConfig, {"patch_size": [16, 16, 8], "plans": {"heart": {"spacing": [1.5, 1.5, 10]}}})
    assert config.plan("heart") == VolumePlan((1.5, 1.5, 10.0), (16, 16, 8))
    assert config.plan("brain") == VolumePlan((), (16, 16, 8))
    assert parse(VolumeConfig, {"plans": {"brain": {"patch_size": [8, 8, 8]}}}).plan("brain").patch_size == (
        8,
        8,
        8,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"patch_size": [32, 32]}, r"patch_size must be three numbers ≥ 1"),
        ({"phantom_size": [48, 48, 8]}, r"phantom_size must be three numbers ≥ 16"),
        ({"plans": {"heart": {"spacing": [1.0, 1.0]}}}, r"'plans.heart': spacing must be 3 numbers, not 2"),
        ({"plans": {"heart": {"spacing": [1.0, 0.0, 1.0]}}}, r"'plans.heart': sizes must be positive"),
        ({"plans": {"liver": {"intensity": [1.0, 0.0, 0.0, 1.0]}}}, r"least < greatest, mean, deviation > 0"),
        ({"plans": {"liver": {"window": [0, 1]}}}, r"unknown key 'plans.liver.window'"),
    ],
)
def test_wrong_plans_name_their_key(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(VolumeConfig, content)


def test_a_job_gives_its_plans_as_a_whole() -> None:
    base = {"data": {"volumes": {"patch_size": [32, 32, 32], "plans": {"heart": {"spacing": [1, 1, 1]}}}}}
    plans = {"brain": {"spacing": [1, 1, 1]}}
    assert overridden(base, {"data.volumes.plans": plans})["data"]["volumes"]["plans"] == plans
