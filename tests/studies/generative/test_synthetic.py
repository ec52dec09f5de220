"""The experiment gives the numbers of the jobs, and its command table and curve."""

import json

import pytest
from families import config_of
from tiny_job import run_job

from mucald.data.loading import load_for
from mucald_studies.generative import synthetic
from mucald_studies.generative.federation import Federation, mean_and_interval, run


@pytest.mark.parametrize("method", ["generative cvae", "generative cgan", "generative classifier"])
def test_an_experiment_has_the_numbers_of_the_jobs_own_run(method, tmp_path):
    config = config_of(method)
    results = run_job(config, tmp_path).results
    federation = Federation(
        {site: load_for(site, config, tmp_path / "none", False) for site in config.sites}, config
    )
    found = run(config, federation)
    for name in ("local", "shared", "of_site", "of_all"):
        own = [results["sites"][site]["classifiers"][name] for site in config.sites]
        assert found.own[name] == pytest.approx(own), name


def test_the_command_writes_table_and_curve_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    config = config_of("generative cvae")
    jobs = [("dpcvae", config), ("dpcvae_local", config_of("generative cvae", algorithm={"name": "local"}))]
    monkeypatch.setattr(synthetic, "_jobs", lambda arguments, seed: jobs if arguments.out else seed)
    for _ in range(2):
        assert synthetic.main(["--out", str(tmp_path), "--seeds", "7"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["job"] for row in rows] == ["dpcvae", "dpcvae_local"]
    assert {"wasserstein", "two_sample"} < set(rows[0]["fidelity"])
    text = (tmp_path / "synthetic.md").read_text()
    assert f"| DP-CVAE | 4 | {rows[0]['own']['local']:.3f} |" in text
    assert (tmp_path / "synthetic.svg").read_text().count("<svg") == 1


def test_every_job_with_noise_is_measured_at_every_epsilon():
    arguments = synthetic.describe().parse_args(["--out", "x", "--rounds", "20"])
    jobs = synthetic._jobs(arguments, 8)
    assert {job for job, _ in jobs} == set(synthetic.METHODS)
    assert [config.privacy.epsilon for job, config in jobs if job == "dpcvae"] == [1.0, 2.0, 4.0, 8.0, None]
    assert all((config.training.rounds, config.seed) == (20, 8) for _, config in jobs)


def test_an_interval_is_that_of_the_mean():
    assert mean_and_interval([1.0, 3.0]) == pytest.approx((2.0, 1.96))
