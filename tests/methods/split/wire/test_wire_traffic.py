"""What really crosses in a whole run, message by message, against what may."""

import json
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image
from recording import Recording, private_chunks, record_run
from tiny_job import EXACT_WIRE, disclosed, flat_numbers, site_data, tiny_config, write_policy

from mucald.data.images.phantoms import PHANTOMS
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode
from mucald.privacy.policy import DEFAULT
from mucald.randomness import generator
from mucald.wire.codec import FORMATS

SECRET = "the-secret-of-the-northern-hospital"
RELEASED = {"LATENT", "LEVEL"}
NOISED_PROXIES = {"PROXIES", "PROXY_MASK"}
UP = {
    "VALIDATE": RELEASED | NOISED_PROXIES,
    "REPORT": {"COUNTERS"},
    "TRAIN_FORWARD": RELEASED | NOISED_PROXIES,
    "TRAIN_BACKWARD": {"FEATURE_GRADIENT"},
    "TEST": RELEASED,
}
DOWN = {
    "VALIDATE": {"FEATURES"},
    "REPORT": {"COUNTERS"},
    "TRAIN_FORWARD": {"FEATURES"},
    "TRAIN_BACKWARD": {"LATENT_GRADIENT"},
    "TEST": {"FEATURES"},
}
WITH_EPSILON = {"VALIDATE": UP["VALIDATE"], "TRAIN_FORWARD_WITH_NOISE": UP["TRAIN_FORWARD"] | {"NOISE"}}


def decoded(recording: Recording) -> list[tuple[str, Message, Message]]:
    return [(site, decode(request), decode(reply)) for site, request, reply in recording.messages]


def fields_by_phase(messages: list[Message]) -> dict[str, set[str]]:
    """Return the fields of each phase; every message of a phase has the same."""
    found = defaultdict(set)
    for message in messages:
        found[message.phase.name].add(frozenset(field.name for field in message.fields))
    assert all(len(contents) == 1 for contents in found.values()), "a phase carried now this, now that"
    return {phase: set(*contents) for phase, contents in found.items()}


def traffic(recording: Recording) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    messages = decoded(recording)
    assert {request.kind for _, request, _ in messages} == {Kind.REQUEST}
    assert {reply.kind for _, _, reply in messages} == {Kind.REPLY}
    return fields_by_phase([m for _, m, _ in messages]), fields_by_phase([m for _, _, m in messages])


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Recording:
    """A run in which the site north has images of its own, with names that must stay there."""
    folder = tmp_path_factory.mktemp("hospital")
    home = folder / "home/north"
    for part in ("images", "masks"):
        (home / "scans" / part).mkdir(parents=True)
    for index in range(12):
        image, mask = PHANTOMS["kvasir"](generator("hospital", index), 24)
        for part, array in (("images", image), ("masks", mask)):
            Image.fromarray(array).save(home / "scans" / part / f"patient-{index:02}.png")
    site = {"task": "kvasir", "root": "scans", "layout": "pairs", "noise_secret": SECRET}
    (home / "site.json").write_text(json.dumps(site))
    latents = {"min_cut": 1, "max_snr": 0.2, "max_releases": 12, "mode": ["fresh"]}
    limits = {"latents": DEFAULT.discloses["latents"] | latents}
    write_policy(home, DEFAULT, discloses=DEFAULT.discloses | limits)
    return record_run(tiny_config(), folder)


@pytest.fixture(params=["full", "hospital"])
def recording(request) -> Recording:
    return request.getfixturevalue(request.param)


def test_only_what_is_allowed_crosses(recording):
    up, down = traffic(recording)
    assert up == UP
    assert down == DOWN


@pytest.mark.parametrize("supervision", ["ambient", "epsilon"])
def test_the_noise_crosses_for_the_comparison_with_epsilon_alone(supervision, tmp_path):
    config = tiny_config(crdm={"supervision": supervision}, wire=EXACT_WIRE, min_sites=3)
    recording = record_run(config, tmp_path)
    up, _ = traffic(recording)
    if supervision == "ambient":
        assert up == UP
        return
    assert up == {phase: fields for phase, fields in UP.items() if phase != "TRAIN_FORWARD"} | WITH_EPSILON
    schedule = CosineSchedule(400)
    signal, released = (
        float(schedule.alpha_bar(300)),
        iter(zip(recording.clean, recording.released, strict=True)),
    )
    for _, request, _ in decoded(recording):
        if Field.LATENT not in request.fields:
            continue
        clean, _ = next(released)
        if request.phase is Phase.TRAIN_FORWARD_WITH_NOISE:
            x_t, noise = request.fields[Field.LATENT], request.fields[Field.NOISE]
            recovered = (x_t - math.sqrt(1 - signal) * noise) / math.sqrt(signal)
            torch.testing.assert_close(recovered, clean.detach(), atol=1e-4, rtol=1e-4)
    assert disclosed(recording.run.results, "latent noise")


@pytest.mark.parametrize(
    ("change", "without"),
    [({"crdm": {"encoder": "none"}}, NOISED_PROXIES), ({"crdm": {"denoiser": False}}, set())],
)
def test_what_the_server_has_no_use_for_does_not_cross(change, without, tmp_path):
    up, down = traffic(record_run(tiny_config(change), tmp_path))
    assert up == {phase: fields - without for phase, fields in UP.items()}
    assert down == DOWN


def test_what_crosses_as_latent_is_what_was_released_and_far_from_the_clean_one(recording):
    requests = [m for _, m, _ in decoded(recording) if Field.LATENT in m.fields]
    assert len(requests) == len(recording.released) == len(recording.clean)
    for request, released, clean in zip(requests, recording.released, recording.clean, strict=True):
        sent = request.fields[Field.LATENT]
        step = released.latent.detach().abs().amax(dim=(2, 3), keepdim=True) / 127
        assert bool(((sent - released.latent.detach()).abs() <= 0.501 * step).all())
        assert request.fields[Field.LEVEL].tolist() == [300] * len(sent)
        # SNR 0.16 at level 300: scaled back, the error is six times the signal.
        error = (sent / math.sqrt(float(CosineSchedule(400).alpha_bar(300))) - clean.detach()).square().mean()
        assert float(error) > 4


def test_no_message_holds_a_clean_latent_its_noise_an_image_a_mask_or_a_proxy(recording):
    everything = b"".join(part for _, request, reply in recording.messages for part in (request, reply))
    chunks = private_chunks(recording)
    assert len(chunks) > 200
    for chunk in chunks:
        assert chunk not in everything
    # The same search finds what did cross.
    assert all(FORMATS["int8"].encode(released.latent)[-48:] in everything for released in recording.released)


def test_no_tensor_equals_a_clean_latent_or_its_noise(recording):
    private = [t.detach() for t in recording.clean] + [released.noise for released in recording.released]
    for _, request, reply in decoded(recording):
        for tensor in (*request.fields.values(), *reply.fields.values()):
            for secret in private:
                if tensor.shape == secret.shape:
                    assert not torch.allclose(tensor, secret, atol=0.05, rtol=0.05)


def test_what_crosses_as_proxies_is_what_was_released(recording):
    released = {tuple(row) for tensor in recording.proxies for row in tensor.tolist()}
    sent = [m.fields[Field.PROXIES].tolist() for _, m, _ in decoded(recording) if Field.PROXIES in m.fields]
    assert {tuple(row) for rows in sent for row in rows} == released


def test_proxies_cross_noised_and_the_same_every_time(recording):
    data = site_data(tiny_config(), "north", recording.run.folder / "home/north")
    rows = defaultdict(list)
    for site, request, _ in decoded(recording):
        if site == "north" and request.phase is Phase.TRAIN_FORWARD:
            rows[request.round] += request.fields[Field.PROXIES].tolist()
    assert sorted(rows[0]) == sorted(rows[1]), "both rounds carry the same draws"
    clean = data.train.measures
    sent = torch.tensor(rows[0])
    assert len(sent) == len(clean)
    distances = torch.cdist(sent, clean)
    nearest = distances.min(dim=1).values
    assert float(nearest.min()) > 0.05, "no row crosses as it is"


def test_counters_are_the_two_validation_scores_and_one_answer(recording):
    reported = {(r["site"], r["round"]): r["validation"] for r in recording.reports if "validation" in r}
    seen = 0
    for site, request, reply in decoded(recording):
        if request.phase is Phase.REPORT:
            validation = reported[site, request.round]
            dice = -1.0 if validation["dice"] is None else validation["dice"]
            assert request.fields[Field.COUNTERS].tolist() == [dice, validation["loss"]]
            assert reply.fields[Field.COUNTERS].tolist() == [float(validation["best"])]
            seen += 1
    assert seen == len(reported) == 6


def test_no_name_and_no_secret_crosses(hospital):
    everything = b"".join(part for _, request, reply in hospital.messages for part in (request, reply))
    secret = SECRET.encode()
    for text in (
        b"patient",
        b".png",
        b"scans",
        b"north",
        b"south",
        b"kvasir",
        b"polyp",
        secret,
        secret[:8],
        b"job seed",
    ):
        assert text not in everything, text
    reports = json.dumps(hospital.reports)
    for name in ("patient", ".png", "scans", "secret", str(hospital.run.folder)):
        assert name not in reports, name
    results = json.dumps(hospital.run.results)
    assert not any(name in results for name in ("patient", ".png", SECRET, str(hospital.run.folder)))


def test_reports_hold_scores_counts_and_nothing_else(recording):
    always = {"site", "task", "source", "round", "n_train", "n_validation", "n_test", "wire", "seconds"}
    for report in recording.reports:
        test = report["round"] == 2
        expected = (
            {"test", "dice_per_image", "server_contribution"} if test else {"losses", "gradients", "steps"}
        )
        validated = {"validation"} if report["round"] > 0 else set()
        assert set(report) == always | expected | validated
        assert set(report["wire"]) == {"up", "down", "training", "seconds", "hidden"}
        numbers = list(flat_numbers(report))
        assert all(np.isfinite(numbers))
        assert len(numbers) < 50, "too many to be scores"
        texts = [value for value in report.values() if isinstance(value, str)]
        assert set(texts) <= {report["site"], report["task"], "phantoms", "own images (pairs)"}
