"""Whole runs of the algorithms that change what crosses: FedPer, FedRep and FedEM."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from recording import Recording, record_run
from tiny_job import (
    PLAIN,
    Federation,
    Run,
    equal_models,
    equal_tensors,
    make_copy,
    run_job,
    tiny_config,
)

from mucald.aggregation.base import weighted_mean
from mucald.errors import WireError
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.wire.messages import Field, Message, Phase, decode
from mucald.methods.split.wire.weight_vector import to_vector
from mucald.state.checkpoint import load_checkpoint, without_prefix

TWO_EPOCHS = {"training": {"local_epochs": 2}}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "splitfed": {"name": "splitfed"},
    "fedper": {"name": "fedper"},
    "fedrep": {"name": "fedrep", "args": {"head_epochs": 1}},
    "fedem": {"name": "fedem", "args": {"components": 2}},
}
NEW = ("fedper", "fedrep", "fedem")
SHARING = ("fedper", "fedrep")
FETCH, GIVE, HEAD = Phase.FETCH_FRONT_END, Phase.GIVE_FRONT_END, Phase.TRAIN_HEAD
FORWARD, BACKWARD = Phase.TRAIN_FORWARD, Phase.TRAIN_BACKWARD


def config_of(name: str, **changes: Any) -> SplitConfig:
    return tiny_config(PLAIN, TWO_EPOCHS, changes, algorithm=ALGORITHMS[name])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Callable[[str], Recording]:
    """Run each algorithm once for all tests of this module."""
    return cache(lambda name: record_run(config_of(name), tmp_path_factory.mktemp(name)))


def messages(recording: Recording, *phases: Phase) -> Iterator[tuple[str, Message, Message]]:
    for site, request_, reply in recording.messages:
        if (message := decode(request_)).phase in phases:
            yield site, message, decode(reply)


def vectors(recording: Recording, phase: Phase, round_number: int) -> dict[str, torch.Tensor]:
    """Return the weights that crossed in a phase of a round, by site."""
    return {
        site: (asked if phase is GIVE else reply).fields[Field.WEIGHTS]
        for site, asked, reply in messages(recording, phase)
        if asked.round == round_number
    }


def scores(run: Run) -> dict[str, Any]:
    return {key: run.results[key] for key in ("sites", "mean", "rounds", "wire")}


def test_fedrep_without_head_epochs_is_fedper(recorded, tmp_path):
    algorithm = {"name": "fedrep", "args": {"head_epochs": 0}}
    run, fedper = (
        run_job(tiny_config(PLAIN, TWO_EPOCHS, algorithm=algorithm), tmp_path),
        recorded("fedper").run,
    )
    assert equal_models(run, fedper)
    assert scores(run) == scores(fedper)
    assert not equal_models(recorded("fedrep").run, fedper)


def test_fedem_of_one_component_is_splitfed(recorded, tmp_path):
    algorithm = {"name": "fedem", "args": {"components": 1}}
    run = run_job(tiny_config(PLAIN, TWO_EPOCHS, algorithm=algorithm), tmp_path)
    assert equal_models(run, recorded("splitfed").run)
    assert scores(run) == scores(recorded("splitfed").run)
    assert scores(recorded("fedem").run)["rounds"] != scores(run)["rounds"]


@pytest.mark.parametrize("name", NEW)
def test_neither_threads_nor_processes_nor_a_stop_change_the_numbers(name, recorded, tmp_path):
    expected = recorded(name).run
    at_once = run_job(config_of(name), tmp_path / "threads", workers=3)
    assert at_once.numbers() == expected.numbers()
    assert equal_models(at_once, expected)
    # Every task in a process of its own, and the server stops after the first round.
    Federation(config_of(name), tmp_path / "stopped", new_process=True).run(1)
    resumed = Federation(config_of(name, resume_from="latest"), tmp_path / "stopped", new_process=True)
    resumed.run()
    results = resumed.coordinator.finish()
    assert {key: results[key] for key in ("sites", "mean", "rounds", "wire")} == scores(expected)
    for site in resumed.config.sites:
        model = load_checkpoint(tmp_path / f"stopped/results/models/{site}.safetensors")[0]
        assert equal_tensors(model, expected.models()[f"results/server/models/{site}.safetensors"])
        assert equal_tensors(resumed.sites[site].weights(), own_model(expected, site))


def own_model(run: Run, site: str) -> dict[str, torch.Tensor]:
    return run.models()[f"results/{site}/models/{site}.safetensors"]


@pytest.mark.parametrize("name", SHARING)
def test_all_sites_begin_with_the_servers_front_end_and_then_with_the_mean_of_their_own(name, recorded):
    fetched, given = (vectors(recorded(name), phase, 0) for phase in (FETCH, GIVE))
    first = to_vector(make_copy(config_of(name)).segments.front_end, False)
    assert all(torch.equal(vector, first) for vector in fetched.values())
    for one, other in (("north", "south"), ("north", "west")):
        assert not torch.equal(given[one], given[other])
    mean = weighted_mean([{"x": given[site]} for site in sorted(given)], [1 / 3] * 3)["x"]
    for vector in vectors(recorded(name), FETCH, 1).values():
        torch.testing.assert_close(vector, mean, atol=1e-7, rtol=1e-6)
    last = list(vectors(recorded(name), FETCH, 2).values())
    assert len(last) == 3
    assert all(torch.equal(vector, last[0]) for vector in last)


@pytest.mark.parametrize("name", SHARING)
def test_back_ends_and_the_sites_optimisers_stay_private(name, recorded):
    run = recorded(name).run
    north, west = (without_prefix("back_end", own_model(run, site)) for site in ("north", "west"))
    assert north.keys() == west.keys(), "both sites have the same task"
    assert not equal_tensors(north, west)
    server = run.models()["results/server/models/north.safetensors"]
    assert not any("back_end" in tensor for tensor in server)
    states = [without_prefix("optimiser", run.checkpoint(site, 2)) for site in ("north", "west")]
    assert not equal_tensors(*states)


def phases(recording: Recording) -> Counter[Phase]:
    return Counter(asked.phase for _, asked, _ in messages(recording, *Phase))


def test_what_crosses_is_what_the_algorithm_needs(recorded):
    splitfed = phases(recorded("splitfed"))
    # Three sites; two rounds and the test; four training images in batches of two.
    assert splitfed[FORWARD] == splitfed[BACKWARD] == 3 * 2 * 4
    assert not splitfed.keys() & {FETCH, GIVE, HEAD}
    assert phases(recorded("fedem")) == splitfed
    assert phases(recorded("fedper")) == splitfed | {FETCH: 3 * 3, GIVE: 3 * 2}
    half = dict.fromkeys((FORWARD, BACKWARD, HEAD), 3 * 2 * 2)
    assert phases(recorded("fedrep")) == dict(phases(recorded("fedper"))) | half


def test_components_multiply_the_channels_of_features_and_their_gradient_alone(recorded):
    channels = {
        field: {fields[field].shape[1] for fields in crossed(recorded("fedem")) if field in fields}
        for field in (Field.LATENT, Field.FEATURES, Field.FEATURE_GRADIENT, Field.LATENT_GRADIENT)
    }
    assert channels == {
        Field.LATENT: {4},
        Field.FEATURES: {8},
        Field.FEATURE_GRADIENT: {8},
        Field.LATENT_GRADIENT: {4},
    }


def crossed(recording: Recording) -> Iterator[dict[Field, torch.Tensor]]:
    for _, asked, reply in messages(recording, *Phase):
        yield asked.fields
        yield reply.fields


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_results_count_every_byte_and_every_image(name, recorded):
    wire = recorded(name).run.results["wire"]
    up, down, training = 0, 0, 0
    for _, asked, reply in recorded(name).messages:
        up, down = up + len(asked), down + len(reply)
        if decode(asked).phase in (FORWARD, BACKWARD, HEAD):
            training += len(asked) + len(reply)
    assert (wire["bytes_up"], wire["bytes_down"]) == (up, down)
    assert wire["bytes_per_image_step"] == training / (3 * 2 * 2 * 4)


def test_a_head_epoch_leaves_the_representation_and_a_body_epoch_the_back_end(tmp_path):
    """Batch normalisation's running statistics included."""
    config = config_of("fedrep", network={"norm": "batch"})
    seen: list[tuple[Phase, dict[str, torch.Tensor]]] = []

    def carrier(name, send):
        def listening(data: bytes) -> bytes:
            if name == "north":
                site, copy = federation.sites[name], federation.copies[name].segments
                tensors = site.weights() | {f"server.{n}": t for n, t in copy.middle.state_dict().items()}
                seen.append((decode(data).phase, {n: tensor.clone() for n, tensor in tensors.items()}))
            return send(data)

        return listening

    federation = Federation(config, tmp_path, carrier=carrier)
    federation.run(1)
    assert [phase for phase, _ in seen] == [FETCH, HEAD, HEAD, FORWARD, BACKWARD, FORWARD, BACKWARD, GIVE]
    of_head, of_body = ((seen[1][1], seen[2][1]), (seen[3][1], seen[7][1]))
    for (start, end), learn in ((of_head, {"back_end"}), (of_body, {"front_end", "server"})):
        for part in ("front_end", "back_end", "server"):
            same = equal_tensors(without_prefix(part, start), without_prefix(part, end))
            assert same is (part not in learn), part


def test_a_site_that_failed_fetches_the_aggregate_like_all_others(tmp_path):
    fetched: dict[str, list[torch.Tensor]] = {}

    def carrier(name, send):
        def sending(data: bytes) -> bytes:
            message = decode(data)
            if (name, message.round, message.phase) == ("south", 0, GIVE):
                raise WireError("the line is cut")
            reply = send(data)
            if message.phase is FETCH:
                fetched.setdefault(name, []).append(decode(reply).fields[Field.WEIGHTS])
            return reply

        return sending

    federation = Federation(config_of("fedper"), tmp_path, carrier=carrier)
    federation.run(2)
    first, second = zip(*(fetched[site] for site in federation.config.sites), strict=True)
    assert all(torch.equal(vector, second[0]) for vector in second)
    assert not torch.equal(first[0], second[0])
    failures = federation.coordinator._history.failures
    assert [(failure["site"], failure["round"]) for failure in failures] == [("south", 0)]


@pytest.fixture(scope="module")
def weights_of_components(recorded) -> dict[str, torch.Tensor]:
    run = recorded("fedem").run
    return {site: run.checkpoint(site, 2)["weights.mixture.weights"] for site in ("north", "south", "west")}


def test_every_site_keeps_its_own_weights_of_the_components(weights_of_components, recorded):
    for site, weights in weights_of_components.items():
        assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
        assert not torch.equal(weights, torch.full((2,), 0.5))
        assert "mixture.weights" in own_model(recorded("fedem").run, site)
    assert not torch.equal(weights_of_components["north"], weights_of_components["west"])


def test_components_are_averaged_one_by_one(recorded):
    run = recorded("fedem").run
    runs = run.folder / "home/server/runs" / run.results["run_id"]
    states = [
        without_prefix(
            "segments.middle.components", load_checkpoint(runs / f"round-002/{site}.safetensors")[0]
        )
        for site in ("north", "south", "west")
    ]
    assert all(equal_tensors(state, states[0]) for state in states)
    assert not equal_tensors(without_prefix("0", states[0]), without_prefix("1", states[0]))


def test_fedrep_goes_with_the_whole_method(tmp_path):
    """A head step sends no proxies, and the server's networks do not learn from it."""
    recording = record_run(tiny_config(TWO_EPOCHS, algorithm=ALGORITHMS["fedrep"]), tmp_path)
    assert recording.run.results["failures"] == []
    asked = [fields.fields.keys() for _, fields, _ in messages(recording, HEAD)]
    assert len(asked) == 3 * 2 * 2
    assert all(fields == {Field.LATENT, Field.LEVEL} for fields in asked)
