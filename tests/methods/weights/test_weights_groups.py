"""Parts that only the sites of one group share."""

import pytest
import torch
from families import config_of
from tiny_job import equal_tensors, run_job

from mucald.errors import ConfigError
from mucald.methods import family_of
from mucald.state.checkpoint import load_checkpoint

PARTS = ["front_end", "middle", "back_end"]
# North and west have one task, and south another.
KVASIR = {site: {"task": "kvasir"} for site in ("north", "south", "west")}


def groups(**changes):
    return config_of("weights groups", **changes)


def end_of(run, site, part):
    """The weights with which a site's last round ended."""
    return {name: t for name, t in run.checkpoint(site, 2).items() if name.startswith(f"weights.{part}")}


def model(run, name):
    return load_checkpoint(run.server / f"models/{name}.safetensors")[0]


def test_a_group_shares_ends_and_all_share_the_middle(tmp_path):
    run = run_job(groups(), tmp_path)
    shared, group = model(run, "shared"), model(run, "group-kvasir")
    assert {name.partition(".")[0] for name in shared} == {"middle"}
    assert {name.partition(".")[0] for name in group} == {"front_end", "back_end"}
    assert not (run.server / "models/group-ham10k.safetensors").exists()
    assert run.results["rounds"][0]["update_norm"].keys() == {"shared", "group-kvasir"}


def test_a_site_that_is_alone_in_its_group_sends_and_gets_what_all_share(tmp_path):
    run = run_job(groups(), tmp_path)
    of_all = sum(tensor.nbytes for tensor in model(run, "shared").values())
    of_group = sum(tensor.nbytes for tensor in model(run, "group-kvasir").values())
    wire = {site: found["wire"] for site, found in run.results["sites"].items()}
    # Two rounds and the test, which brings no change.
    assert (wire["south"]["up"], wire["south"]["down"]) == (2 * of_all, 3 * of_all)
    assert wire["north"]["up"] == wire["west"]["up"] == 2 * (of_all + of_group)


def test_without_groups_it_is_fedavg(tmp_path):
    """Every site is a group of its own: its ends stay private."""
    sites = {site: {"task": "kvasir", "group": site} for site in KVASIR}
    alone = run_job(groups(sites=sites), tmp_path / "alone")
    fedavg = run_job(config_of("weights fedavg", sites=KVASIR, shared=["middle"]), tmp_path / "fedavg")
    assert equal_tensors(model(alone, "shared"), model(fedavg, "shared"))
    for site in KVASIR:
        assert equal_tensors(end_of(alone, site, "back_end"), end_of(fedavg, site, "back_end"))


def test_a_group_of_all_sites_is_fedavg_of_the_whole_network(tmp_path):
    group = run_job(groups(sites=KVASIR, shared=[], shared_in_group=PARTS), tmp_path / "group")
    fedavg = run_job(config_of("weights fedavg", sites=KVASIR, shared=PARTS), tmp_path / "fedavg")
    assert equal_tensors(model(group, "group-kvasir"), model(fedavg, "shared"))


def test_groups_that_share_nothing_with_each_other_train_as_in_jobs_of_their_own(tmp_path):
    both = run_job(groups(shared=[], shared_in_group=PARTS), tmp_path / "both")
    sites = {site: {"task": "kvasir"} for site in ("north", "west")}
    own = run_job(groups(sites=sites, shared=[], shared_in_group=PARTS), tmp_path / "own")
    assert equal_tensors(model(both, "group-kvasir"), model(own, "group-kvasir"))
    # A site that shares nothing trains alone.
    wire = both.results["sites"]["south"]["wire"]
    assert wire["up"] == wire["down"] == 0


def test_with_nothing_shared_every_site_learns_as_it_does_alone_and_only_scores_leave(tmp_path):
    config = groups(shared=[], shared_in_group=[])
    run = run_job(config, tmp_path / "together").results
    for site, chosen in config.sites.items():
        sites = {site: {"task": chosen.task}}
        alone = run_job(config_of("pooled", sites=sites, participant=site), tmp_path / site).results
        for key in ("validation", "test", "dice_per_image"):
            assert run["sites"][site][key] == alone["sites"][site][key], (site, key)
    assert run["wire"]["bytes_up"] == run["wire"]["bytes_down"] == 0
    assert [disclosure.kind for disclosure in family_of("weights").disclosures(config)] == ["scores"]


def test_a_name_makes_a_group_of_sites_with_different_tasks(tmp_path):
    sites = {site: {"task": task, "group": "hospitals"} for site, task in (("a", "kvasir"), ("b", "ham10k"))}
    run = run_job(groups(sites=sites), tmp_path)
    assert not torch.equal(*(next(iter(end_of(run, s, "middle").values())) for s in "ab"))
    assert model(run, "group-hospitals")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": PARTS}, "name a part twice"),
        (
            {"sites": {"a": {"task": "kvasir", "group": "x"}, "b": {"task": "fetal", "group": "x"}}},
            "sites that share a back end need equally many classes, not {'a': 2, 'b': 3}",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        family_of("weights").check(config := groups(**changes), list(config.sites))


@pytest.mark.parametrize(
    ("shared", "in_group", "called"),
    [
        (["middle"], ["front_end", "back_end"], "whole network"),
        ([], ["front_end", "back_end"], "front and back end"),
        (["middle"], ["front_end"], "encoder"),
        (["front_end"], [], "front end"),
    ],
)
def test_a_policy_hears_of_all_that_leaves(shared, in_group, called):
    config = groups(shared=shared, shared_in_group=in_group)
    (_, weights) = family_of("weights").disclosures(config)
    assert weights.facts["part"] == called
