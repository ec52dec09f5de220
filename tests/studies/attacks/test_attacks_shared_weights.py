"""Attacks on runs in which weights travel: on what the server has, and on nothing else."""

import json
from pathlib import Path

import pytest
import torch
from attacked import LITTLE
from attacked import kept_attack as attack
from attacked import kept_evaluation as evaluation_of
from families import config_of
from tiny_job import Run, run_job

from mucald.errors import AttackError
from mucald.state.checkpoint import load_checkpoint, save_checkpoint
from mucald_studies.attacks import ATTACKS
from mucald_studies.attacks.harness.base import Attack, Knowledge
from mucald_studies.attacks.harness.run import read_run
from mucald_studies.attacks.harness.view import View
from mucald_studies.commands import attack as command

PARTS = ["front_end", "middle", "back_end"]
WHOLE = {"shared": [], "shared_in_group": PARTS}
"""North and west, which have one task, share all; south is alone in its group."""
OF_OUTPUTS = [name for name, attack in ATTACKS.items() if Knowledge.OUTPUTS in attack.knowledge]
OF_MESSAGES = [name for name, attack in ATTACKS.items() if attack.reads_messages]


def shared_run(folder: Path, method: str = "weights groups", **changes) -> Run:
    return run_job(config_of(method, **(WHOLE | changes)), folder)


def view(run: Run, site: str = "north") -> View:
    subjects = evaluation_of(run)._subjects
    return View(ATTACKS["membership.loss"], subjects[site], subjects, LITTLE)


def told(run: Run, network: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """What a whole network of the run says, put together here anew."""
    model = evaluation_of(run)._subjects["north"]._untrained()
    model.load_state_dict(network)
    with torch.no_grad():
        return model.eval()(images)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    return shared_run(tmp_path_factory.mktemp("whole"))


def test_attacks_of_outputs_are_those_of_the_trained_network():
    assert OF_OUTPUTS == ["membership.loss", "membership.lira"]


@pytest.mark.parametrize("name", OF_OUTPUTS)
def test_a_network_that_sites_share_whole_is_attacked(name, whole):
    result = attack(whole, name).result
    assert (result.run_id, result.site) == (whole.results["run_id"], "north")
    assert result.n == 4 + 200
    assert result.anchors["chance"]["auc"].value == 0.5


def test_the_attacker_asks_the_servers_network_and_not_the_sites_own(tmp_path):
    """Under Ditto a site keeps a personal network, which the server never has."""
    run = shared_run(tmp_path, "weights ditto")
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    outputs = view(run).outputs(images)
    of_server = told(run, weights(run.server / "models/group-kvasir.safetensors"), images)
    of_site = told(run, weights(run.folder / "results/north/models/north.safetensors"), images)
    assert torch.equal(outputs, of_server)
    assert not torch.allclose(of_site, of_server, atol=1e-4), "or this test could not tell them apart"


@pytest.mark.parametrize(
    ("method", "changes", "site", "reason"),
    [
        ("weights fedavg", {"shared": PARTS[:2]}, "north", "back_end stays at the site$"),
        ("weights groups", {}, "south", "front_end, middle and back_end stay at the site, as it is alone in"),
        (
            "weights groups",
            {"shared_in_group": []},
            "north",
            "front_end, middle and back_end stay at the site$",
        ),
        (
            "weights fedbn",
            {},
            "north",
            r"the algorithm 'fedbn' keeps \d+ tensors at the site, such as front_end",
        ),
        (
            "weights fedhca",
            {},
            "north",
            r".* keeps 2 tensors at the site, such as back_end\.classify",
        ),
    ],
)
def test_what_the_server_lacks_is_not_taken_from_the_site(method, changes, site, reason, tmp_path):
    """The site's own file holds all that is missing, and lies there."""
    nothing = {"shared": [], "shared_in_group": []}
    run = run_job(config_of(method, **(WHOLE if not changes else nothing) | changes), tmp_path)
    assert (run.folder / f"results/{site}/models/{site}.safetensors").exists()
    for name in OF_OUTPUTS:
        with pytest.raises(AttackError, match=f"network of site '{site}' together: {reason}"):
            attack(run, name, site)


def test_sites_that_have_parted_are_attacked_by_the_weights_of_each(tmp_path):
    """The server then writes a file for each, see `WeightsServer.models`."""
    run = shared_run(tmp_path, "weights clustered")
    common = run.server / "models/group-kvasir.safetensors"
    own, state = load_checkpoint(common)
    other = {name: 2 * tensor for name, tensor in own.items()}
    for site, network in (("north", own), ("west", other)):
        save_checkpoint(common.with_name(f"group-kvasir-{site}.safetensors"), network, state)
    common.unlink()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(view(run, "north").outputs(images), told(run, own, images))
    assert torch.equal(view(run, "west").outputs(images), told(run, other, images))
    assert not torch.equal(told(run, own, images), told(run, other, images))


@pytest.mark.parametrize("name", OF_MESSAGES)
def test_an_attack_that_reads_messages_is_refused_by_name(name, whole):
    with pytest.raises(AttackError, match=rf"attack '{name}' reads latents .* weights alone travel"):
        attack(whole, name)


def test_an_attack_that_says_that_it_reads_no_messages_sees_none(noised):
    curious = Attack("curious", frozenset(Knowledge), lambda view: view.released("train"), "curious", False)
    with pytest.raises(AttackError, match="'curious' does not say that it reads messages"):
        evaluation_of(noised.run).attack(curious, "north", LITTLE)


def test_members_of_an_overfitted_run_are_found_out(tmp_path):
    run = shared_run(
        tmp_path,
        training={"rounds": 2, "local_epochs": 24, "batch_size": 4},
        optimiser={"learning_rate": 0.01, "weight_decay": 0.0, "clip_norm": 1.0},
        data={"image_size": 16, "phantoms": {"train": 8, "validation": 2, "test": 2}},
    )
    for name in OF_OUTPUTS:
        auc = attack(run, name).result.metrics["auc"]
        assert auc.low > 0.5
        assert auc.value > 0.7


def test_images_that_are_not_the_runs_are_noticed(tmp_path):
    run = shared_run(tmp_path)
    path = run.server / "results.json"
    content = json.loads(path.read_text())
    content["sites"]["north"]["dice_per_image"] = [0.0, 0.0]
    path.write_text(json.dumps(content))
    with pytest.raises(AttackError, match=r"'north' are not those of the run: .* with --home"):
        attack(run, "membership.loss")


def test_weights_of_another_job_or_none_are_refused(tmp_path, whole):
    run = shared_run(tmp_path, seed=8)
    models, name = run.server / "models", "group-kvasir.safetensors"
    for suffix in ("", ".sha256"):
        (models / f"{name}{suffix}").write_bytes((whole.server / f"models/{name}{suffix}").read_bytes())
    with pytest.raises(AttackError, match=r"group-kvasir\.safetensors is of another job or seed"):
        attack(run, "membership.loss")
    (models / name).unlink()
    with pytest.raises(
        AttackError, match=r"group-kvasir\.safetensors is missing, the weights that site 'north'"
    ):
        attack(run, "membership.loss")


def test_volumes_are_refused(tmp_path):
    run = run_job(config_of("weights volumes"), tmp_path)
    with pytest.raises(AttackError, match="attacks are for images with masks"):
        evaluation_of(run)


def test_a_run_in_which_nothing_leaves_is_refused(tmp_path):
    run = run_job(config_of("pooled"), tmp_path)
    with pytest.raises(AttackError, match="of a run of the method 'pooled', in which nothing leaves"):
        read_run(run.folder)


def test_weights_of_networks_draw_nothing(whole):
    with pytest.raises(AttackError, match=r"'membership\.synthetic' needs a generator, which no site shares"):
        attack(whole, "membership.synthetic")


def test_a_folder_of_several_runs_is_refused(tmp_path):
    run_job(config_of("weights fedavg"), tmp_path / "one")
    run_job(config_of("weights fedavg", seed=8), tmp_path / "two")
    with pytest.raises(AttackError, match="holds several runs; name one"):
        read_run(tmp_path)


def test_the_command_attacks_shared_weights_and_leaves_out_the_rest(whole, tmp_path, capsys):
    given = [str(whole.folder / "results"), "--home", str(whole.folder / "home"), "--out", str(tmp_path)]
    options = ["--attacks", "membership", "--sites", "north", "--max-steps", "3", "--auxiliary", "12"]
    assert command.main([*given, *options]) == 0
    written = json.loads((tmp_path / "attacks.json").read_text())["attacks"]
    assert [entry["attack"] for entry in written] == OF_OUTPUTS
    assert "attack 'membership.latents' reads latents" in capsys.readouterr().err
