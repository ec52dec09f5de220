import dataclasses

import pytest
import torch
from families import config_of
from tiny_job import equal_tensors, run_job

from mucald.config.job import JobConfig
from mucald.methods.weights.algorithms.base import Update
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.state.checkpoint import load_checkpoint

WEIGHTS = {"middle.a": torch.tensor([1.0, 2.0]), "middle.b": torch.tensor([[5.0]])}


def update(site: str, n_train: int, **change: torch.Tensor) -> Update:
    return Update(site, {f"middle.{name}": tensor for name, tensor in change.items()}, n_train, None)


def combine(*updates: Update) -> dict[str, torch.Tensor]:
    combined = FedAvg().combine({"north": WEIGHTS, "south": WEIGHTS}, updates, {})
    assert combined["north"] is combined["south"]
    return combined["north"]


def test_it_moves_by_the_mean_change_weighted_by_the_sites_sizes():
    first = update("north", 3, a=torch.tensor([1.0, 0.0]), b=torch.tensor([[4.0]]))
    second = update("south", 1, a=torch.tensor([0.0, 4.0]), b=torch.tensor([[0.0]]))
    combined = combine(first, second)
    assert combined["middle.a"].tolist() == [1.75, 3.0]
    assert combined["middle.b"].tolist() == [[8.0]]
    assert WEIGHTS["middle.a"].tolist() == [1.0, 2.0], "this round's weights are not written"


def test_one_site_or_equal_changes_leave_the_site_s_own_weights():
    change = {"a": torch.tensor([0.5, -0.25]), "b": torch.tensor([[1.0]])}
    alone = combine(update("north", 7, **change))
    both = combine(update("north", 7, **change), update("south", 2, **change))
    assert alone["middle.a"].tolist() == [1.5, 1.75]
    assert equal_tensors(alone, both)


def test_a_tensor_that_a_site_excludes_is_the_mean_of_the_others_and_stays_where_nobody_has_it():
    combined = combine(
        update("north", 3, a=torch.tensor([1.0, 1.0])), update("south", 1, a=torch.tensor([3.0, 3.0]))
    )
    assert torch.equal(combined["middle.b"], WEIGHTS["middle.b"])
    combined = combine(
        update("north", 3, a=torch.tensor([1.0, 1.0]), b=torch.tensor([[2.0]])),
        update("south", 1, a=torch.tensor([3.0, 3.0])),
    )
    assert combined["middle.b"].tolist() == [[7.0]]
    assert combined["middle.a"].tolist() == [2.5, 3.5]


def config(**changes) -> JobConfig:
    return config_of("weights fedavg", **changes)


def test_sites_end_with_equal_shared_parts_and_back_ends_of_their_own(tmp_path):
    run = run_job(config(), tmp_path)
    states = {site: run.checkpoint(site, 2) for site in ("north", "west")}
    shared = load_checkpoint(run.server / "models/shared.safetensors")[0]
    assert {name.partition(".")[0] for name in shared} == {"front_end", "middle"}
    assert shared.keys() == {
        name.removeprefix("weights.")
        for name in states["north"]
        if name.startswith(("weights.front_end.", "weights.middle."))
    }
    heads = [
        {n: t for n, t in state.items() if n.startswith("weights.back_end")} for state in states.values()
    ]
    assert heads[0].keys() == heads[1].keys()
    assert not any(torch.equal(heads[0][name], heads[1][name]) for name in heads[0] if "norm" not in name)


def test_one_site_learns_as_it_does_alone_but_for_rounding(tmp_path):
    """The mean of one change is that change, and x + (y - x) is y up to the last bits."""
    sites = {"north": {"task": "kvasir"}}
    alone = run_job(config_of("pooled", sites=sites, participant="north"), tmp_path / "alone").results
    # First middle networks depend on the job's seed alone, so both runs begin with the same network.
    one = run_job(config(sites=sites, min_sites=1, shared=["middle"]), tmp_path / "one").results
    for mine, other in zip(one["rounds"], alone["rounds"], strict=True):
        assert mine["sites"]["north"]["losses"] == pytest.approx(other["sites"]["north"]["losses"], rel=1e-4)
    (validated,), (expected,) = (results["sites"]["north"]["validation"][:1] for results in (one, alone))
    assert validated["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_the_bytes_of_a_round_are_those_of_the_shared_numbers(tmp_path):
    run = run_job(config(), tmp_path)
    shared = load_checkpoint(run.server / "models/shared.safetensors")[0]
    size = sum(tensor.nbytes for tensor in shared.values())
    # Two rounds up and down, and the test's way down.
    assert run.results["wire"]["bytes_up"] == 3 * 2 * size
    assert run.results["wire"]["bytes_down"] == 3 * 3 * size


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_running_statistics_are_shared_with_the_weights_and_counters_are_not(norm, tmp_path):
    base = config()
    run = run_job(dataclasses.replace(base, network=dataclasses.replace(base.network, norm=norm)), tmp_path)
    shared = load_checkpoint(run.server / "models/shared.safetensors")[0]
    assert any("running_mean" in name for name in shared) is (norm == "batch")
    assert not any("num_batches_tracked" in name for name in shared)
