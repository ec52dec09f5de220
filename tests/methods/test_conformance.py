"""What every method must keep, whatever it does: the first suite that a new one has to pass."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import METHODS, config_of
from tiny_job import Federation, Run, equal_models, run_job

from mucald.errors import CheckpointError, ConfigError, WireError
from mucald.federation.method import Outcome, Send
from mucald.federation.task import SiteTask
from mucald.methods import FAMILIES, family_of
from mucald.metrics.names import names_of
from mucald.optimisers import SGD, Adam
from mucald.privacy.disclosure import KINDS
from mucald.privacy.policy import POLICY_FILE
from mucald.training.whole_model import WholeModel

SITES = [name for name in METHODS if not name.startswith("pooled")]


class KilledError(Exception):
    """A site's process ends in the middle of its work."""


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Run a method's job once for all tests."""
    runs: dict[str, Run] = {}

    def run(name: str) -> Run:
        if name not in runs:
            runs[name] = run_job(config_of(name), tmp_path_factory.mktemp(name.replace(" ", "-")))
        return runs[name]

    return run


def finished(federation: Federation, folder: Path) -> Run:
    """Return what a federation left, as a run."""
    return Run(folder, json.loads((federation.folder / "results/results.json").read_text()))


def test_every_family_is_under_test():
    assert {config_of(name).method for name in METHODS} == set(FAMILIES)


def test_a_run_learns_something_at_every_site(method, unbroken):
    results = unbroken(method).results
    assert set(results["sites"]) == set(config_of(method).sites)
    for site in results["sites"].values():
        assert site["test"][names_of(site["task"]).primary] is not None
    assert len(results["rounds"]) == config_of(method).training.rounds
    assert results["failures"] == []
    first, last = (entry["sites"] for entry in (results["rounds"][0], results["rounds"][-1]))
    assert all(first[site]["losses"] != last[site]["losses"] for site in first)


def test_a_stopped_and_resumed_run_ends_with_equal_numbers_and_models(method, unbroken, tmp_path):
    config = config_of(method)
    Federation(config, tmp_path).run(tasks=1)
    resumed = run_job(dataclasses.replace(config, resume_from="latest"), tmp_path)
    assert resumed.numbers() == unbroken(method).numbers()
    assert equal_models(resumed, unbroken(method))


def test_a_run_of_another_configuration_is_not_resumed(method, tmp_path):
    config = config_of(method)
    Federation(config, tmp_path).run(tasks=1)
    with pytest.raises(CheckpointError, match="had another configuration: seed changed"):
        Federation(dataclasses.replace(config, seed=8, resume_from="latest"), tmp_path)


def test_a_process_per_task_and_sites_at_once_change_no_number(method, unbroken, tmp_path):
    federation = Federation(config_of(method), tmp_path / "anew", new_process=True)
    federation.run()
    federation.coordinator.finish()
    assert finished(federation, tmp_path).numbers() == unbroken(method).numbers()
    at_once = run_job(config_of(method), tmp_path / "at-once", workers=3)
    assert at_once.numbers() == unbroken(method).numbers()
    assert equal_models(at_once, unbroken(method))


def test_the_order_in_which_sites_report_changes_no_number(method, unbroken, tmp_path):
    federation = Federation(config_of(method), tmp_path)
    for task in federation.coordinator.tasks():
        federation.coordinator.open(task)
        for turn in federation.coordinator.turns():
            done = {name: federation.work(name, task) for name in reversed(turn)}
            for name, outcome in done.items():
                federation.coordinator.receive(name, outcome.reports, outcome.payload)
        federation.coordinator.close(task)
    federation.coordinator.finish()
    assert finished(federation, tmp_path).numbers() == unbroken(method).numbers()


def dying(send: Send, messages: int) -> Send:
    """Return a carrier whose process dies at a message."""
    left = iter(range(messages))

    def carry(request: bytes) -> bytes:
        if next(left, None) is None:
            raise KilledError
        return send(request)

    return carry


@pytest.mark.parametrize("completed", [0, 1])
def test_a_site_that_is_killed_and_comes_back_changes_no_number(
    method, completed, unbroken, tmp_path, monkeypatch
):
    federation = Federation(config_of(method), tmp_path)
    coordinator, steps = federation.coordinator, iter(range(1))
    victim = coordinator.participants[0]

    def dying_step(step: Callable[..., Any]) -> Callable[..., Any]:
        def first_alone(self: Any, *arguments: Any, **named: Any) -> Any:
            if next(steps, None) is None:
                raise KilledError
            return step(self, *arguments, **named)

        return first_alone

    for task in coordinator.tasks():
        coordinator.open(task)
        for turn in coordinator.turns():
            for name in turn:
                coordinator.begin(name)
                if name == victim and task.round == completed:
                    with monkeypatch.context() as patch:
                        for cls, name_of_step in (WholeModel, "train_step"), (Adam, "step"), (SGD, "step"):
                            patch.setattr(cls, name_of_step, dying_step(getattr(cls, name_of_step)))
                        federation.carrier = lambda _, send: dying(send, 3)
                        with pytest.raises(KilledError):
                            federation.work(name, task)
                    federation.carrier = None
                    del federation.sites[name]
                    coordinator.restart(name)
                outcome = federation.work(name, task)
                coordinator.receive(name, outcome.reports, outcome.payload)
        coordinator.close(task)
    coordinator.finish()
    assert finished(federation, tmp_path).numbers() == unbroken(method).numbers()


@pytest.mark.parametrize("method", SITES)
def test_a_late_report_is_ignored_and_its_site_takes_part_again(method, tmp_path):
    federation = Federation(config_of(method), tmp_path)
    coordinator = federation.coordinator
    late: dict[str, Outcome] = {}
    for task in coordinator.tasks():
        coordinator.open(task)
        for turn in coordinator.turns():
            for name in turn:
                outcome = federation.work(name, task)
                if name == "south" and task.round == 0:
                    coordinator.fail(name, "too slow")
                    late[name] = outcome
                    coordinator.receive(name, outcome.reports, outcome.payload)
                else:
                    coordinator.receive(name, outcome.reports, outcome.payload)
        coordinator.close(task)
    results = coordinator.finish()
    assert late
    assert results["failures"] == [{"site": "south", "round": 0, "reason": "too slow"}]
    assert [sorted(entry["sites"]) for entry in results["rounds"]] == [
        ["north", "west"],
        ["north", "south", "west"],
    ]
    assert results["sites"]["south"]["test"] is not None


@pytest.mark.parametrize("method", SITES)
def test_a_late_report_leaves_what_others_have_learnt_as_without_it(method, tmp_path):
    def run(folder: Path, works: bool) -> dict[str, Any]:
        federation = Federation(config_of(method), folder)
        task = next(federation.coordinator.tasks())
        federation.coordinator.open(task)
        for turn in federation.coordinator.turns():
            for name in turn:
                outcome = federation.work(name, task) if works or name != "south" else None
                if name == "south":
                    federation.coordinator.fail(name, "too slow")
                if outcome is not None:
                    federation.coordinator.receive(name, outcome.reports, outcome.payload)
        federation.coordinator.close(task)
        return federation.coordinator.method.state()

    with_it, without = run(tmp_path / "with", works=True), run(tmp_path / "without", works=False)
    assert with_it.keys() == without.keys()
    # What sites seal differs from run to run, and tells nobody anything.
    readable = {name: tensor for name, tensor in with_it.items() if tensor.dtype != torch.uint8}
    assert readable
    assert all(torch.equal(tensor, without[name]) for name, tensor in readable.items())


def refusing(home: Path) -> None:
    home.mkdir(parents=True)
    content = {"discloses": {}, "tensorboard_images": False, "recording": False}
    (home / POLICY_FILE).write_text(json.dumps(content))


@pytest.mark.parametrize("method", SITES)
def test_a_site_whose_policy_names_nothing_sends_nothing_and_the_others_go_on(method, tmp_path):
    refusing(tmp_path / "home/south")
    sent: list[str] = []

    def listening(site: str, send: Send) -> Send:
        def carry(request: bytes) -> bytes:
            sent.append(site)
            return send(request)

        return carry

    federation = Federation(config_of(method), tmp_path, carrier=listening)
    federation.run()
    results = federation.coordinator.finish()
    assert {failure["site"] for failure in results["failures"]} == {"south"}
    for disclosure in federation.family.disclosures(config_of(method)):
        reasons = [failure["reason"] for failure in results["failures"]]
        assert all(f"{disclosure.kind} may not leave" in r for r in reasons)
    assert "south" not in sent
    assert set(results["sites"]) == {"north", "west"}


@pytest.mark.parametrize("method", SITES)
def test_a_method_declares_scores_and_whatever_it_sends(method, tmp_path):
    messages, payloads = [], []

    def listening(site: str, send: Send) -> Send:
        return lambda request: messages.append(site) or send(request)

    federation = Federation(config_of(method), tmp_path, carrier=listening)
    task = next(federation.coordinator.tasks())
    federation.coordinator.open(task)
    for turn in federation.coordinator.turns():
        for name in turn:
            outcome = federation.work(name, task)
            payloads.append(outcome.payload)
            federation.coordinator.receive(name, outcome.reports, outcome.payload)
    declared = [disclosure.kind for disclosure in federation.family.disclosures(config_of(method))]
    assert "scores" in declared
    assert ("latents" in declared) is bool(messages)
    assert ("weights" in declared) is any(payloads)
    assert set(declared) <= set(KINDS)


def forged(outcome: Outcome, task: SiteTask) -> Iterator[tuple[Any, Any]]:
    """Yield reports and tensors that no site of the tiny job can mean."""
    (site, report), *_ = outcome.reports.items()
    yield None, {}
    yield {}, {}
    yield {"elsewhere": report}, {}
    yield {site: report | {"round": task.round + 1}}, {}
    yield {site: report | {"file": "patient-07.png"}}, {}
    yield {site: report | {"seconds": float("nan")}}, {}
    yield outcome.reports, {"backdoor": torch.zeros(3)}


def test_what_no_site_can_mean_is_refused_and_the_site_may_still_answer(method, tmp_path):
    federation = Federation(config_of(method), tmp_path)
    coordinator = federation.coordinator
    task = next(coordinator.tasks())
    coordinator.open(task)
    for turn in coordinator.turns():
        for name in turn:
            outcome = federation.work(name, task)
            for reports, payload in forged(outcome, task):
                with pytest.raises(WireError):
                    coordinator.receive(name, reports, payload)
            coordinator.receive(name, outcome.reports, outcome.payload)
    coordinator.close(task)


def test_messages_that_are_no_steps_are_answered_and_change_nothing(method, unbroken, tmp_path):
    federation = Federation(config_of(method), tmp_path)
    for task in federation.coordinator.tasks():
        federation.coordinator.open(task)
        for turn in federation.coordinator.turns():
            for name in turn:
                assert isinstance(federation.coordinator.handle(name, b"no message"), bytes)
                outcome = federation.work(name, task)
                federation.coordinator.receive(name, outcome.reports, outcome.payload)
        federation.coordinator.close(task)
    federation.coordinator.finish()
    assert finished(federation, tmp_path).numbers() == unbroken(method).numbers()


def test_too_few_participants_and_unknown_sites_are_refused(method, tmp_path):
    config = config_of(method)
    family = family_of(config.method)
    with pytest.raises(ConfigError, match="min_sites"):
        Federation(dataclasses.replace(config, min_sites=4), tmp_path)
    with pytest.raises(ConfigError, match="east"):
        family.check(config, [*family.participants(config), "east"])
