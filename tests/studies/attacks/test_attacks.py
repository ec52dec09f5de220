"""Every attack on tiny runs: it runs through, finds what there is to find, and knows no more than it says."""

import json
from dataclasses import replace

import pytest
import torch
from attacked import LITTLE, OF_GENERATORS, attack, evaluation_of, heard_run
from PIL import Image
from tiny_job import EXACT_WIRE, write_policy

from mucald.data.images.phantoms import PHANTOMS
from mucald.errors import AttackError
from mucald.randomness import generator
from mucald_studies.attacks import ATTACKS, choose_attacks
from mucald_studies.attacks.harness.base import Attack, Knowledge
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.result import read_results, results_table, write_results
from mucald_studies.attacks.harness.sheet import write_sheet
from mucald_studies.attacks.mask_inference import blind_guess

EARNEST = Budget(max_steps=150, interval=10, auxiliary=96, batch=16, width=16, rate=4e-3)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in OF_GENERATORS])
def test_every_attack_runs_through_and_its_result_survives_the_file(name, noised, tmp_path):
    found = attack(noised, name)
    result = found.result
    assert result.attack == name
    assert result.run_id == noised.run.results["run_id"]
    assert result.n > 0
    assert result.metrics
    assert result.anchors
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in result.metrics.values())
    write_results(tmp_path / "attacks.json", [result])
    assert read_results(tmp_path / "attacks.json") == [result]
    assert name in results_table([result])
    assert write_sheet(tmp_path / "sheet.png", [found]) is (found.pictures is not None)


@pytest.mark.parametrize(
    "name", ["decoder.auxiliary", "averaging.all", "mask_inference.gradient", "membership.lira", "hijack"]
)
def test_an_attack_gives_the_same_numbers_again_and_others_with_another_seed(name, noised):
    first, again = (attack(noised, name).result for _ in range(2))
    assert replace(first, seconds=0) == replace(again, seconds=0)
    other = attack(noised, name, budget=replace(LITTLE, seed=1)).result
    assert (other.metrics, other.curve) != (first.metrics, first.curve)


def test_a_decoder_sees_through_a_clean_cut(clean):
    result = attack(clean, "decoder.front_end", budget=EARNEST).result
    assert result.metrics["psnr"].value > result.anchors["mean image"]["psnr"].value + 4
    assert result.curve[-1][1] < 0.5 * result.curve[0][1]


def test_a_decoder_sees_less_behind_noise(clean, noised):
    gains = []
    for heard in (clean, noised):
        result = attack(heard, "decoder.front_end", budget=EARNEST).result
        gains.append(result.metrics["psnr"].value - result.anchors["mean image"]["psnr"].value)
    assert gains[0] > gains[1] + 2


def test_the_oracle_has_the_latent_where_the_noise_crosses_and_not_elsewhere(epsilon, noised, clean):
    assert attack(epsilon, "oracle").result.metrics["latent_psnr"].value > 60
    result = attack(noised, "oracle").result
    anchor = result.anchors["zero"]["latent_psnr"].value
    assert anchor < result.metrics["latent_psnr"].value < anchor + 3
    assert attack(clean, "oracle").result.metrics["latent_psnr"].value == 200, "nothing to solve for"


def test_the_oracle_fails_against_ambient_supervision(tmp_path):
    heard = heard_run(tmp_path, crdm={"supervision": "ambient"}, wire=EXACT_WIRE)
    assert attack(heard, "oracle").result.metrics["latent_psnr"].value < 25


def test_a_clean_latent_tells_who_was_trained_on(clean):
    result = attack(clean, "membership.latents").result
    assert result.metrics["auc"].value > 0.95
    assert result.target == "train and others"


def test_domains_are_told_apart_by_what_crosses_in_the_clear(clean):
    result = attack(clean, "domain.release", budget=replace(EARNEST, patience=20)).result
    assert result.site == "all"
    assert result.anchors["chance"]["accuracy_linear"].value == pytest.approx(1 / 3)


def test_what_a_job_does_not_have_cannot_be_attacked(clean, tmp_path):
    for name in ("denoiser", "domain.denoised"):
        with pytest.raises(AttackError, match="denoises nothing in this job"):
            attack(clean, name)
    short = heard_run(tmp_path, training={"rounds": 1})
    with pytest.raises(AttackError, match="released once; there is no second release to subtract"):
        attack(short, "differencing.change")


@pytest.mark.parametrize(
    ("look", "knowledge"),
    [
        (lambda view: view.auxiliary(), "auxiliary"),
        (lambda view: view.front_end(torch.zeros(1, 3, 16, 16)), "front_end"),
        (lambda view: view.leaked(), "pairs"),
        (lambda view: view.candidates(), "candidates"),
        (lambda view: view.outputs(torch.zeros(1, 3, 16, 16)), "outputs"),
        (lambda view: view.sites(), "sites"),
        (lambda view: view.driven(None), "control"),
        (lambda view: view.with_repeated_noise(), "counterfactual"),
    ],
)
def test_an_attack_sees_no_more_than_its_knowledge_names(look, knowledge, noised):
    others = frozenset(set(Knowledge) - {Knowledge(knowledge)})
    with pytest.raises(AttackError, match=f"'curious' looks at '{knowledge}', which its knowledge"):
        evaluation_of(noised).attack(Attack("curious", others, look, "curious"), "north", LITTLE)


def test_the_attackers_images_are_none_of_the_sites(noised):
    subject = evaluation_of(noised)._subjects["north"]
    own = torch.cat(
        [split.whole().inputs for split in (subject.data.train, subject.data.validation, subject.data.test)]
    )
    images = [subject.drawn(purpose, 0, 16).inputs for purpose in ("auxiliary", "non-members")]
    for one, other in ((images[0], own), (images[1], own), (images[0], images[1])):
        assert float(torch.cdist(one.flatten(1), other.flatten(1)).min()) > 0.1


def own_images(folder, name: str, count: int):
    """Write a site's own images and return its folder."""
    home = folder / name
    for part in ("images", "masks"):
        (home / "scans" / part).mkdir(parents=True)
    for index in range(count):
        image, mask = PHANTOMS["kvasir"](generator(name, index), 16)
        for part, array in (("images", image), ("masks", mask)):
            Image.fromarray(array).save(home / "scans" / part / f"{index:03}.png")
    site = {"task": "kvasir", "root": "scans", "layout": "pairs", "split": {"validation": 0.3, "test": 0.4}}
    (home / "site.json").write_text(json.dumps(site))
    write_policy(home)
    return home


def test_a_site_with_images_of_its_own_is_attacked_with_what_it_held_out(tmp_path):
    own_images(tmp_path / "home", "north", 30)
    heard = heard_run(tmp_path, training={"rounds": 1})
    result = attack(heard, "decoder.front_end").result
    assert result.n == 6, "half of the 12 test images are the attacker's"
    members = attack(heard, "membership.loss").result
    assert "needs 100 images that were not trained on, there are 6" in members.refused["tpr_at_1%_fpr"]
    assert "auc" in members.metrics
    images = own_images(tmp_path / "attacker", "north", 20)
    evaluation = evaluation_of(heard, {"north": images})
    (chosen,) = choose_attacks(["decoder.front_end"])
    assert evaluation.attack(chosen, "north", LITTLE).result.n == 12


def test_images_that_are_not_the_runs_are_noticed(tmp_path):
    own_images(tmp_path / "home", "north", 30)
    heard = heard_run(tmp_path, training={"rounds": 1})
    path = tmp_path / "home/north/noise_secret"
    path.write_text("0" * 64)
    with pytest.raises(AttackError, match=r"are not those of the recording.*with --home"):
        attack(heard, "decoder.front_end")
    with pytest.raises(AttackError, match="does not say what was recorded"):
        attack(heard, "oracle")


def test_unknown_attacks_and_sites_are_named(noised):
    with pytest.raises(AttackError, match=r"unknown attack 'decodr'; did you mean 'decoder'\? \(known"):
        choose_attacks(["decodr"])
    with pytest.raises(AttackError, match="no site 'nort'"):
        evaluation_of(noised).jobs(choose_attacks(["oracle"]), ["nort"])


def test_a_family_stands_for_its_attacks():
    assert [a.name for a in choose_attacks(["decoder"])] == [n for n in ATTACKS if n.startswith("decoder.")]
    assert len(choose_attacks(["all"])) == len(ATTACKS)


def test_the_blind_guess_is_the_best_constant_mask():
    masks = torch.zeros(4, 8, 8, dtype=torch.int64)
    masks[:, 2:6, 2:6] = 1
    assert torch.equal(blind_guess(masks, 2), masks[0])
    masks[:3, 2:6, 2:6] = 2
    assert set(blind_guess(masks, 3).unique().tolist()) == {0, 2}


def test_a_hijacked_site_sends_what_the_pilot_wants(clean):
    """The pilot learns from the attacker's own images, and the site's are read through it."""
    budget = replace(EARNEST, max_steps=40)
    found = attack(clean, "hijack", budget=budget)
    assert isinstance(found.pictures, torch.Tensor)
    assert found.result.target == "train"
    assert found.result.curve[-1][1] < found.result.curve[0][1]


def test_a_front_end_that_was_trained_further_after_its_last_release_is_not_attacked(tmp_path):
    heard = heard_run(tmp_path, {"handover": {"epochs": 1}}, training={"rounds": 1})
    with pytest.raises(AttackError, match=r"run the job with handover\.epochs=0, which releases the same"):
        attack(heard, "decoder.front_end")
