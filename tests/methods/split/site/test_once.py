"""Sites that freeze their front ends and release every image one single time."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from fragile_line import KilledError, run_restarting
from recording import Recording, record_run
from tiny_job import (
    LATENT,
    PLAIN,
    Federation,
    Run,
    disclosed,
    equal_models,
    equal_tensors,
    run_job,
    tiny_config,
)

from mucald.errors import ConfigError, WireError
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.wire.messages import Field, Phase, decode
from mucald.state.checkpoint import load_checkpoint, without_prefix

ONCE = {"release": {"mode": "once", "pretraining_epochs": 2}, "training": {"rounds": 3}}
IMAGES = {"train": 4, "validation": 2, "test": 2}
SPLIT = {Phase.RELEASE: "train", Phase.VALIDATE: "validation", Phase.TEST: "test"}


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Recording:
    return record_run(tiny_config(ONCE), tmp_path_factory.mktemp("once"))


class Wire:
    """Listens to the sites of one or more federations, and may break a connection.

    Args:
        breaks: site and how many of its requests are answered before one fails; once.
        error: what the failure raises.
    """

    def __init__(self, breaks: dict[str, int] | None = None, error: type[Exception] = WireError):
        self.messages: list[tuple[str, bytes]] = []
        self._left, self._error = dict(breaks or {}), error

    def __call__(self, name, send):
        def sending(data: bytes) -> bytes:
            reply = send(data)
            self.messages.append((name, data))
            if name in self._left:
                self._left[name] -= 1
                if self._left[name] < 0:
                    del self._left[name]
                    raise self._error("the line went dead")
            return reply

        return sending


def latents(messages: list[tuple[str, bytes]]) -> dict[tuple[str, str], Counter]:
    """Return how often each latent, as its bytes, crossed, by site and split."""
    found: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for site, request in messages:
        message = decode(request)
        for latent in message.fields.get(Field.LATENT, ()):
            found[site, SPLIT[message.phase]][latent.numpy().tobytes()] += 1
    return found


def assert_one_latent_per_image(messages: list[tuple[str, bytes]]) -> None:
    found = latents(messages)
    assert found.keys() == {(site, split) for site in ("north", "south", "west") for split in IMAGES}
    for (_, split), counts in found.items():
        assert len(counts) == IMAGES[split]


def finished(federation: Federation) -> Run:
    federation.run()
    federation.coordinator.finish()
    results = json.loads((federation.folder / "results/results.json").read_text())
    return Run(federation.folder, results)


def same_models(one: Federation, run: Run) -> bool:
    models = run.models()
    return all(
        equal_tensors(dict(copy.segments.state_dict()), models[f"results/server/models/{site}.safetensors"])
        for site, copy in one.copies.items()
    )


def test_every_image_crosses_once_in_the_whole_run_and_no_gradient_comes_back(once):
    requests = [(site, request) for site, request, _ in once.messages]
    assert_one_latent_per_image(requests)
    assert all(count == 1 for counts in latents(requests).values() for count in counts.values())
    phases = {decode(request).phase for _, request in requests}
    assert phases == {
        Phase.RELEASE,
        Phase.TRAIN_FORWARD_RELEASED,
        Phase.TRAIN_BACKWARD_RELEASED,
        Phase.VALIDATE,
        Phase.VALIDATE_RELEASED,
        Phase.REPORT,
        Phase.TEST,
    }
    fields = [decode(reply).fields for _, _, reply in once.messages]
    assert not any(Field.LATENT_GRADIENT in reply for reply in fields)
    bounds = disclosed(once.run.results, "latents")["bounds"]
    assert {split: bound["releases"] for split, bound in bounds.items()} == dict.fromkeys(IMAGES, 1)


def test_the_server_trains_on_the_samples_that_the_job_shuffles(once):
    numbers = defaultdict(list)
    for site, request, _ in once.messages:
        message = decode(request)
        if message.phase is Phase.TRAIN_FORWARD_RELEASED:
            numbers[site, message.round] += message.fields[Field.INDICES].tolist()
    assert len(numbers) == 9
    assert all(sorted(order) == [0, 1, 2, 3] for order in numbers.values())
    assert len({tuple(order) for order in numbers.values()}) > 3


def test_fewer_bytes_cross_than_with_fresh_releases_and_the_release_is_counted(once, tmp_path):
    fresh = run_job(tiny_config(training={"rounds": 3}), tmp_path).results["wire"]
    wire = once.run.results["wire"]
    assert wire["bytes_per_image_step"] < 0.8 * fresh["bytes_per_image_step"]
    counted = ("RELEASE", "TRAIN_FORWARD_RELEASED", "TRAIN_BACKWARD_RELEASED")
    total = sum(len(q) + len(r) for _, q, r in once.messages if decode(q).phase.name in counted)
    assert wire["bytes_per_image_step"] == pytest.approx(total / (3 * 3 * IMAGES["train"]))


def test_the_front_end_learns_before_the_first_round_and_never_again(tmp_path):
    config = tiny_config(ONCE, network={"norm": "batch"})
    untrained = Federation(tiny_config(training={"rounds": 3}, network={"norm": "batch"}), tmp_path / "fresh")
    federation = Federation(config, tmp_path / "once")
    untrained.work("north", untrained.open_next())
    home = tmp_path / "fresh/home/north"
    first = Run(tmp_path / "fresh", {"run_id": next((home / "runs").iterdir()).name}).checkpoint("north", 0)
    seen = []
    for task in federation.coordinator.tasks():
        federation.run_sites(task)
        federation.coordinator.close(task)
        weights = {name: tensor.clone() for name, tensor in federation.sites["north"].weights().items()}
        seen.append([without_prefix(part, weights) for part in ("front_end", "back_end")])
    assert len(seen) == 4
    assert all(equal_tensors(front, seen[0][0]) for front, _ in seen)
    assert any("running_mean" in name for name in seen[0][0])
    assert not equal_tensors(seen[0][1], seen[1][1]), "the back end goes on learning"
    assert not equal_tensors(seen[0][0], without_prefix("weights.front_end", first))


def test_pretraining_is_reported_once_and_lowers_its_loss(tmp_path):
    content = {"release": {"mode": "once", "pretraining_epochs": 12}, "training": {"rounds": 2}}
    results = run_job(tiny_config(PLAIN, content, optimiser={"segmentation": 0.01}), tmp_path).results
    first, second = (entry["sites"]["north"] for entry in results["rounds"])
    losses = list(first["pretraining"].values())
    assert list(first["pretraining"]) == [f"epoch_{number}" for number in range(1, 13)]
    assert losses[-1] < 0.8 * losses[0]
    assert "pretraining" not in second


def test_without_pretraining_the_first_weights_are_frozen(tmp_path):
    config = tiny_config(PLAIN, ONCE, release={"mode": "once", "pretraining_epochs": 0}, min_sites=3)
    results = run_job(config, tmp_path).results
    assert results["failures"] == []
    assert results["rounds"][0]["sites"]["north"]["pretraining"] == {}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("algorithm", ["fedem", "scaffold", "mocha"])
def test_other_algorithms_take_it_too(algorithm, depth, tmp_path):
    arguments = {"fedem": {"components": 2}, "mocha": {"regularisation": 0.001, "ridge": 0.0001}}
    change = {"algorithm": {"name": algorithm, "args": arguments.get(algorithm, {})}, "min_sites": 3}
    rule = {"aggregation": {"rule": "local" if algorithm == "mocha" else "equal"}}
    config = tiny_config(PLAIN, ONCE, change, rule, wire={"pipeline_depth": depth})
    recording = record_run(config, tmp_path)
    assert recording.run.results["failures"] == []
    assert_one_latent_per_image([(site, request) for site, request, _ in recording.messages])


@pytest.mark.parametrize(
    ("algorithm", "args", "key"),
    [
        ("fedper", {}, "release.mode 'once'"),
        ("fedrep", {"head_epochs": 0}, "release.mode 'once'"),
    ],
)
def test_an_algorithm_that_trains_front_ends_in_every_round_refuses_it(algorithm, args, key):
    with pytest.raises(ConfigError, match=f"'{algorithm}'.*{key}"):
        algorithm_of(tiny_config(PLAIN, ONCE, algorithm={"name": algorithm, "args": args}))


@pytest.mark.parametrize("workers", [3, None])
def test_threads_and_a_process_per_task_change_no_number(workers, once, tmp_path):
    if workers:
        run = run_job(tiny_config(ONCE), tmp_path, workers)
        assert equal_models(run, once.run)
    else:
        federation = Federation(tiny_config(ONCE), tmp_path, new_process=True)
        run = finished(federation)
        assert same_models(federation, once.run)
    assert run.numbers() == once.run.numbers()


# A task whose sites are done but that is not closed is lost with the server, and done again.
@pytest.mark.parametrize(("tasks", "closed"), [(0, False), (1, True), (1, False), (2, True), (3, False)])
def test_a_resumed_run_releases_nothing_anew(tasks, closed, once, tmp_path):
    wire = Wire()
    stopped = Federation(tiny_config(ONCE), tmp_path, carrier=wire)
    stopped.run(tasks)
    if not closed:
        stopped.run_sites(next(stopped.coordinator.tasks()))
    resumed = Federation(tiny_config(ONCE, resume_from="latest"), tmp_path, new_process=True, carrier=wire)
    run = finished(resumed)
    assert_one_latent_per_image(wire.messages)
    assert run.numbers() == once.run.numbers()
    assert same_models(resumed, once.run)


# 0 and 1 break off the release, 3 the training.
@pytest.mark.parametrize("answered", [0, 1, 3])
def test_a_site_that_failed_in_the_first_round_releases_the_same_bytes_in_the_second(answered, tmp_path):
    wire = Wire({"south": answered})
    run = finished(Federation(tiny_config(ONCE), tmp_path, carrier=wire))
    assert [(f["site"], f["round"]) for f in run.results["failures"]] == [("south", 0)]
    assert_one_latent_per_image(wire.messages)
    counts = latents(wire.messages)
    again = sum(count - 1 for count in counts["south", "train"].values())
    assert again == 2 * min(answered + 1, 2), "so many images were released in vain"
    assert all(count == 1 for count in counts["north", "train"].values())
    assert run.results["sites"]["south"]["test"] is not None
    assert "pretraining" in run.results["rounds"][1]["sites"]["south"]


@pytest.mark.parametrize("answered", [0, 1, 4, 7, 9])
def test_a_site_killed_and_started_again_changes_no_number(answered, once, tmp_path):
    wire = Wire({"south": answered}, KilledError)
    federation = Federation(tiny_config(ONCE), tmp_path, carrier=wire)
    assert run_restarting(federation) == 1
    results = json.loads((Path(tmp_path) / "results/results.json").read_text())
    assert Run(tmp_path, results).numbers() == once.run.numbers()
    assert same_models(federation, once.run)
    assert_one_latent_per_image(wire.messages)


def test_the_servers_checkpoint_holds_what_was_released_and_the_sites_that_it_was(once):
    site = once.run.checkpoint("north", 3)
    assert without_prefix("released", site).keys() == {"train", "validation"}
    store = once.run.folder / "home/server/runs" / once.run.results["run_id"] / "round-003"
    released = without_prefix("released", load_checkpoint(store / "north.safetensors")[0])
    assert released["train.latent"].shape == (4, *LATENT[1:])
    assert released["validation.latent"].shape == (2, *LATENT[1:])
