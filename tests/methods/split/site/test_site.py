import json
import math
from functools import partial

import pytest
import torch
from tiny_job import PLAIN, Federation, equal_tensors, site_data, tiny_config

from mucald.errors import CheckpointError, WireError
from mucald.federation.task import SiteTask
from mucald.methods.split.site.method import SplitSite
from mucald.methods.split.wire.messages import Field, Kind, Phase, decode
from mucald.metrics import segmentation as metrics


@pytest.fixture
def heard():
    """Requests and replies of each site, decoded."""
    return {}


def listen(heard):
    def carrier(name, send):
        def listening(data: bytes) -> bytes:
            reply = send(data)
            heard.setdefault(name, []).append((decode(data), decode(reply)))
            return reply

        return listening

    return carrier


def orders(messages, site: str, config) -> list[list[int]]:
    """Return in which order each epoch showed the training images, which their proxies tell apart."""
    clean = site_data(config, site).train.measures
    forwards = [request for request, _ in messages if request.phase is Phase.TRAIN_FORWARD]
    sent = torch.cat([message.fields[Field.PROXIES] for message in forwards])
    rows = (sent[:, None] == clean[None]).all(dim=2).int()
    assert bool((rows.sum(dim=1) == 1).all())
    return [order.tolist() for order in rows.argmax(dim=1).split(len(clean))]


def test_every_image_is_trained_on_once_per_epoch_and_every_order_is_new(tmp_path, heard):
    config = tiny_config(
        training={"local_epochs": 2}, data={"phantoms": {"train": 5}}, release={"proxy_noise_std": 0.0}
    )
    Federation(config, tmp_path, carrier=listen(heard)).run(2)
    forwards = [request for request, _ in heard["north"] if request.phase is Phase.TRAIN_FORWARD]
    assert [m.fields[Field.LATENT].shape[0] for m in forwards] == [2, 2, 1] * 4
    assert [(m.round, m.step) for m in forwards] == [(r, s) for r in (0, 1) for s in range(6)]
    north, west = (orders(heard[site], site, config) for site in ("north", "west"))
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in north + west)
    assert len({tuple(order) for order in north}) == 4, "two epochs of two rounds"
    assert north != west


def test_a_round_is_validated_trained_and_reported(tmp_path, heard):
    federation = Federation(tiny_config(PLAIN), tmp_path, carrier=listen(heard))
    federation.run(1)
    first = [request.phase for request, _ in heard["north"]]
    assert first == [Phase.TRAIN_FORWARD, Phase.TRAIN_BACKWARD] * 2, (
        "there is nothing to validate before round 1"
    )
    heard.clear()
    federation.run(1)
    phases = [request.phase for request, _ in heard["north"]]
    assert phases == [Phase.VALIDATE, Phase.REPORT] + [Phase.TRAIN_FORWARD, Phase.TRAIN_BACKWARD] * 2
    heard.clear()
    federation.run()
    assert [request.phase for request, _ in heard["north"]] == [Phase.VALIDATE, Phase.REPORT, Phase.TEST]


def test_the_report_of_a_round_holds_what_happened(tmp_path, heard):
    federation = Federation(tiny_config(PLAIN), tmp_path, carrier=listen(heard))
    federation.run(1)
    task = federation.open_next()
    report = federation.report("south", task)
    assert json.loads(json.dumps(report)) == report
    assert (report["site"], report["task"], report["round"]) == ("south", "ham10k", 1)
    assert (report["n_train"], report["n_validation"], report["n_test"]) == (4, 2, 2)
    assert report["steps"] == 2
    assert report["source"] == "phantoms"
    assert set(report["losses"]) == {"dice", "cross_entropy", "segmentation"}
    combined = report["losses"]["dice"] + 0.5 * report["losses"]["cross_entropy"]
    assert report["losses"]["segmentation"] == pytest.approx(combined, rel=1e-5)
    assert all(value > 0 for value in report["gradients"].values())
    (counters,) = [r.fields[Field.COUNTERS] for r, _ in heard["south"] if r.phase is Phase.REPORT]
    validation = report["validation"]
    assert validation["round"] == 0, "the model that the round begins with is the first round's"
    assert counters.tolist() == [validation["dice"], validation["loss"]]


def test_validation_scores_the_predictions_on_the_validation_images(tmp_path):
    """Dice and loss again, from the site's own model after the run and the server's answers."""
    config = tiny_config(PLAIN, data={"phantoms": {"validation": 5}})
    federation = Federation(config, tmp_path)
    federation.run(1)
    task = federation.open_next()
    segments = federation.sites["south"]._segments
    copy = federation.copies["south"]
    data = site_data(config, "south")
    scores, losses = [], []
    for step, rows in enumerate(([0, 1], [2, 3], [4])):
        batch = data.validation.batch(rows)

        def forward(released, step=step):
            return copy.evaluate(1, step, "validation", released.latent, released.level.long())

        logits, _ = segments.predict(batch.inputs, (1, step, "validation"), forward)
        scores.append(metrics.image_scores(logits, batch.targets, 2, surface=False))
        losses += [float(segments.loss(logits, batch.targets))] * len(rows)
    validation = federation.report("south", task)["validation"]
    assert validation["dice"] == pytest.approx(metrics.mean_dice(scores), rel=1e-4)
    assert validation["loss"] == pytest.approx(sum(losses) / 5, rel=1e-4)


def test_a_site_built_anew_for_every_task_gives_the_same_numbers(tmp_path):
    lasting = Federation(tiny_config(), tmp_path / "lasting")
    renewed = Federation(tiny_config(), tmp_path / "renewed", new_process=True)
    for federation in (lasting, renewed):
        federation.run()
    for name in ("north", "south", "west"):
        assert equal_tensors(lasting.sites[name].weights(), renewed.sites[name].weights())
        assert equal_tensors(*(f.copies[name].state()[0] for f in (lasting, renewed)))


def test_a_site_that_missed_rounds_goes_on_from_its_last_one(tmp_path):
    federation = Federation(tiny_config(PLAIN), tmp_path)
    federation.run(1)
    site = federation.sites["north"]
    before = {name: tensor.clone() for name, tensor in site.weights().items()}
    federation.open(SiteTask("train", 5, federation.coordinator.run_id))
    site._completed = None
    site._restore(5, newcomer=False)
    assert equal_tensors(site.weights(), before)


def site_of(federation: Federation, name: str = "north") -> SplitSite:
    task = federation.open_next()
    federation.work(name, task)
    return federation.sites[name]


def test_a_site_without_its_checkpoint_does_not_start_over_in_the_middle(tmp_path):
    federation = Federation(tiny_config(PLAIN), tmp_path, new_process=True)
    federation.open(SiteTask("train", 1, "lost"))
    with pytest.raises(
        CheckpointError, match="site 'north' has no checkpoint to go on from round 1 in "
    ) as error:
        federation.work("north", SiteTask("train", 1, "lost"))
    assert str(tmp_path) not in error.value.public


def test_a_site_that_has_not_finished_a_round_yet_begins_in_the_middle(tmp_path):
    federation = Federation(tiny_config(PLAIN), tmp_path, new_process=True)
    tasks = federation.coordinator.tasks()
    first = next(tasks)
    federation.open(first)
    for site in ("north", "west"):
        federation.receive(site, federation.work(site, first))
    federation.coordinator.fail("south", "its images could not be read")
    federation.coordinator.close(first)
    second = next(tasks)
    assert second.newcomers == ("south",)
    federation.run_sites(second)
    federation.coordinator.close(second)
    assert next(tasks).newcomers == ()
    assert set(federation.coordinator.finish()["rounds"][1]["sites"]) == {"north", "south", "west"}


def test_a_checkpoint_of_another_configuration_or_a_damaged_one_is_refused(tmp_path):
    federation = Federation(tiny_config(PLAIN), tmp_path, new_process=True)
    site_of(federation)
    run_id = federation.coordinator.run_id
    other = Federation(tiny_config(PLAIN, seed=8), tmp_path, new_process=True)
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        other.work("north", SiteTask("train", 1, run_id))
    path = tmp_path / "home/north/runs" / run_id / "round-001/site.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(CheckpointError, match="damaged"):
        federation.work("north", SiteTask("train", 1, run_id))


def test_a_task_that_fails_leaves_the_site_at_its_last_complete_round(tmp_path):
    """Asked again, it begins the round anew, and ends it as if nothing had happened."""
    config = tiny_config(PLAIN)
    failing, again, calm = (Federation(config, tmp_path / name) for name in ("failing", "again", "calm"))
    for federation in (failing, again, calm):
        federation.run(1)
        federation.open_next()
    calls = iter(range(100))

    def breaking(data: bytes) -> bytes:
        if next(calls) == 4:
            raise WireError("the line is cut")
        return failing.coordinator.handle("north", data)

    site, task = failing.sites["north"], next(failing.coordinator.tasks())
    with pytest.raises(WireError, match="the line is cut"):
        site.run(task, {}, breaking)
    assert not equal_tensors(site.weights(), calm.sites["north"].weights()), "it had trained a step"
    report = site.run(task, {}, partial(again.coordinator.handle, "north")).reports["north"]
    assert report["losses"] == calm.report("north", next(calm.coordinator.tasks()))["losses"]
    assert equal_tensors(site.weights(), calm.sites["north"].weights())


def test_a_refusal_of_the_server_ends_the_task_with_its_reason(tmp_path):
    federation = Federation(tiny_config(PLAIN), tmp_path)
    federation.run(1)
    federation.open(SiteTask("train", 4, federation.coordinator.run_id))
    with pytest.raises(
        WireError, match=r"refused VALIDATE of round 1: round 1 is not open .*current round 4"
    ):
        federation.work("north", SiteTask("train", 1, federation.coordinator.run_id))


def test_a_task_that_brings_tensors_is_refused(tmp_path):
    federation = Federation(tiny_config(PLAIN), tmp_path)
    federation.run(1)
    task, site = federation.open_next(), federation.sites["north"]
    with pytest.raises(WireError, match="the server sent 'w' with a task"):
        site.run(task, {"w": torch.zeros(1)}, partial(federation.coordinator.handle, "north"))


def test_the_test_uses_the_best_rounds_weights_of_both_sides(tmp_path):
    """The second round is spoilt on purpose, so the first is the best and has to come back."""
    config = tiny_config(PLAIN, training={"local_epochs": 8}, optimiser={"segmentation": 0.01})
    federation = Federation(config, tmp_path)
    federation.run(1)
    task = federation.open_next()
    assert federation.report("south", task)["validation"]["best"]
    best_site = {name: t.clone() for name, t in federation.sites["south"]._segments.best.items()}
    best_copy = {name: t.clone() for name, t in federation.copies["south"].best.weights().items()}
    with torch.no_grad():
        for parameter in federation.copies["south"].segments.middle.parameters():
            parameter.zero_()
        # Everything is background, so no foreground class scores.
        federation.sites["south"]._segments.back_end.classify.bias.copy_(torch.tensor([1e6, -1e6]))
    test = SiteTask("test", 2, federation.coordinator.run_id)
    federation.open(test)
    report = federation.report("south", test)
    assert report["validation"]["dice"] == 0
    assert not report["validation"]["best"]
    assert equal_tensors(federation.sites["south"].weights(), best_site)
    assert equal_tensors(federation.copies["south"].segments.state_dict(), best_copy)


def test_the_servers_contribution_is_the_dice_less_that_with_its_features_zeroed(tmp_path):
    config = tiny_config(PLAIN, training={"local_epochs": 6}, optimiser={"segmentation": 0.01})
    heard: dict = {}
    federation = Federation(config, tmp_path, carrier=listen(heard))
    federation.run(2)
    task = federation.open_next()
    heard.clear()
    report = federation.report("south", task)
    (features,) = [
        reply.fields[Field.FEATURES] for request, reply in heard["south"] if request.phase is Phase.TEST
    ]
    segments = federation.sites["south"]._segments
    batch = site_data(config, "south").test.batch(range(2))

    def dice(x: torch.Tensor) -> float | None:
        logits, _ = segments.predict(batch.inputs, (2, 0, "test"), lambda _: x)
        return metrics.mean_dice([metrics.image_scores(logits, batch.targets, 2, surface=False)])

    whole, alone = dice(features), dice(torch.zeros_like(features))
    assert whole != alone
    assert report["test"]["dice"] == pytest.approx(whole)
    assert report["server_contribution"] == pytest.approx(whole - alone)
    assert report["dice_per_image"] == pytest.approx(
        [report["dice_per_image"][0], 2 * whole - report["dice_per_image"][0]]
    )


def test_the_test_reports_every_metric_per_class_and_image(full):
    tests = [report for report in full.reports if "test" in report]
    assert {report["site"] for report in tests} == {"north", "south", "west"}
    for report in tests:
        assert set(metrics_of(report)) == {
            "dice",
            "iou",
            "iou_with_background",
            "precision",
            "recall",
            "hd95",
            "assd",
        }
        assert set(report["test"]["per_class"]) == {
            "background",
            "lesion" if report["site"] == "south" else "polyp",
        }
        assert len(report["dice_per_image"]) == report["n_test"]
        known = [value for value in report["dice_per_image"] if value is not None]
        assert math.fsum(known) / len(known) == pytest.approx(report["test"]["dice"])


def metrics_of(report: dict) -> list[str]:
    return [name for name in report["test"] if name != "per_class"]


def test_previews_are_the_best_median_and_worst_test_images_with_their_labels(tmp_path):
    federation = Federation(tiny_config(PLAIN, data={"phantoms": {"test": 6}}), tmp_path)
    federation.run()
    previews = federation.sites["south"].previews
    dice = federation.coordinator.finish()["sites"]["south"]["dice_per_image"]
    best, median, worst = telling = metrics.telling_images(dice)
    assert dice[best] == max(dice)
    assert dice[worst] == min(dice)
    assert dice[median] == sorted(dice)[2]
    data = site_data(federation.config, "south")
    assert torch.equal(previews.images, data.test.batch(telling).inputs)
    assert torch.equal(previews.labels, data.test.batch(telling).targets)
    assert previews.predictions.shape == previews.labels.shape


def test_only_replies_and_no_rejections_are_heard_in_a_run(full):
    assert {decode(reply).kind for _, _, reply in full.messages} == {Kind.REPLY}
