"""What a policy does to a run: who is left out, and what a site bounds by itself."""

import dataclasses
import json
import logging

import pytest
import torch
from recording import record_run
from refusals import STRICT, check, refusal
from tiny_job import (
    EXACT_WIRE,
    PLAIN,
    REPOSITORY,
    Federation,
    run_job,
    tiny_config,
    with_limits,
    write_policy,
)

from mucald.errors import PolicyError, TrainingError
from mucald.federation.participant import create_site
from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald.methods.split.disclosures import under
from mucald.methods.split.wire.messages import Field, Phase, decode
from mucald.privacy.policy import OPEN, TO_ALLOW


@pytest.mark.parametrize(
    ("own", "job", "expected"),
    [
        ((None, 0.0), (None, 0.0), (None, 0.0)),
        ((None, None), (None, 0.0), (None, 0.0)),
        ((1.0, 0.5), (None, 0.0), (1.0, 0.5)),
        ((1, None), (2.0, 0.1), (1, 0.1)),
        ((None, 0.0), (2.0, 0.1), (2.0, 0.1)),
        ((1.0, 0.0), (2.0, 0.1), (1.0, 0.1)),
        ((3.0, 0.5), (2.0, 0.1), (2.0, 0.5)),
    ],
)
def test_of_two_bounds_on_the_gradient_the_stricter_wins(own, job, expected):
    config = tiny_config(release={"gradient_clip": job[0], "gradient_noise_std": job[1]})
    asked = config.release
    policy = with_limits(OPEN, feature_gradients={"max_clip": own[0], "min_noise": own[1]})
    carried_out = under(policy, config)
    release = carried_out.release
    assert (release.gradient_clip, release.gradient_noise_std) == expected
    assert dataclasses.replace(release, gradient_clip=job[0], gradient_noise_std=job[1]) == asked
    assert dataclasses.replace(carried_out, release=asked) == config
    # What the site keeps by itself refuses nothing.
    check(policy, config)


def test_a_policy_without_gradients_refuses_them_and_clips_nothing():
    policy = with_limits(OPEN, feature_gradients=None)
    assert under(policy, tiny_config()) == tiny_config()
    assert "feature gradients may not leave" in refusal(policy, tiny_config())


def test_a_job_that_records_needs_leave(tmp_path):
    recorded = tiny_config(PLAIN, runtime={"record": True})
    check(OPEN, recorded)
    of = dataclasses.replace(OPEN, recording=False)
    assert refusal(of, recorded) == (
        "site 'polyp' refuses by its policy.json: messages may not be recorded (runtime.record)"
    )
    write_policy(tmp_path / "home/south", of)
    recording = record_run(recorded, tmp_path)
    assert {site for site, _, _ in recording.messages} == {"north", "west"}
    assert {path.stem for path in (recording.run.server / "recording").glob("*.messages")} == {
        "north",
        "west",
    }


def test_a_refused_site_sends_nothing_and_the_others_go_on(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    write_policy(tmp_path / "home/south", STRICT)
    recording = record_run(tiny_config(PLAIN), tmp_path)
    assert {site for site, _, _ in recording.messages} == {"north", "west"}
    assert {report["site"] for report in recording.reports} == {"north", "west"}
    results = recording.run.results
    reason = "site 'south' refuses by its policy.json: latents.max_snr allows 0.2, the job has no bound"
    reason = f"{reason}; {TO_ALLOW}"
    assert results["failures"] == [{"site": "south", "round": n, "reason": reason} for n in range(3)]
    lines = [message for message in caplog.messages if message.startswith("site 'south' is left out")]
    assert lines[0] == f"site 'south' is left out of round 1: {reason}"
    assert lines[1:] == [f"site 'south' is left out of round {n}, for the same reason" for n in (2, 3)]
    assert sorted(results["sites"]) == ["north", "west"]
    assert not list((tmp_path / "home/south").glob("runs/*")), "not even a checkpoint was begun"


def test_too_many_refusals_end_the_run_and_each_is_told_once(tmp_path, caplog):
    for site in ("north", "south"):
        write_policy(tmp_path / "home" / site, STRICT)
    with pytest.raises(TrainingError, match="1 sites finished round 1, but min_sites is 2") as caught:
        run_job(tiny_config(PLAIN), tmp_path)
    assert str(caught.value).endswith(
        "after 0 complete rounds; left out, for the reasons above: north, south"
    )
    assert caplog.text.count("latents.max_snr allows 0.2") == 2


def test_a_site_with_a_wrong_policy_does_not_start(tmp_path):
    content = dataclasses.asdict(OPEN)
    content["discloses"]["latents"]["max_snr"] = -1
    home = tmp_path / "home/south"
    home.mkdir(parents=True)
    (home / "policy.json").write_text(json.dumps(content))
    recording = record_run(tiny_config(PLAIN), tmp_path)
    assert "south" not in {site for site, _, _ in recording.messages}
    assert "max_snr' must be positive" in recording.run.results["failures"][0]["reason"]


def test_a_participant_with_the_data_of_all_sites_needs_the_leave_of_each(tmp_path):
    config, cpu = load_job(REPOSITORY / "jobs/baseline_centralized")[0], torch.device("cpu")
    home = tmp_path / config.participant
    family = family_of(config.method)
    write_policy(home / "polyp", with_limits(OPEN, scores=None))
    with pytest.raises(PolicyError, match=r"site 'polyp' refuses by its policy.json: scores may not leave"):
        create_site(family, config.participant, config, home, "run", cpu)
    write_policy(home / "polyp", OPEN)
    write_policy(home, with_limits(OPEN, scores=None))
    with pytest.raises(
        PolicyError, match=f"site '{config.participant}' refuses by its policy.json: scores may not leave"
    ):
        create_site(family, config.participant, config, home, "run", cpu)


def test_a_job_that_the_policy_allows_gives_the_numbers_of_one_without_policy(tmp_path, full):
    write_policy(tmp_path / "home/south", STRICT)
    assert run_job(tiny_config(), tmp_path).numbers() == full.run.numbers()


def test_a_sites_own_bound_holds_for_its_gradients_whatever_the_job_says(tmp_path):
    clip = 1e-4
    norms: dict[str, list[torch.Tensor]] = {}

    def carrier(name, send):
        def listening(data: bytes) -> bytes:
            message = decode(data)
            if message.phase is Phase.TRAIN_BACKWARD:
                gradient = message.fields[Field.FEATURE_GRADIENT]
                norms.setdefault(name, []).append(torch.linalg.vector_norm(gradient, dim=(1, 2, 3)))
            return send(data)

        return listening

    write_policy(tmp_path / "home/south", with_limits(OPEN, feature_gradients={"max_clip": clip}))
    Federation(tiny_config(wire=EXACT_WIRE), tmp_path, carrier=carrier).run(1)
    south, north = torch.cat(norms["south"]), torch.cat(norms["north"])
    torch.testing.assert_close(south, torch.full_like(south, clip))
    assert float(north.min()) > 2 * clip
