import pytest
from tiny_job import REPOSITORY

from mucald.methods.jobs import load_job
from mucald_studies.benchmark.run import PROVISIONED, measure, on_provisioned

TINY = {
    "training.local_epochs": 1,
    "training.rounds": 2,
    "training.batch_size": 3,
    "data.image_size": 16,
    "data.phantoms.train": 6,
    "data.phantoms.validation": 3,
    "data.phantoms.test": 3,
    "network.features": [8, 16, 16],
    "network.cut": 1,
    "network.latent_channels": 4,
    "release.pretraining_epochs": 1,
}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_on_provisioned_sites_is_timed_and_every_process_of_it_seen():
    job = REPOSITORY / "jobs/mucald"
    sites = load_job(job)[1]
    ways = {PROVISIONED: on_provisioned(REPOSITORY / "workspace_templates", sites)}
    (found,) = measure(job, TINY, ways)[PROVISIONED]
    assert 0 < found.first_step < found.whole
    assert 0 < found.rounds < found.steady < found.whole
    assert 0 <= found.ending < found.whole - found.first_step
    assert found.images_per_s > 0
    assert found.peaks.keys() == {"server", *sites}
    assert min(found.peaks.values()) > 100_000_000, "each has imported torch"
