"""Sites of a group whose ends pull apart go on with ends of their own."""

from typing import Any

import pytest
import torch
from tiny_job import PLAIN, Federation, equal_models, equal_tensors, run_job, tiny_config

from mucald.aggregation import Contribution
from mucald.errors import ConfigError
from mucald.federation.method import State
from mucald.methods import family_of
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.groups import Groups

NEVER = {"conflict": 1.0, "memory": 0.8}
AT_ONCE = {"conflict": 0.2, "memory": 0.0}


def grouped(parting: dict[str, float] | None, *changes: dict[str, Any]) -> SplitConfig:
    """Return the plain tiny job with groups: north and west, which have one task, and south alone."""
    args = {"rule": "by_size"} | ({} if parting is None else {"parting": parting})
    return tiny_config(PLAIN, {"algorithm": {"name": "groups", "args": args}}, *changes)


def is_end(name: str, end: str) -> bool:
    return name.startswith(f"{end}.")


def turned(change: State, end: str) -> State:
    """Return a change with one end's tensors in the opposite direction."""
    return {name: -tensor if is_end(name, end) else tensor for name, tensor in change.items()}


def parted_in_one_round(federation: Federation) -> tuple[State, State]:
    """Let west change its front end against north's; return what both begin the next round with."""
    coordinator, task = federation.coordinator, federation.open_next()
    outcomes = {site: federation.work(site, task) for site in federation.config.sites}
    outcomes["west"].payload.clear()
    outcomes["west"].payload.update(turned(outcomes["north"].payload, "front_end"))
    for site, outcome in outcomes.items():
        federation.receive(site, outcome)
    coordinator.close(task)
    task = federation.open_next()
    return coordinator.payload("north", task), coordinator.payload("west", task)


def test_groups_that_never_part_are_groups_to_the_bit(tmp_path):
    runs = [run_job(grouped(parting), tmp_path / str(parting is None)) for parting in (None, NEVER)]
    assert runs[0].results["rounds"] == runs[1].results["rounds"]
    assert equal_models(*runs)


def test_sites_part_in_the_end_that_pulls_apart_and_share_the_other(tmp_path):
    federation = Federation(grouped(AT_ONCE), tmp_path)
    task = federation.open_next()
    begun = federation.coordinator.payload("north", task)
    north, west = parted_in_one_round(Federation(grouped(AT_ONCE), tmp_path / "again"))
    front = [name for name in north if is_end(name, "front_end")]
    back = [name for name in north if is_end(name, "back_end")]
    assert front
    assert all(torch.equal(north[name], west[name]) for name in back)
    for name in front:
        # Each moved by its own change, which are opposite.
        torch.testing.assert_close(north[name] - begun[name], begun[name] - west[name], atol=1e-6, rtol=1e-4)
    assert not all(torch.equal(north[name], west[name]) for name in front)


def test_results_tell_the_clusters_and_the_same_job_in_agreement_tells_none(tmp_path):
    federation = Federation(grouped(AT_ONCE, {"training": {"rounds": 2}}), tmp_path)
    parted_in_one_round(federation)
    federation.run_sites(task := federation.open_next())
    federation.coordinator.close(task)
    federation.run()
    rounds = federation.coordinator.finish()["rounds"]
    assert rounds[0]["clusters"] == {"group-kvasir": 2}
    agreed = run_job(grouped(NEVER), tmp_path / "agreed").results["rounds"]
    assert not any("clusters" in one for one in agreed)


def contributions() -> list[Contribution]:
    return [Contribution(site, {"middle.x": torch.zeros(1)}, 4) for site in ("north", "west")]


def test_a_checkpoint_holds_who_has_parted():
    config = grouped(AT_ONCE)
    groups, other = (Groups(config, algorithm_of(config)) for _ in range(2))
    first = groups.ends("north")
    change = {name: torch.ones_like(tensor) for name, tensor in first.items()}
    for parted in (groups, other):
        parted.take("north", change)
        parted.take("west", turned(change, "back_end"))
    groups.average({}, contributions())
    other.load_state({name: tensor.clone() for name, tensor in groups.state().items()})
    assert other.parted() == {"group-kvasir": 2}
    # Both go on alike, though the sites now agree: who has parted stays apart.
    for parted in (groups, other):
        parted.take("north", change)
        parted.take("west", change)
        parted.average({}, contributions())
    for site in ("north", "west"):
        assert equal_tensors(groups.ends(site), other.ends(site))
    name = next(name for name in first if is_end(name, "back_end"))
    moved = [(groups.ends(site)[name] - first[name]).mean().item() for site in ("north", "west")]
    assert moved == pytest.approx([2.0, 0.0], abs=1e-5)


def test_nothing_more_leaves_than_in_groups_that_never_part():
    family = family_of("split")
    assert family.disclosures(grouped(AT_ONCE)) == family.disclosures(grouped(None))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"sealed": True}, "cannot read sealed ones; leave it out"),
        ({"ends": []}, "is given none; leave it out"),
        ({"parting": {"conflict": 0.0, "memory": 0.8}}, r"conflict must lie in \(0, 1\], not 0.0"),
        ({"parting": {"tau": 0.2}}, "unknown key 'algorithm.args.parting.tau'"),
    ],
)
def test_what_cannot_part_is_refused_by_name(args, message):
    with pytest.raises(ConfigError, match=message):
        algorithm_of(grouped(AT_ONCE, {"algorithm": {"args": args}}))
