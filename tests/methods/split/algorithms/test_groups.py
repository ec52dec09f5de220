"""Sites of one group share their whole networks; a site alone in its group is as without groups."""

from typing import Any

import pytest
import torch
from families import config_of as of_family
from tiny_job import (
    EXACT_WIRE,
    PLAIN,
    Federation,
    Run,
    equal_models,
    equal_tensors,
    run_job,
    tiny_config,
    with_limits,
    write_policy,
)

from mucald.errors import ConfigError, TrainingError, WireError
from mucald.methods import family_of
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.ends import first_ends
from mucald.methods.split.site import sealed_ends
from mucald.privacy.policy import OPEN, TO_ALLOW
from mucald.privacy.sealing import write_key
from mucald.state.checkpoint import load_checkpoint, without_prefix

BY_SIZE = {"algorithm": {"name": "groups", "args": {"rule": "by_size"}}}
LOCAL = {"aggregation": {"rule": "local"}}
PART = "front and back end"


def grouped(*changes: dict[str, Any], **more: Any) -> SplitConfig:
    """Return the plain tiny job with groups: north and west, which have one task, and south alone."""
    return tiny_config(PLAIN, BY_SIZE, *changes, **more)


def sites(**groups: str) -> dict[str, Any]:
    """Return the tiny job's sites in these groups."""
    tasks = {"north": "kvasir", "south": "ham10k", "west": "kvasir"}
    return {"sites": {name: {"task": task, "group": groups.get(name)} for name, task in tasks.items()}}


def ends(run: Run, site: str, completed: int = 2) -> dict[str, torch.Tensor]:
    """Return the ends that a site had trained after a round."""
    weights = without_prefix("weights", run.checkpoint(site, completed))
    return {name: tensor for name, tensor in weights.items() if name.startswith(("front_end", "back_end"))}


def held(run: Run, completed: int) -> dict[str, torch.Tensor]:
    """Return the ends of the one group that the server held after a round."""
    return without_prefix("method.aggregator.groups.0", run.checkpoint("server", completed))


@pytest.mark.parametrize("changes", [PLAIN, {}], ids=["plain", "full"])
def test_with_a_group_for_every_site_all_is_as_without_groups(changes, tmp_path):
    apart = sites(north="one", west="other")
    config = tiny_config(changes, BY_SIZE, apart)
    splitfed = run_job(tiny_config(changes, apart), tmp_path / "splitfed")
    run = run_job(config, tmp_path / "groups")
    assert equal_models(run, splitfed)
    assert {**run.numbers(), "config": None} == {**splitfed.numbers(), "config": None}
    family = family_of("split")
    assert family.disclosures(config) == family.disclosures(tiny_config(changes, apart))
    assert not equal_models(run_job(tiny_config(changes, BY_SIZE), tmp_path / "shared"), splitfed)


def test_the_sites_of_a_group_begin_alike_and_the_server_moves_their_ends_by_the_mean_change(tmp_path):
    federation = Federation(grouped(data={"phantoms": {"train": 4}}), tmp_path)
    coordinator = federation.coordinator
    task = federation.open_next()
    first = {site: coordinator.payload(site, task) for site in federation.config.sites}
    assert first["north"]
    assert equal_tensors(first["north"], first["west"])
    assert first["south"] == {}
    outcomes = {site: federation.work(site, task) for site in federation.config.sites}
    # As if west had three times as many images.
    for site, n_train in (("north", 2), ("west", 6)):
        outcomes[site].reports[site]["n_train"] = n_train
    for site, outcome in outcomes.items():
        federation.receive(site, outcome)
    coordinator.close(task)
    changes = {site: outcomes[site].payload for site in ("north", "west")}
    assert outcomes["south"].payload == {}
    after = coordinator.payload("north", federation.open_next())
    assert equal_tensors(after, coordinator.payload("west", task))
    moved = 0
    for name, begun in first["north"].items():
        expected = begun + 0.25 * changes["north"][name] + 0.75 * changes["west"][name]
        torch.testing.assert_close(after[name], expected, atol=1e-7, rtol=1e-6)
        moved += not torch.equal(changes["north"][name], changes["west"][name])
    assert moved > len(after) / 2


def test_a_site_trains_on_the_groups_ends_and_reports_what_it_changed(tmp_path):
    run = run_job(grouped(), tmp_path)
    site = ends(run, "north")
    begun = held(run, 1)
    assert site.keys() == begun.keys()
    assert not any(torch.equal(site[name], ends(run, "west")[name]) for name in site if "weight" in name)
    one, other = (ends(run, name) for name in ("north", "west"))
    for name, tensor in held(run, 2).items():
        torch.testing.assert_close(tensor, (one[name] + other[name]) / 2, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rule", ["local", "equal"])
def test_the_middle_is_the_groups_and_across_groups_the_rules(rule, tmp_path):
    federation = Federation(grouped(aggregation={"rule": rule}), tmp_path)
    task = federation.open_next()
    for site in federation.config.sites:
        federation.receive(site, federation.work(site, task))
    before = {site: federation.parameters(site) for site in federation.config.sites}
    federation.coordinator.close(task)
    after = {site: federation.parameters(site) for site in federation.config.sites}
    assert equal_tensors(after["north"], after["west"])
    assert equal_tensors(after["north"], after["south"]) is (rule == "equal")
    for name, own in before["south"].items():
        group = (before["north"][name] + before["west"][name]) / 2
        expected = group if rule == "local" else (2 * group + own) / 3
        torch.testing.assert_close(after["north"][name], expected, atol=1e-6, rtol=1e-5)
        if rule == "local":
            assert torch.equal(after["south"][name], own)


def test_one_group_of_all_sites_is_fedavg_of_whole_networks(tmp_path):
    everyone = {name: {"task": "kvasir"} for name in ("north", "south", "west")}
    exact = {"sites": everyone, "wire": EXACT_WIRE}
    split = run_job(grouped(exact), tmp_path / "split")
    whole = of_family("weights fedavg", sites=everyone, shared=["front_end", "middle", "back_end"])
    fedavg = run_job(whole, tmp_path / "fedavg")
    for site in everyone:
        mine, theirs = (run.results["sites"][site]["validation"] for run in (split, fedavg))
        losses = [[entry["loss"] for entry in one] for one in (mine, theirs)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    first = [run.results["rounds"][0]["sites"]["north"]["losses"] for run in (split, fedavg)]
    assert first[0]["segmentation"] == pytest.approx(first[1]["segmentation"], rel=1e-6)


def private(*changes: dict[str, Any], **more: Any) -> SplitConfig:
    """Return a job whose groups share front ends, and no back ends."""
    return grouped({"algorithm": {"args": {"ends": ["front_end"]}}}, *changes, **more)


@pytest.mark.parametrize("sealed", [False, True])
def test_back_ends_that_are_private_stay_at_the_site(sealed, tmp_path):
    config = private({"algorithm": {"args": {"sealed": sealed}}})
    run = run_job(config, tmp_path)
    one, other = (ends(run, name) for name in ("north", "west"))
    back = [name for name in one if name.startswith("back_end")]
    assert back
    # Begun from each site's own secret.
    assert not any(torch.equal(one[name], other[name]) for name in back if one[name].dim() > 1)
    if not sealed:
        shared = held(run, 2)
        assert shared.keys() == {name for name in one if name.startswith("front_end")}
        for name, tensor in shared.items():
            torch.testing.assert_close(tensor, (one[name] + other[name]) / 2, atol=1e-6, rtol=1e-5)
    (shared,) = (one for one in family_of("split").disclosures(config) if one.kind == "weights")
    assert shared.facts["part"] == ("front end, sealed" if sealed else "front end")


def test_with_private_back_ends_a_group_may_have_tasks_of_other_classes(tmp_path):
    config = private(sites={"north": {"task": "kvasir", "group": "wbc"}, "south": {"task": "wbc"}})
    assert algorithm_of(config).group(config, "north") == ("north", "south")
    run = run_job(config, tmp_path)
    assert not run.results["failures"]


@pytest.mark.parametrize("mode", ["fresh", "once"])
def test_a_group_may_share_the_middle_network_alone_and_nothing_more_leaves(mode, tmp_path):
    release = {"mode": mode, "pretraining_epochs": 1} if mode == "once" else {}
    alone = {"algorithm": {"args": {"ends": []}}, "release": release}
    config, without = grouped(alone, LOCAL), tiny_config(PLAIN, LOCAL, {"release": release})
    run = run_job(config, tmp_path / "groups")
    files = (next(run.folder.rglob(f"server/runs/*/round-002/{site}.safetensors")) for site in config.sites)
    north, south, west = (load_checkpoint(file)[0] for file in files)
    middle = [name for name in north if name.startswith("segments.middle")]
    assert middle
    assert all(torch.equal(north[name], west[name]) for name in middle)
    assert not all(torch.equal(north[name], south[name]) for name in middle)
    one, other = (ends(run, name) for name in ("north", "west"))
    assert not any(torch.equal(one[name], other[name]) for name in one if one[name].dim() > 1)
    family = family_of("split")
    assert family.disclosures(config) == family.disclosures(without)
    assert family.warnings(config) == family.warnings(without)
    # Whoever is alone in its group trains as without groups.
    assert run.results["sites"]["south"] == run_job(without, tmp_path / "local").results["sites"]["south"]


def test_a_job_names_groups_across_tasks_of_equally_many_classes(tmp_path):
    config = grouped(sites(north="one", south="one", west="other"))
    algorithm = algorithm_of(config)
    members = {site: algorithm.group(config, site) for site in config.sites}
    assert members == {"north": ("north", "south"), "south": ("north", "south"), "west": ()}
    run = run_job(config, tmp_path)
    assert not any(site["test"] is None for site in run.results["sites"].values())
    # A group may have the name of a task, whose sites then join it.
    joined = grouped(sites(south="kvasir"))
    assert len(algorithm_of(joined).group(joined, "west")) == 3


def test_who_is_alone_in_its_group_is_named():
    def said(config: SplitConfig) -> list[str]:
        return [line for line in family_of("split").warnings(config) if "nobody shares ends" in line]

    assert "with south: each is alone in its group" in said(grouped())[0]
    assert "with north, south, west:" in said(grouped(sites(west="kvasri")))[0]
    assert said(grouped(sites(south="kvasir"))) == said(tiny_config(PLAIN)) == []


def test_a_site_that_misses_a_round_goes_on_with_what_its_group_has_learnt(tmp_path):
    federation = Federation(grouped(LOCAL), tmp_path)
    coordinator = federation.coordinator
    task = federation.open_next()
    for site in ("north", "south"):
        federation.receive(site, federation.work(site, task))
    coordinator.fail("west", "too slow")
    coordinator.close(task)
    assert equal_tensors(federation.parameters("north"), federation.parameters("west"))
    task = federation.open_next()
    assert equal_tensors(coordinator.payload("west", task), coordinator.payload("north", task))
    federation.work("west", task)


@pytest.mark.parametrize("across", ["equal", "fedbn"])
def test_normalisation_layers_stay_with_the_site_if_the_rule_keeps_them(across, tmp_path):
    norm = {"network": {"norm": "group"}, "algorithm": {"name": "groups", "args": {"rule": "fedbn"}}}
    federation = Federation(grouped(norm, aggregation={"rule": across}), tmp_path)
    task = federation.open_next()
    shared = federation.coordinator.payload("north", task)
    all_ends = Federation(grouped({"network": {"norm": "group"}}), tmp_path / "all")
    everything = all_ends.coordinator.payload("north", all_ends.open_next())
    kept = everything.keys() - shared.keys()
    assert kept
    assert all(".N." in name for name in kept)
    assert not any(".N." in name for name in shared)
    for site in federation.config.sites:
        federation.receive(site, federation.work(site, task))
    federation.coordinator.close(task)
    north, west = federation.parameters("north"), federation.parameters("west")
    norms = [name for name in north if name.startswith("middle") and name.endswith(".N.weight")]
    assert norms
    assert not any(torch.equal(north[name], west[name]) for name in norms)
    assert torch.equal(north["middle.entry.0.conv.weight"], west["middle.entry.0.conv.weight"])


def test_a_filter_may_keep_a_tensor_at_home(tmp_path):
    federation = Federation(grouped(), tmp_path)
    task = federation.open_next()
    first = federation.coordinator.payload("north", task)
    name = next(iter(first))
    for site in federation.config.sites:
        outcome = federation.work(site, task)
        if site != "south":
            del outcome.payload[name]
        federation.receive(site, outcome)
    federation.coordinator.close(task)
    second = federation.coordinator.payload("north", federation.open_next())
    assert torch.equal(first[name], second[name])
    assert not equal_tensors(first, second)


def test_what_no_site_of_the_group_can_mean_is_refused(tmp_path):
    federation = Federation(grouped(), tmp_path)
    coordinator, task = federation.coordinator, federation.open_next()
    outcome = federation.work("north", task)
    name, tensor = next(iter(outcome.payload.items()))
    for payload, message in [
        ({}, "site 'north' sent no weights"),
        ({"middle.x": tensor}, "'middle.x', which is not shared"),
        ({name: tensor[:1]}, "has shape"),
        ({name: torch.full_like(tensor, float("nan"))}, "not finite"),
    ]:
        with pytest.raises(WireError, match=message):
            coordinator.receive("north", outcome.reports, payload)
    federation.receive("north", outcome)
    south = federation.work("south", task)
    with pytest.raises(WireError, match="shares no ends"):
        coordinator.receive("south", south.reports, outcome.payload)


@pytest.mark.parametrize(("site", "message"), [("north", "not shared"), ("south", "shares no ends")])
def test_a_site_takes_no_other_tensors_from_a_server(site, message, tmp_path):
    federation = Federation(grouped(), tmp_path)
    task = federation.open_next()
    federation.work(site, task)
    with pytest.raises(WireError, match=message):
        federation.sites[site].run(task, {"middle.x": torch.zeros(1)}, lambda _: b"")


def test_a_test_brings_no_change(tmp_path):
    federation = Federation(grouped(), tmp_path)
    federation.run(2)
    task = federation.open_next()
    outcome = federation.work("north", task)
    assert task.kind == "test"
    assert outcome.payload == {}
    with pytest.raises(WireError, match="takes none"):
        federation.coordinator.receive("north", outcome.reports, {"front_end.x": torch.zeros(1)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"release": {"mode": "once"}}, r"release.mode 'once' freezes them; take algorithm.args.ends \[\]"),
        ({"algorithm": {"args": {"ends": ["back_end"]}}}, r"must be .* or \[\]"),
        ({"algorithm": {"args": {"ends": ["middle"]}}}, "ends"),
        ({"algorithm": {"args": {"ends": [], "sealed": True}}}, "sealed is for ends"),
        ({"algorithm": {"args": {"rule": "local"}}}, "'local', which is no weighted mean"),
        ({"algorithm": {"args": {"rule": "sizes"}}}, "unknown aggregation rule 'sizes'"),
        ({"algorithm": {"args": {"rule": "equal", "args": {"c": 1}}}}, "unknown key 'algorithm.args.args.c'"),
        (
            {"aggregation": {"rule": "fedbone", "args": {"learning_rate": 1.0, "momentum": 0.9}}},
            "'fedbone' moves every site from where it began",
        ),
        (
            {"sites": {"north": {"task": "kvasir", "group": "wbc"}, "south": {"task": "wbc"}}},
            r"equally many classes, not {'north': 2, 'south': 3}",
        ),
    ],
)
def test_what_groups_cannot_do_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        algorithm_of(grouped(changes))


def test_a_policy_has_to_name_the_ends(tmp_path):
    config = grouped()
    write_policy(tmp_path / "home/west", with_limits(OPEN, weights={"part": ["front end"]}))
    results = run_job(config, tmp_path).results
    assert {failure["site"] for failure in results["failures"]} == {"west"}
    assert results["failures"][0]["reason"] == (
        f"site 'west' refuses by its policy.json: weights.part allows front end, the job has {PART}; "
        f"{TO_ALLOW}"
    )
    assert set(results["sites"]) == {"north", "south"}
    meaning = [line for line in results["privacy"]["meaning"] if line.startswith(f"Weights ({PART})")]
    assert len(meaning) == 1
    assert any("it knows the whole network of each site" in line for line in results["privacy"]["meaning"])


def sealing(*changes: dict[str, Any], **more: Any) -> SplitConfig:
    return grouped({"algorithm": {"args": {"sealed": True}}}, *changes, **more)


def test_sealed_or_not_a_group_learns_the_same(tmp_path, monkeypatch):
    """But for the first weights, which nobody outside the group may know, and for rounding."""
    monkeypatch.setattr(sealed_ends, "first_ends", lambda *arguments: first_ends(*arguments[:3]))
    uneven = {"algorithm": {"args": {"rule": "fedbn"}}, "network": {"norm": "group"}}
    for name, changes in (("by_size", {}), ("fedbn", uneven)):
        runs = [run_job(make(changes), tmp_path / f"{name}-{make.__name__}") for make in (grouped, sealing)]
        for site in ("north", "south", "west"):
            losses = [[v["loss"] for v in run.results["sites"][site]["validation"]] for run in runs]
            assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_first_weights_of_a_sealed_group_are_the_groups_alone(tmp_path):
    federation = Federation(sealing(), tmp_path)
    task = federation.open_next()
    assert federation.coordinator.payload("north", task) == {}
    for site in ("north", "west"):
        federation.work(site, task)
        federation.sites[site]._ends.take(task, {})
    north, west = (federation.sites[site].weights() for site in ("north", "west"))
    assert equal_tensors(north, west)
    known = first_ends(federation.config, algorithm_of(federation.config), "north")
    assert not any(torch.equal(north[name], known[name]) for name in known if "conv.weight" in name)


def test_the_server_of_a_sealed_group_has_what_it_cannot_read(tmp_path):
    federation = Federation(sealing(), tmp_path)
    federation.run(1)
    task = federation.open_next()
    relayed = federation.coordinator.payload("north", task)
    assert set(relayed) == {"north", "west"}
    own = federation.sites["north"].weights()
    blob = relayed["north"].numpy().tobytes()
    for name, tensor in own.items():
        if tensor.numel() > 8:
            assert tensor.numpy().tobytes()[:32] not in blob, name
    state = federation.coordinator.method.state()
    assert all(tensor.dtype == torch.uint8 for name, tensor in state.items() if ".groups." in name)
    # One site's ends once up, both sites' down: no more than a few hundred bytes for names and seal.
    ends = sum(t.nbytes for n, t in own.items() if n.startswith(("front_end", "back_end")))
    assert ends < relayed["north"].nbytes < ends + 4096


def relayed_of(federation: Federation) -> tuple[Any, dict[str, torch.Tensor]]:
    task = federation.open_next()
    return task, dict(federation.coordinator.payload("north", task))


def test_a_server_that_tampers_with_sealed_ends_is_found_out(tmp_path):
    federation = Federation(sealing(training={"rounds": 3}), tmp_path)
    federation.run(1)
    task, first = relayed_of(federation)
    changed = first["west"].clone()
    changed[-1] ^= 1
    for received, message in [
        (first | {"west": changed}, "does not open"),
        (first | {"west": first["north"]}, "'west, round 1' does not open"),
        (first | {"south": first["west"]}, "'south', which is not in this site's group"),
        ({"west": first["west"]}, "ends of another round"),
        ({"north": torch.zeros(3)}, "is none; a filter must leave them"),
    ]:
        with pytest.raises(WireError, match=message):
            federation.sites["north"].run(task, received, lambda _: b"")
    federation.run_sites(task)
    federation.coordinator.close(task)
    task, second = relayed_of(federation)
    for received in (first, second | {"west": first["west"]}):
        with pytest.raises(WireError, match="ends of another round"):
            federation.sites["north"].run(task, received, lambda _: b"")
    federation.work("north", task)


def test_a_site_of_a_sealed_group_that_comes_late_takes_what_the_others_have(tmp_path):
    federation = Federation(sealing(training={"rounds": 3}), tmp_path)
    coordinator = federation.coordinator
    for absent in ("west", "north", None):
        task = federation.open_next()
        for site in federation.config.sites:
            if site == absent:
                coordinator.fail(site, "away")
            else:
                federation.receive(site, federation.work(site, task))
        coordinator.close(task)
    federation.run()
    results = coordinator.finish()
    assert {(f["site"], f["round"]) for f in results["failures"]} == {("west", 0), ("north", 1)}
    assert all(site["test"] is not None for site in results["sites"].values())


def test_what_is_not_sealed_ends_is_refused(tmp_path):
    federation = Federation(sealing(), tmp_path)
    task = federation.open_next()
    outcome = federation.work("north", task)
    sealed = outcome.payload["sealed"]
    for payload, message in [
        ({}, "did not send its ends sealed"),
        ({"sealed": sealed, "more": sealed}, "did not send its ends sealed"),
        ({"sealed": sealed.repeat(30)}, "or more than they take"),
        ({"sealed": sealed.float()}, "is none"),
    ]:
        with pytest.raises(WireError, match=message):
            federation.coordinator.receive("north", outcome.reports, payload)
    federation.receive("north", outcome)


def test_sites_with_other_keys_share_nothing_and_say_so(tmp_path, caplog):
    for site, key in (("north", bytes(32)), ("west", bytes(range(32)))):
        write_key(tmp_path / "home" / site, "kvasir", key)
    with pytest.raises(TrainingError, match="left out, for the reasons above: north, west"):
        run_job(sealing(min_sites=2), tmp_path)
    assert caplog.text.count("does not open with this site's group key") == 2


def test_a_site_with_another_key_is_left_out_alone(tmp_path, caplog):
    three = {"sites": {name: {"task": "kvasir"} for name in ("north", "south", "west")}}
    for site, key in (("north", bytes(32)), ("south", bytes(32)), ("west", bytes(range(32)))):
        write_key(tmp_path / "home" / site, "kvasir", key)
    results = run_job(sealing(three), tmp_path).results
    assert {failure["site"] for failure in results["failures"]} == {"west"}
    assert "take its key anew" in results["failures"][0]["reason"]
    assert all(results["sites"][site]["test"] is not None for site in ("north", "south"))
    assert "site 'north' goes on without the ends of 'west'" in caplog.text


def test_sealed_ends_are_a_disclosure_of_their_own():
    family = family_of("split")
    (shared,) = (one for one in family.disclosures(sealing()) if one.kind == "weights")
    assert shared.facts["part"] == "front and back end, sealed"
    assert "the server relays what it cannot read" in shared.meaning[-1]
    assert not any("knows the whole network" in sentence for sentence in shared.meaning)
