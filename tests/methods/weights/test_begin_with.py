"""A run that begins with what an earlier one has left, with sites that were added."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from families import config_of
from tiny_job import REPOSITORY, Federation, run_job

from mucald.config.job import JobConfig
from mucald.errors import CheckpointError, ConfigError
from mucald.federation.in_process import run_in_process
from mucald.federation.task import SiteTask
from mucald.methods import family_of
from mucald.training.whole_model import StepResult, WholeModel

SITES = {"north": {"task": "liver"}, "south": {"task": "brain"}}
MORE = SITES | {"east": {"task": "kidneys"}, "west": {"task": "heart"}}


def job(sites: Any = SITES, rounds: int = 1, **changes: Any) -> JobConfig:
    training = {"rounds": rounds, "local_epochs": 1, "batch_size": 2}
    # Plain averaging, for a server's optimiser begins anew with a run.
    algorithm = {"name": "fedavg"}
    return config_of("weights volumes", sites=sites, training=training, algorithm=algorithm, **changes)


def run_on(config: JobConfig, folder: Path, number: int) -> dict[str, Any]:
    """Run a job in the homes that an earlier one had."""
    out, sites = folder / f"results{number}", list(config.sites)
    return run_in_process(family_of("weights"), config, sites, out, lambda name: folder / "home" / name, 1)


@pytest.fixture
def earlier(tmp_path):
    return run_on(job(), tmp_path, 1), tmp_path


def first_payload(config: JobConfig, folder: Path, site: str) -> dict[str, torch.Tensor]:
    federation = Federation(config, folder)
    task = next(federation.coordinator.tasks())
    return federation.coordinator.payload(site, task)


def test_known_sites_begin_where_they_were_and_new_ones_with_what_these_share(earlier):
    results, folder = earlier
    config = job(MORE, begin_with=results["run_id"])
    sent = {site: first_payload(config, folder, site) for site in MORE}
    name = "encoder.input_block.conv1.conv.weight"
    assert all(torch.equal(sent[site][name], sent["north"][name]) for site in MORE)
    fresh = first_payload(job(MORE), folder, "north")
    assert not torch.equal(sent["north"][name], fresh[name])
    # Kidneys are CT as the liver is; the heart is the first of MR, of one channel as CT.
    adaptor = "adaptor.0.weight"
    for site in ("east", "west"):
        assert torch.equal(sent[site][adaptor], sent["north"][adaptor])


def test_a_site_that_was_added_first_learns_what_is_its_own_and_changes_nothing_for_the_others(earlier):
    results, folder = earlier
    found = run_on(job(MORE, begin_with=results["run_id"]), folder, 2)
    without = run_on(job(begin_with=results["run_id"]), folder, 3)
    anew = run_on(job(MORE), folder, 4)
    assert found["failures"] == []
    for site in SITES:
        assert found["sites"][site]["test"] == without["sites"][site]["test"]
        numbers = found["rounds"][0]["sites"][site]
        assert numbers == without["rounds"][0]["sites"][site]
        assert numbers["losses"] != anew["rounds"][0]["sites"][site]["losses"]
    for site in ("east", "west"):
        assert set(found["rounds"][0]["sites"][site]["gradients"]) == {"decoder"}


def test_a_site_goes_on_with_the_decoder_that_it_had(earlier):
    results, folder = earlier
    config = job(begin_with=results["run_id"])
    federation = Federation(config, folder)
    task = next(federation.coordinator.tasks())
    site = federation.work("north", task)
    assert site.reports["north"]["round"] == 0
    models = federation.sites["north"]._models
    ends = {n: t.clone() for n, t in models.common.weights("north").items()}
    models.begin_as(_site_checkpoint(folder, results["run_id"]))
    begun = models.common.weights("north")
    moved = sum(float((ends[n] - t).abs().max()) for n, t in begun.items() if n.startswith("decoder"))
    assert 0 < moved < 1


def _site_checkpoint(folder: Path, run: str) -> dict[str, torch.Tensor]:
    from mucald.methods.weights.joining import latest_of

    saved = latest_of(folder / "home/north/runs" / run, "site")
    assert saved is not None
    return saved[0]


def test_what_the_others_had_is_validated_before_and_may_stay_their_best(earlier, monkeypatch):
    results, folder = earlier
    found = run_on(job(MORE, 2, begin_with=results["run_id"]), folder, 2)
    jsonschema.validate(
        found, json.loads((REPOSITORY / "docs/results.schema.json").read_text(encoding="utf-8"))
    )
    assert [(entry["site"], entry["round"]) for entry in found["joining"]] == [("east", 0), ("west", 0)]
    for entry in found["joining"]:
        assert set(entry["others"]) == set(SITES)
        for site, scores in entry["others"].items():
            validation = found["sites"][site]["validation"]
            assert [each["round"] for each in validation] == [-1, 0, 1]
            assert scores == {"before": validation[0]["dice"], "after": validation[-1]["dice"]}
            # What the earlier run ended with, seen by itself.
            assert validation[0]["dice"] == results["sites"][site]["validation"][-1]["dice"]
    assert [each["round"] for each in found["sites"]["east"]["validation"]] == [0, 1]
    monkeypatch.setattr(WholeModel, "train_step", _spoilt)
    spoilt = run_on(job(MORE, 1, begin_with=results["run_id"]), folder, 3)
    for site in SITES:
        assert spoilt["sites"][site]["best_round"] == -1
        assert spoilt["sites"][site]["test"] == results["sites"][site]["test"]


def _spoilt(model, site, *_args, **_more):
    """Train so that nothing is left of what was learnt."""
    with torch.no_grad():
        for parameter in model.networks[site].parameters():
            parameter.zero_()
    return StepResult({"segmentation": 1.0}, {})


def test_a_site_whose_first_round_did_not_count_still_has_its_network(earlier):
    results, folder = earlier
    federation = Federation(job(MORE, 2, begin_with=results["run_id"]), folder)
    next(federation.coordinator.tasks())
    task = SiteTask("train", 1, federation.coordinator.run_id, newcomers=("north",))
    validation = federation.report("north", task)["validation"]
    assert validation["dice"] == results["sites"]["north"]["validation"][-1]["dice"]


def test_a_stopped_run_that_began_so_is_resumed(earlier):
    results, folder = earlier
    config = job(MORE, 2, begin_with=results["run_id"])
    unbroken = run_on(config, folder, 2)
    Federation(config, folder).run(tasks=1)
    resumed = run_on(replace(config, resume_from="latest"), folder, 3)
    assert resumed["rounds"] == unbroken["rounds"]
    assert resumed["mean"] == unbroken["mean"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"begin_with": "tiny-1"}, CheckpointError, "holds no complete round"),
        ({"shared": [], "shared_in_modality": ["encoder"]}, ConfigError, "shared other weights in run"),
        (
            {"network": {"backbone": "dynunet", "features": [4, 6, 10]}},
            ConfigError,
            "shared other weights in run",
        ),
    ],
)
def test_what_does_not_fit_is_named(earlier, changes, error, message):
    results, folder = earlier
    sites = {"north": {"task": "liver"}, "east": {"task": "kidneys"}}
    config = job(**{"begin_with": results["run_id"], "sites": sites} | changes)
    with pytest.raises(error, match=message):
        Federation(config, folder)


def test_a_name_that_is_no_runs_is_refused():
    with pytest.raises(ConfigError, match="begin_with must be the name of a run"):
        job(begin_with="../other")


def test_a_run_of_another_method_is_refused(tmp_path):
    other = run_job(config_of("pooled"), tmp_path)
    with pytest.raises(ConfigError, match="is one of the method 'pooled'"):
        Federation(job(begin_with=other.results["run_id"]), tmp_path)
