"""After the last round a site takes its whole network home, and nothing leaves from then on."""

from typing import Any

import pytest
import torch
from recording import record_run
from tiny_job import (
    EXACT_WIRE,
    PLAIN,
    Federation,
    Run,
    equal_models,
    equal_tensors,
    request,
    run_job,
    server_of,
    tiny_config,
)

from mucald.data.loading import load_site_data
from mucald.errors import ConfigError, WireError
from mucald.inference.model_files import find_model_files, load_model
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server import handlers
from mucald.methods.split.site import exchange
from mucald.methods.split.wire.messages import Field, Kind, Phase, decode
from mucald.metrics import segmentation as metrics
from mucald.state.checkpoint import without_prefix

IN_TURN = {"algorithm": {"name": "splitfed_v2"}, "aggregation": {"rule": "local"}}
GROUPS = {"algorithm": {"name": "groups", "args": {"rule": "equal"}}}
BATCH_NORM = {"network": {"norm": "batch"}}
ONCE = {"release": {"mode": "once", "pretraining_epochs": 1}}


def handing_over(*changes: dict[str, Any], epochs: int = 1, rate: float = 0.0) -> SplitConfig:
    return tiny_config(*changes, handover={"epochs": epochs, "learning_rate": rate})


def taken(run: Run, site: str) -> dict[str, torch.Tensor]:
    """Return the model that a site has at home."""
    return run.models()[f"results/{site}/models/{site}.safetensors"]


def of_server(run: Run, site: str) -> dict[str, torch.Tensor]:
    return run.models()[f"results/server/models/{site}.safetensors"]


def middle(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the middle network's numbers, which do not count the batches that a normalisation has seen."""
    return {n: t for n, t in without_prefix("middle", weights).items() if t.is_floating_point()}


@pytest.mark.parametrize(
    "changes",
    [[PLAIN], [PLAIN, IN_TURN], [PLAIN, GROUPS], [PLAIN, BATCH_NORM], [PLAIN, ONCE]],
    ids=["splitfed", "in turn", "groups", "batch norm", "once"],
)
def test_without_noise_the_joined_network_scores_what_it_scored_through_the_server(changes, tmp_path):
    """At rate 0 training leaves it as it is."""
    config = handing_over(*changes, {"wire": EXACT_WIRE})
    run = run_job(config, tmp_path / "with")
    without = run_job(tiny_config(*changes, {"wire": EXACT_WIRE}), tmp_path / "without")
    for site, entry in run.results["sites"].items():
        before = without.results["sites"][site]
        assert entry["dice_per_image"] == pytest.approx(before["dice_per_image"], abs=1e-6)
        assert entry["through_server"]["dice"] == before["test"]["dice"]
        assert entry["server_contribution"] == before["server_contribution"]
        own = taken(run, site)
        assert equal_tensors(middle(own), middle(of_server(run, site)))
        ends = {name: tensor for name, tensor in own.items() if not name.startswith("middle.")}
        assert equal_tensors(ends, taken(without, site))
    assert run.results["rounds"] == without.results["rounds"]


@pytest.mark.parametrize("changes", [[PLAIN], []], ids=["plain", "full"])
def test_the_site_chooses_by_its_validation_and_reports_the_test_both_ways(changes, tmp_path):
    config = handing_over(*changes, epochs=4, rate=0.003)
    run = run_job(config, tmp_path)
    epochs = set()
    for site, entry in run.results["sites"].items():
        told, plain = entry["handover"], entry["through_server"]
        assert told["validation"] >= told["validation_before"]
        assert (told["epoch"] == 0) is (told["validation"] == told["validation_before"])
        assert set(plain) <= set(entry["test"])
        assert plain["dice"] >= 0
        epochs.add(told["epoch"])
        assert equal_tensors(middle(taken(run, site)), middle(of_server(run, site))) is (told["epoch"] == 0)
    assert epochs != {0}


def test_the_model_at_home_is_one_file_and_gives_the_test_s_masks(tmp_path):
    config = handing_over(epochs=2, rate=0.003)
    run = run_job(config, tmp_path)
    file, _ = find_model_files(run.folder / "results", "south")
    model = load_model(file, None)
    assert "handed over" in model.description
    test = load_site_data("south", "ham10k", config.data, config.seed, None).test.whole()
    scores = metrics.image_scores(model.network()(test.inputs), test.targets, 2, surface=False)
    assert metrics.dice_per_image([scores]) == run.results["sites"]["south"]["dice_per_image"]


def test_the_last_that_a_site_asks_for_is_its_network_and_nothing_leaves_after(tmp_path):
    recording = record_run(handing_over(PLAIN), tmp_path)
    for site in recording.run.results["sites"]:
        phases = [decode(asked).phase for name, asked, _ in recording.messages if name == site]
        assert phases[-1] is Phase.FETCH_MIDDLE
        assert phases.count(Phase.FETCH_MIDDLE) == 1
        assert phases[-2] is Phase.TEST


def test_a_large_network_comes_in_pieces(tmp_path, monkeypatch):
    whole = run_job(handing_over(PLAIN), tmp_path / "whole")
    for module in (handlers, exchange):
        monkeypatch.setattr(module, "PIECE", 10_000)
    pieces = record_run(handing_over(PLAIN), tmp_path / "pieces")
    phases = [decode(asked).phase for name, asked, _ in pieces.messages if name == "north"]
    numbers = sum(tensor.numel() for tensor in middle(of_server(whole, "north")).values())
    assert phases.count(Phase.FETCH_MIDDLE) == -(-numbers // 10_000) > 1
    assert equal_models(whole, pieces.run)


def test_no_network_is_handed_over_before_the_last_round_or_where_the_job_says_nothing_of_it():
    for config, round_number, reason in [
        (handing_over(PLAIN), 1, "after the last round"),
        (tiny_config(PLAIN), 2, "does not fit handover.epochs 0"),
    ]:
        server = server_of(config)
        server.open_round(round_number, list(config.sites))
        reply = decode(server.handle("north", request(Phase.FETCH_MIDDLE, 0, round_number)))
        assert reply.kind is Kind.REJECTION
        assert reason in reply.reason
    config = handing_over(PLAIN)
    server = server_of(config)
    server.open_round(2, list(config.sites))
    assert Field.WEIGHTS in decode(server.handle("north", request(Phase.FETCH_MIDDLE, 0, 2))).fields
    reply = decode(server.handle("north", request(Phase.FETCH_MIDDLE, 1, 2)))
    assert "has 1 pieces, so there is no 1" in reply.reason


def test_a_network_of_another_size_is_refused(tmp_path):
    federation = Federation(handing_over(PLAIN), tmp_path)
    federation.run(2)
    task = federation.open_next()
    own = federation.copies["north"].segments.middle
    own.register_parameter("more", torch.nn.Parameter(torch.zeros(3)))
    with pytest.raises(WireError, match="WEIGHTS has shape"):
        federation.work("north", task)


def test_a_mixture_is_not_handed_over():
    fedem = {"algorithm": {"name": "fedem", "args": {"components": 2}}}
    with pytest.raises(ConfigError, match=r"'handover\.epochs' must be 0 with the algorithm fedem"):
        algorithm_of(handing_over(PLAIN, fedem))


def test_what_is_handed_over_is_said_before_and_in_the_account(tmp_path):
    federation = Federation(handing_over(PLAIN), tmp_path)
    assert any("handed over" in warning for warning in federation.family.warnings(federation.config))
    latents = federation.family.disclosures(federation.config)[1]
    assert any("has learnt from the latents of others" in sentence for sentence in latents.meaning)
    assert not any("handed over" in warning for warning in federation.family.warnings(tiny_config()))
