"""Learning rates over a run, and images that are turned where the server holds what was released of them."""

from itertools import islice

import pytest
import torch
from families import config_of
from tiny_job import PLAIN, Federation, request, server_of, tiny_config

from mucald.data.augmentation import orientations
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.site.segments import SiteSegments
from mucald.methods.split.wire.messages import Field, Kind, Phase, decode
from mucald.tasks import get_task

SCHEDULED = {"training": {"schedule": "poly"}}
ONCE = {"release": {"mode": "once", "pretraining_epochs": 1}, "training": {"augmentation": 1.0}}


def factor(*optimisers: torch.optim.Optimizer) -> float:
    """Return by which factor all rates of optimisers are scaled at present."""
    found = [group["lr"] / group["initial_lr"] for one in optimisers for group in one.param_groups]
    assert found == pytest.approx([found[0]] * len(found))
    return found[0]


def last_step(config, round_number: int) -> float:
    """Return the factor in the last of the two steps of a site's round."""
    return pytest.approx(config.rate(round_number, 1, 2))


@pytest.mark.parametrize("new_process", [False, True])
def test_site_and_server_are_at_the_same_rate_and_so_is_a_site_that_missed_a_round(new_process, tmp_path):
    config = tiny_config(PLAIN, SCHEDULED, training={"rounds": 3, "local_epochs": 1})
    federation = Federation(config, tmp_path, new_process=new_process)
    for task in islice(federation.coordinator.tasks(), 3):
        federation.open(task)
        for name in config.sites:
            if (name, task.round) == ("south", 1):
                federation.coordinator.fail(name, "absent")
            else:
                federation.receive(name, federation.work(name, task))
                both = federation.sites[name]._segments.optimiser, federation.copies[name].optimiser
                assert factor(*both) == last_step(config, task.round)
        federation.coordinator.close(task)


def test_a_site_that_trains_a_whole_network_is_at_the_rate_of_its_step(tmp_path):
    training = config_of("weights fedavg").to_dict()["training"] | {"local_epochs": 1, "schedule": "poly"}
    config = config_of("weights fedavg", training=training)
    federation = Federation(config, tmp_path)
    for task in islice(federation.coordinator.tasks(), config.training.rounds):
        federation.run_sites(task)
        federation.coordinator.close(task)
        for site in federation.sites.values():
            assert factor(site._model.optimiser) == last_step(config, task.round)


def test_a_model_of_pooled_data_is_at_the_rate_of_all_sites_steps(tmp_path):
    training = config_of("pooled").to_dict()["training"] | {"local_epochs": 1, "schedule": "poly"}
    config = config_of("pooled", training=training)
    federation = Federation(config, tmp_path)
    federation.run(tasks=1)
    steps = 2 * len(config.sites)
    expected = pytest.approx(config.rate(0, steps - 1, steps))
    assert factor(federation.sites["hospital"]._model.optimiser) == expected


def test_a_server_whose_rates_change_is_told_how_many_steps_there_are():
    config = tiny_config(SCHEDULED)
    server = server_of(config)
    server.open_round(0, list(config.sites))
    for steps in (None, torch.tensor([0]), torch.tensor([4])):
        given = {} if steps is None else {"steps": steps}
        reply = decode(server.handle("north", request(Phase.TRAIN_FORWARD, 4, **given)))
        assert (reply.kind, reply.reason[:20]) == (Kind.REJECTION, "STEPS must tell how ")
    two = decode(server.handle("north", request(Phase.TRAIN_FORWARD, 4, steps=torch.tensor([5, 5]))))
    assert two.reason == "STEPS has shape (2,), not (1,)"
    told = request(Phase.TRAIN_FORWARD, 4, steps=torch.tensor([5]))
    assert decode(server.handle("north", told)).kind is Kind.REPLY


def test_a_released_latent_its_skips_and_its_mask_are_turned_alike(tmp_path, monkeypatch):
    config = tiny_config(ONCE)
    federation = Federation(config, tmp_path)
    seen: dict[tuple[str, int, int], list] = {}
    forward, train_back_end = SiteCopy.train_forward, SiteSegments.train_back_end

    def at_server(self, round_number, step, latent, *rest):
        seen.setdefault((self.site, round_number, step), []).insert(0, latent.clone())
        return forward(self, round_number, step, latent, *rest)

    def at_site(self, skips, labels, key, *rest):
        seen.setdefault((self.site, *key[:2]), []).extend([[skip.clone() for skip in skips], labels])
        return train_back_end(self, skips, labels, key, *rest)

    monkeypatch.setattr(SiteCopy, "train_forward", at_server)
    monkeypatch.setattr(SiteSegments, "train_back_end", at_site)
    asked = []
    federation.carrier = lambda name, send: lambda data: asked.append((name, decode(data))) or send(data)
    federation.run(tasks=1)
    rows = {
        (name, message.round, message.step): message.fields[Field.INDICES]
        for name, message in asked
        if message.phase is Phase.TRAIN_FORWARD_RELEASED
    }
    assert rows.keys() == seen.keys()
    changed = 0
    for (name, number, step), (latent, skips, labels) in seen.items():
        chosen = rows[name, number, step].long()
        site = federation.sites[name]
        turned = orientations(config, name, get_task(config.sites[name].task), number, step, len(chosen))
        batch = site._data.train.batch(chosen)
        held = federation.copies[name].released.batch("train", chosen)[0]
        assert torch.equal(latent, turned.of(held))
        assert torch.equal(labels, turned.of(batch.targets))
        for found, skip in zip(skips, site._segments.skips(batch.inputs), strict=True):
            assert torch.equal(found, turned.of(skip))
        changed += not torch.equal(latent, held)
    assert changed > len(seen) / 4


def test_what_is_sent_is_the_same_with_and_without_augmentation_once_it_is_released(tmp_path):
    """Turning costs nothing on the wire, and a site sends nothing of an image beyond its one release."""

    def sizes(augmentation: float) -> list[tuple[Phase, int]]:
        config = tiny_config(ONCE, training={"augmentation": augmentation})
        federation, found = Federation(config, tmp_path / str(augmentation)), []
        federation.carrier = lambda _, send: (
            lambda data: found.append((decode(data).phase, len(data))) or send(data)
        )
        federation.run()
        return found

    assert sizes(1.0) == sizes(0.0)


def test_pretraining_ends_at_its_own_schedule_s_end(tmp_path, monkeypatch):
    config = tiny_config(ONCE, SCHEDULED, release={"pretraining_epochs": 2, "stand_in": True})
    federation, rates = Federation(config, tmp_path), []
    alone = SiteSegments.train_alone

    def noted(self, *arguments):
        rates.append(factor(self.optimiser, arguments[3]._optimiser))
        return alone(self, *arguments)

    monkeypatch.setattr(SiteSegments, "train_alone", noted)
    task = federation.open_next()
    federation.work("north", task)
    expected = [config.training.rate((step + 0.5) / 4) for step in range(4)]
    assert rates == pytest.approx(expected)
    assert expected[-1] < 0.2
