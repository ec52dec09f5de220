import json
import shutil

import pytest
from tiny_job import REPOSITORY

from mucald.errors import ConfigError
from mucald_studies.benchmark.training import OURS, PLAIN, Found, measure, report


@pytest.fixture
def small(tmp_path):
    job = tmp_path / "job"
    shutil.copytree(REPOSITORY / "jobs/fedcmt", job)
    path = job / "app/config/mucald.json"
    size = {"patch_size": [16, 16, 16], "phantom_size": [16, 16, 16]}
    changes = {"data.volumes": size, "network.features": [4, 6, 8], "network.adaptor_channels": 4}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"set": changes}))
    return job


def test_both_begin_with_one_network_and_take_the_same_steps(small):
    found = measure(small, "brain", steps=3)
    # A class that the batch lacks costs MONAI's Dice a little, ours nothing.
    assert found.losses[OURS][0] == pytest.approx(found.losses[PLAIN][0], abs=0.3)
    assert len(found.losses[OURS]) == len(found.losses[PLAIN]) == 3
    assert min(found.seconds.values()) > 0


@pytest.mark.parametrize(("seconds", "passed"), [(1.05, True), (1.2, False)])
def test_a_slow_step_fails(seconds, passed):
    (check,) = report(Found({OURS: seconds, PLAIN: 1.0}, {OURS: [1.0], PLAIN: [1.0]})).checks
    assert check.passed is passed


def test_what_does_not_fit_is_named(small):
    with pytest.raises(ConfigError, match="no volumes with masks"):
        measure(small, "lesion", 1)
    with pytest.raises(ConfigError, match="its network is no 'dynunet'"):
        measure(REPOSITORY / "jobs/fedavg", "polyp", 1)
