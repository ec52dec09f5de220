"""A site that stands still is left out of the round, and taken back when it steps again."""

import logging

import pytest
from fragile_line import breaking_after, cut_after
from tiny_job import PLAIN, Clock, Federation, equal_tensors, pooled_config, request, tiny_config

from mucald.methods.split.wire.messages import Phase, decode

TIMEOUT_S = 10.0
ROUNDS = 3


class StalledError(Exception):
    """Ends a site's work in the middle without a word, as if it stood still."""


def config():
    return tiny_config(PLAIN, training={"rounds": ROUNDS}, runtime={"stall_timeout_s": TIMEOUT_S})


def work_of_others(federation: Federation, task) -> None:
    for name in ("north", "west"):
        federation.coordinator.begin(name)
        federation.receive(name, federation.work(name, task))


def finish(federation: Federation) -> dict:
    federation.run()
    results = federation.coordinator.finish()
    skipped = ("run_id", "timing", "failures", "config")
    return {key: value for key, value in results.items() if key not in skipped}


def weights(federation: Federation) -> dict:
    tensors = {}
    for name, copy in federation.copies.items():
        own = federation.sites[name].weights()
        tensors |= {f"{name}.server.{key}": value.clone() for key, value in copy.state()[0].items()}
        tensors |= {f"{name}.site.{key}": value.clone() for key, value in own.items()}
    return tensors


def run_with_a_cut_line(folder, stalled_round: int) -> tuple[dict, dict]:
    """Return results and weights of a run in which the site south fails in that round and says so."""
    federation = Federation(config(), folder)
    federation.run(stalled_round)
    federation.carrier = cut_after("south", 3)
    federation.run(1)
    return finish(federation), weights(federation)


@pytest.mark.parametrize("stalled_round", [0, 1])
@pytest.mark.parametrize("reported", [False, True])
def test_the_run_goes_on_as_if_the_site_had_failed_and_its_late_report_changes_nothing(
    reported, stalled_round, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    clock = Clock()
    federation = Federation(config(), tmp_path / "stalled", clock=clock)
    coordinator = federation.coordinator
    federation.run(stalled_round)
    task = federation.open_next()
    before = {name: tensor.clone() for name, tensor in federation.copies["south"].state()[0].items()}
    outcome = None
    coordinator.begin("south")
    if reported:
        # It has done the whole round, down to its own checkpoint, and stands still before its report.
        outcome = federation.work("south", task)
    else:
        federation.carrier = breaking_after("south", 3, StalledError())
        with pytest.raises(StalledError):
            federation.work("south", task)
    work_of_others(federation, task)
    clock.now += TIMEOUT_S - 1
    assert coordinator.leave_out_silent() == []
    assert coordinator.awaited == ["south"]
    clock.now += 1
    assert coordinator.leave_out_silent() == ["south"]
    assert coordinator.awaited == []
    assert equal_tensors(federation.copies["south"].state()[0], before)
    if outcome is not None:
        federation.receive("south", outcome)
        assert "report of site 'south' comes too late" in caplog.text
    coordinator.fail("south", "a second reason")
    refusal = decode(coordinator.handle("south", request(Phase.TRAIN_FORWARD, 9, stalled_round)))
    assert "not open" in refusal.reason
    assert equal_tensors(federation.copies["south"].state()[0], before)
    coordinator.close(task)
    results, learnt = finish(federation), weights(federation)
    assert [(f["site"], f["round"]) for f in coordinator._history.failures] == [("south", stalled_round)]
    assert "has not stepped for 10 s" in coordinator._history.failures[0]["reason"]
    assert f"site 'south' is left out of round {stalled_round + 1}: it has not stepped" in caplog.text
    taken_part = ["south" in entry["sites"] for entry in results["rounds"]]
    assert taken_part == [number != stalled_round for number in range(ROUNDS)]
    expected, weights_expected = run_with_a_cut_line(tmp_path / "cut", stalled_round)
    for result in (results, expected):
        # The number of bytes counts what was reported; the lost round's was not.
        result.pop("wire")
        for site in result["sites"].values():
            site.pop("wire")
    assert results == expected
    assert equal_tensors(learnt, weights_expected)


def test_a_site_that_is_slow_but_steps_is_never_left_out(tmp_path):
    clock = Clock()

    def slow(_name, send):
        def sending(data: bytes) -> bytes:
            clock.now += TIMEOUT_S - 1
            assert federation.coordinator.leave_out_silent() == []
            return send(data)

        return sending

    federation = Federation(config(), tmp_path, carrier=slow, clock=clock)
    task = federation.open_next()
    outcome = federation.work("south", task)
    assert clock.now > 1000 + 3 * TIMEOUT_S
    federation.receive("south", outcome)
    assert federation.coordinator.awaited == ["north", "west"]


def test_a_site_that_is_away_keeps_no_further_round_open_until_it_steps(tmp_path):
    clock = Clock()
    federation = Federation(config(), tmp_path, clock=clock)
    coordinator, tasks = federation.coordinator, federation.coordinator.tasks()
    for _ in range(2):
        task = next(tasks)
        federation.open(task)
        work_of_others(federation, task)
        clock.now += TIMEOUT_S if task.round == 0 else 0
        assert coordinator.leave_out_silent() == ["south"]
        coordinator.close(task)
    task = next(tasks)
    federation.open(task)
    work_of_others(federation, task)
    coordinator.begin("south")
    assert coordinator.leave_out_silent() == []
    federation.receive("south", federation.work("south", task))
    coordinator.close(task)
    assert [f["reason"] for f in coordinator._history.failures] == [
        "it has not stepped for 10 s (runtime.stall_timeout_s)",
        "it has not stepped since an earlier round",
    ]


def test_who_holds_the_data_of_all_sites_sends_no_message_and_is_not_watched(tmp_path):
    clock = Clock()
    federation = Federation(pooled_config(runtime={"stall_timeout_s": TIMEOUT_S}), tmp_path, clock=clock)
    federation.open_next()
    clock.now += 1e6
    assert federation.coordinator.leave_out_silent() == []
