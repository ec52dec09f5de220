"""Sites whose embeddings were made differently do not train together."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import config_of
from own_sets import CVAE, SITES, own_sets, private
from tiny_job import CPU, Federation, draw, run_job

from mucald.errors import DataError, TrainingError, WireError
from mucald.federation.participant import create_site
from mucald.methods import family_of
from mucald.methods.generative.origins import BITS, check_alike, origin, unlike


def give(folder: Path, *others: str) -> None:
    """Give all sites sets, ``others`` such of images that were resized differently."""
    for site in SITES:
        content = private(folder, site)
        if site in others:
            private(folder, site, header=replace(content.header, preprocessing="RGB, resized to 128 x 128"))


def test_an_origin_tells_how_a_set_was_made_and_nothing_of_its_images(tmp_path):
    content = private(tmp_path, "north")
    first = origin(content)
    assert 0 <= first < 2**BITS < 2**53
    assert origin(replace(content, embeddings=draw(40, 12, seed=9), labels=content.labels.flip(0))) == first
    header = content.header
    assert origin(replace(content, header=replace(header, cases=("p",) * 40))) == first
    made = ({"backbone": "b"}, {"weights": "ab"}, {"preprocessing": "other"}, {"space": "features-8"})
    others = [replace(content, header=replace(header, **change)) for change in made]
    others += [replace(content, embeddings=draw(40, 13)), replace(content, reference=torch.ones(2, 12))]
    assert len({first, *map(origin, others)}) == 7


def test_sites_that_all_tell_the_same_or_nothing_are_alike():
    assert unlike({"north": 3, "south": 3}) == {}
    assert unlike({"north": None, "south": None}) == {}
    assert unlike({}) == unlike({}, 3) == {}


def test_of_two_ways_that_of_most_sites_is_right_and_of_a_tie_none():
    reasons = unlike({"north": 3, "south": 4, "west": 3})
    assert set(reasons) == {"south"}
    assert "of 'north', 'west' and of 'south' were made differently" in reasons["south"]
    assert "or some are synthetic; run" in reasons["south"]
    assert "features.weights" in reasons["south"]
    assert set(unlike({"north": 3, "south": 4})) == {"north", "south"}
    assert set(unlike({"north": 3, "south": None})) == {"north", "south"}
    assert set(unlike({"north": 3, "south": None, "west": 3})) == {"south"}
    later = unlike({"north": 3, "south": 4, "west": 3}, agreed=4)
    assert set(later) == {"north", "west"}
    assert (
        "embeddings of 'north', 'west' were made differently from those of the rounds before" in later["west"]
    )


def test_a_site_with_embeddings_of_another_kind_is_left_out_of_all_rounds_and_of_the_test(tmp_path):
    give(tmp_path, "south")
    results = run_job(own_sets(), tmp_path).results
    assert [(failure["site"], failure["round"]) for failure in results["failures"]] == [
        ("south", 0),
        ("south", 1),
        ("south", 2),
    ]
    assert all("were " in f["reason"] and "features.weights" in f["reason"] for f in results["failures"])
    assert results["sites"]["south"]["test"] is None
    told = {results["sites"][site]["embeddings"] for site in ("north", "west")}
    assert [type(one) for one in told] == [int]
    assert any("hash of how the embeddings" in s for s in results["privacy"]["meaning"])


def test_two_sites_that_disagree_end_the_run_with_both_names(tmp_path, caplog):
    give(tmp_path, "south")
    config = own_sets(["north", "south"])
    with pytest.raises(TrainingError, match=r"0 sites finished round 1.* north, south"):
        run_job(config, tmp_path)
    assert "of 'north' and of 'south' were made differently" in caplog.text


def test_what_was_agreed_on_holds_after_a_stop(tmp_path):
    give(tmp_path, "south", "west")
    config = own_sets(min_sites=1)
    Federation(config, tmp_path).run(tasks=1)
    # Now most have what only north had.
    give(tmp_path, "north")
    resumed = run_job(replace(config, resume_from="latest"), tmp_path).results
    failed = {(failure["site"], failure["round"]) for failure in resumed["failures"]}
    assert failed == {("north", 0), ("south", 1), ("west", 1), ("south", 2), ("west", 2)}


def test_a_hash_that_is_none_is_refused_and_a_site_that_shares_nothing_tells_none(tmp_path):
    federation = Federation(config_of(CVAE), tmp_path / "cvae")
    task = federation.open_next()
    outcome = federation.work("north", task)
    for wrong in (2**BITS, -1, 0.5):
        outcome.reports["north"]["embeddings"] = wrong
        with pytest.raises(WireError, match="no hash of 48 bits"):
            federation.receive("north", outcome)
    local = Federation(config_of(CVAE, algorithm={"name": "local"}), tmp_path / "local")
    assert "embeddings" not in local.work("north", local.open_next()).reports["north"]


def test_data_in_one_place_are_held_against_each_other_before_the_run(tmp_path):
    give(tmp_path, "south")
    config = own_sets(algorithm={"name": "centralised"}, min_sites=1)
    with pytest.raises(DataError, match="of 'north', 'west' and of 'south' were made differently"):
        create_site(family_of("generative"), "pooled", config, tmp_path / "home", "run", CPU)
    with pytest.raises(DataError, match="made differently"):
        check_alike({"a": private(tmp_path, "a"), "b": private(tmp_path, "b", embeddings=draw(40, 13))})
