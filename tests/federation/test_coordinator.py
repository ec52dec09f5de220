import json
import logging
import math

import pytest
import torch
from fragile_line import cut_after
from tiny_job import PLAIN, Federation, equal_tensors, request, run_job, tiny_config, write_policy

from mucald.errors import ConfigError, TrainingError, WireError
from mucald.methods.split.causal import graphs, proxies
from mucald.methods.split.causal.graphs import CausalTask
from mucald.methods.split.wire.messages import Phase, decode

THREE_ROUNDS = {"training": {"rounds": 3}}


def state(federation: Federation, site: str) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in federation.copies[site].state()[0].items()}


def test_all_rounds_and_then_the_test(tmp_path):
    federation = Federation(tiny_config(THREE_ROUNDS), tmp_path)
    run_id = federation.coordinator.run_id
    kinds = [(task.kind, task.round, task.run_id) for task in federation.coordinator.tasks()]
    assert kinds == [("train", 0, run_id), ("train", 1, run_id), ("train", 2, run_id), ("test", 3, run_id)]


def test_runs_of_one_second_have_names_of_their_own(tmp_path):
    names = {Federation(tiny_config(), tmp_path).coordinator.run_id for _ in range(3)}
    assert len(names) == 3


# 4 requests make the first round's two steps, so 6 more lie in the middle of the second round's training.
@pytest.mark.parametrize("requests", [1, 6, 9])
def test_a_site_whose_line_is_cut_is_left_out_rolled_back_and_comes_back(requests, tmp_path, caplog):
    config = tiny_config(PLAIN, THREE_ROUNDS)
    federation = Federation(config, tmp_path, carrier=cut_after("south", requests))
    tasks = list(federation.coordinator.tasks())
    failed = 0 if requests < 4 else 1
    if failed:
        federation.run(1)
    before = state(federation, "south")
    federation.run_sites(tasks[failed])
    assert equal_tensors(state(federation, "south"), before)
    assert not equal_tensors(state(federation, "north"), before)
    assert f"site 'south' is left out of round {failed + 1}: the line is cut" in caplog.text
    federation.coordinator.close(tasks[failed])
    federation.run()
    results = federation.coordinator.finish()
    assert results["failures"] == [{"site": "south", "round": failed, "reason": "the line is cut"}]
    present = [set(entry["sites"]) for entry in results["rounds"]]
    everyone = {"north", "south", "west"}
    assert present == [everyone - ({"south"} if number == failed else set()) for number in range(3)]
    assert results["sites"]["south"]["test"] is not None
    assert [v["round"] for v in results["sites"]["south"]["validation"]] == [
        n for n in range(3) if n + 1 != failed
    ]


def test_a_failed_site_gets_the_others_mean_but_keeps_its_optimiser(tmp_path):
    federation = Federation(tiny_config(THREE_ROUNDS), tmp_path, carrier=cut_after("south", 6))
    federation.run(1)
    before = state(federation, "south")
    federation.run(1)
    after, north = state(federation, "south"), state(federation, "north")
    name = "segments.middle.entry.0.conv.weight"
    assert not torch.equal(after[name], before[name])
    assert torch.equal(after[name], north[name])
    own = [key for key in before if key.startswith(("segments.crdm1.causal", "segments.prior", "optimiser"))]
    assert own
    assert all(torch.equal(after[key], before[key]) for key in own)


def test_below_min_sites_the_run_stops_with_its_reason(tmp_path):
    config = tiny_config(PLAIN, min_sites=3)
    federation = Federation(config, tmp_path, carrier=cut_after("south", 6))
    with pytest.raises(
        TrainingError, match=r"2 sites finished round 2, but min_sites is 3; .* after 1 complete rounds"
    ):
        federation.run()


def test_a_site_whose_data_are_wrong_is_left_out_of_the_whole_run(tmp_path, caplog):
    home = tmp_path / "home/south"
    write_policy(home)
    (home / "site.json").write_text(json.dumps({"task": "ham10k", "root": "nowhere", "layout": "pairs"}))
    run = run_job(tiny_config(PLAIN), tmp_path)
    assert {(f["site"], f["round"]) for f in run.results["failures"]} == {("south", n) for n in range(3)}
    assert all("nowhere" in failure["reason"] for failure in run.results["failures"])
    assert set(run.results["sites"]) == {"north", "west"}
    assert "site 'south' is left out of round 1" in caplog.text
    (home / "site.json").write_text(json.dumps({"task": "ham10k", "root": "nowhere", "layout": "pears"}))
    run = run_job(tiny_config(PLAIN), tmp_path)
    assert "pears" in run.results["failures"][0]["reason"]
    assert "pairs" in run.results["failures"][0]["reason"], "the closest or all known layouts are named"
    with pytest.raises(TrainingError, match="2 sites finished round 1, but min_sites is 3"):
        run_job(tiny_config(PLAIN, min_sites=3), tmp_path)


def test_a_loss_that_is_not_finite_is_named_with_site_step_and_term(tmp_path):
    federation = Federation(tiny_config(THREE_ROUNDS), tmp_path)
    federation.run(1)
    with torch.no_grad():
        federation.copies["south"].segments.prior.heads.weight.fill_(math.nan)
        federation.sites["west"]._segments.back_end.classify.bias.fill_(math.nan)
        federation.sites["north"]._segments.front_end.to_latent.bias.fill_(math.nan)
    task = next(federation.coordinator.tasks())
    federation.run_sites(task)
    with pytest.raises(TrainingError, match="0 sites finished round 2, but min_sites is 2"):
        federation.coordinator.close(task)
    reasons = {failure["site"]: failure["reason"] for failure in federation.coordinator._history.failures}
    assert set(reasons) == {"south", "west", "north"}
    assert "loss term 'kl_causal_1' of site 'south' is not finite at step 0" in reasons["south"]
    assert "validation loss of site 'west' is not finite at round/step 1/0" in reasons["west"]
    assert "latent of site 'north' is not finite at round/step 1/0" in reasons["north"]


def test_after_a_loss_that_was_not_finite_the_site_comes_back_in_order(tmp_path):
    federation = Federation(tiny_config(THREE_ROUNDS), tmp_path)
    federation.run(1)
    with torch.no_grad():
        federation.copies["south"].segments.prior.heads.weight.fill_(math.nan)
    federation.run()
    results = federation.coordinator.finish()
    assert [(f["site"], f["round"]) for f in results["failures"]] == [("south", 1)]
    assert all(tensor.isfinite().all() for tensor in state(federation, "south").values())


def test_a_report_that_does_not_fit_leaves_its_site_out(tmp_path):
    federation = Federation(tiny_config(PLAIN), tmp_path)
    before = state(federation, "south")
    task = federation.open_next()
    outcomes = {name: federation.work(name, task) for name in federation.config.sites}
    report = outcomes["south"].reports["south"] | {"images": []}
    with pytest.raises(WireError, match="unknown field 'images'"):
        federation.coordinator.receive("south", {"south": report})
    federation.coordinator.fail("south", "a wrong report")
    assert equal_tensors(state(federation, "south"), before)
    for name in ("west", "north"):
        federation.receive(name, outcomes[name])
    federation.coordinator.close(task)
    assert list(federation.coordinator._history.rounds[0]["sites"]) == ["north", "west"], "in the job's order"


def test_after_its_report_a_site_can_change_nothing_more_in_that_round(tmp_path):
    federation = Federation(tiny_config(PLAIN), tmp_path)
    task = next(federation.coordinator.tasks())
    federation.run_sites(task)
    before = state(federation, "north")
    reply = decode(federation.coordinator.handle("north", request(Phase.TRAIN_FORWARD, 9)))
    assert "round 0 is not open" in reply.reason
    assert equal_tensors(state(federation, "north"), before)


def test_sites_start_the_next_round_alike_but_for_their_tasks_causal_model(tmp_path):
    federation = Federation(tiny_config(THREE_ROUNDS), tmp_path)
    start = {site: federation.parameters(site) for site in federation.config.sites}
    previous = start
    for _ in range(2):
        federation.run(1)
        now = {site: federation.parameters(site) for site in federation.config.sites}
        for name, tensor in now["north"].items():
            assert torch.equal(tensor, now["west"][name]), f"two sites of one task share {name}"
            if federation.copies["north"].segments.is_shared(name):
                assert torch.equal(tensor, now["south"][name]), name
        for site in ("north", "south"):
            for module in ("crdm1.causal", "crdm2.causal", "prior", "posterior"):
                names = [name for name in now[site] if name.startswith(module)]
                assert any(not torch.equal(now[site][n], previous[site][n]) for n in names), (
                    f"{module} does not learn"
                )
        previous = now
    causal = "crdm1.causal.mechanisms.0.0.weight"
    assert not torch.equal(previous["north"][causal], previous["south"][causal])


def test_a_copys_optimiser_still_holds_its_parameters_after_a_round(tmp_path):
    federation = Federation(tiny_config(), tmp_path)
    federation.run(1)
    for copy in federation.copies.values():
        held = {id(p) for group in copy.optimiser.param_groups for p in group["params"]}
        assert held == {id(p) for p in copy.segments.parameters()}
        steps = {float(values["step"]) for values in copy.optimiser.state.values()}
        assert steps == {2.0}
    federation.run(1)
    for copy in federation.copies.values():
        assert {float(values["step"]) for values in copy.optimiser.state.values()} == {4.0}, (
            "kept across rounds"
        )


def test_two_complete_rounds_are_kept_on_disk(tmp_path):
    run = run_job(tiny_config(PLAIN, THREE_ROUNDS), tmp_path)
    for participant in ("server", "north"):
        folder = tmp_path / "home" / participant / "runs" / run.results["run_id"]
        assert sorted(path.name for path in folder.iterdir()) == ["round-002", "round-003"]


def test_the_discriminators_learn_between_rounds(tmp_path):
    federation = Federation(tiny_config(), tmp_path)
    modules = federation.coordinator.method._discriminators.modules
    before = [p.detach().clone() for module in modules for p in module.parameters()]
    task = next(federation.coordinator.tasks())
    federation.run_sites(task)
    within = [p for module in modules for p in module.parameters()]
    assert all(torch.equal(p, start) for p, start in zip(within, before, strict=True)), "frozen in a round"
    federation.coordinator.close(task)
    assert not any(torch.equal(p, start) for p, start in zip(within, before, strict=True))
    record = federation.coordinator._history.rounds[0]["discriminators"]
    assert set(record) == {"loss_1", "accuracy_1", "loss_2", "accuracy_2"}


def test_tasks_of_unlike_causal_graphs_cannot_share_an_encoder(tmp_path, monkeypatch):
    alone = CausalTask({"LesionSize": proxies.area}, edges=())
    monkeypatch.setitem(graphs.CAUSAL_TASKS, "ham10k", alone)
    sites = {"sites": {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}}}
    with pytest.raises(ConfigError, match="equally many causal variables"):
        Federation(tiny_config(sites), tmp_path)
    Federation(tiny_config(sites, crdm={"encoder": "none"}), tmp_path)


@pytest.mark.parametrize(("noised", "warned"), [(True, False), (False, True)])
def test_a_job_without_noise_says_so(noised, warned, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    Federation(tiny_config(release={"noised": noised}), tmp_path)
    assert ("latents leave WITHOUT noise" in caplog.text) is warned
    assert "set resume_from to 'tiny-" in caplog.text
