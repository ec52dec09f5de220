"""What each ablation and baseline is truly without."""

import dataclasses
from typing import Any

import pytest
import torch
from seen_jobs import Seen
from shrunk_jobs import JOBS, base_of_file, resolved, shrunk
from tiny_job import run_job

from mucald.methods.split.wire.messages import Field
from mucald.state.checkpoint import load_checkpoint, without_prefix
from mucald.wire.codec import FORMATS

pytestmark = pytest.mark.xdist_group("jobs")

WITHOUT_NOISE = "WITHOUT noise"
TOGETHER = "TOGETHER"
POOLED = {"baseline_centralized", "consortium_centralized"}

# Another backbone changes nothing that the tests below look at.
RUN = [job.name for job in JOBS if resolved(job).get("network", {}).get("backbone") == "unet"]
SPLIT = [job for job in RUN if resolved(job)["method"] == "split"]
SHARED = {
    "baseline_fedper": "front end",
    "baseline_fedrep": "front end",
    "consortium_groups": "front and back end",
    "consortium_handover": "front and back end",
    "consortium_parting": "front and back end",
}
"""What a policy calls the weights that leave the sites of a job."""

HANDED_OVER = {
    "consortium_handover",
    "mucald",
    *(job.name for job in JOBS if base_of_file(job) == "split/consortium"),
}
PLAIN_BASELINES = [
    "baseline_splitfed",
    "baseline_splitfed_v2",
    "baseline_local",
    "baseline_fedprox",
    "baseline_fedbn",
    "baseline_scaffold",
    "baseline_mocha",
    "baseline_fedbone",
]

CRDM = ("crdm1.encoder.", "crdm1.denoiser.", "crdm2.encoder.", "crdm2.denoiser.")
CAUSAL = ("crdm1.causal.", "crdm2.causal.", "prior.", "posterior.")
DENOISERS = ("crdm1.denoiser.", "crdm2.denoiser.")
SITE_TERMS = {"dice", "cross_entropy", "segmentation"}
CAUSAL_TERMS = {f"{term}_{split}" for term in ("proxy", "kl_exogenous", "kl_causal") for split in (1, 2)}
DIFFUSION_TERMS = {"diffusion_1", "diffusion_2"}
ADVERSARIAL_TERMS = {"adversarial_1", "adversarial_2"}
ALL_TERMS = SITE_TERMS | CAUSAL_TERMS | DIFFUSION_TERMS | ADVERSARIAL_TERMS | {"proximal"}
PROXIES = {Field.PROXIES, Field.PROXY_MASK}
TENSORS = {Field.LATENT, Field.LEVEL, Field.FEATURES, Field.FEATURE_GRADIENT, Field.LATENT_GRADIENT}
WIRE = TENSORS | {Field.COUNTERS}


@pytest.mark.parametrize("job", SPLIT)
def test_only_a_job_without_noise_warns_and_says_so_in_its_results(job, seen):
    latents, noised = seen(job).disclosed("latents"), resolved(job)["release"]["noised"]
    assert latents is not None
    assert (latents["noise"] != "none") is noised
    assert (latents["facts"]["snr"] is not None) is noised
    assert sum(WITHOUT_NOISE in warning for warning in seen(job).warnings) == (not noised)
    assert any("the server has them" in sentence for sentence in latents["meaning"]) is not noised


@pytest.mark.parametrize("job", SPLIT)
def test_only_a_job_that_shares_front_ends_warns_and_says_so_in_its_results(job, seen):
    shared, weights = SHARED.get(job), seen(job).disclosed("weights")
    assert (None if weights is None else weights["facts"]["part"]) == shared
    assert sum("are shared" in warning for warning in seen(job).warnings) == (shared is not None)
    assert sum("handed over" in warning for warning in seen(job).warnings) == (job in HANDED_OVER)
    assert seen(job).has("front_end.") is (shared == "front end")
    assert (Field.WEIGHTS in seen(job).wire) is (shared == "front end" or job in HANDED_OVER)


@pytest.mark.parametrize("job", SPLIT)
def test_what_leaves_is_noised_or_else_the_clean_latent(job, seen):
    recording = seen(job).recording
    noised = resolved(job)["release"]["noised"]
    for clean, released in zip(recording.clean, recording.released, strict=True):
        assert torch.equal(clean, released.latent) is not noised
        assert (released.noise is not None) is noised
    assert seen(job).levels == ({resolved(job)["release"]["t"]} if noised else {0})


@pytest.mark.parametrize("job", SPLIT)
def test_no_job_sends_its_noise_its_secret_or_a_latent_that_it_says_to_noise(job, seen):
    recording = seen(job).recording
    everything = b"".join(part for _, request, reply in recording.messages for part in (request, reply))
    private = [released.noise for released in recording.released]
    if resolved(job)["release"]["noised"]:
        private += recording.clean
    for tensor in private:
        if tensor is not None:
            for form in ("float32", "bfloat16", "int8"):
                assert FORMATS[form].encode(tensor[:1])[-48:] not in everything
    # The same search finds what did cross, unless it was a rehearsal in which nothing leaves.
    sent = [FORMATS["int8"].encode(released.latent)[-48:] in everything for released in recording.released]
    rehearsals = 3 * 2 * shrunk(job).release.pretraining_epochs
    assert sent.count(False) == rehearsals
    # What the secret of sites with phantoms says.
    assert b"job seed" not in everything


def test_once_releases_every_image_one_time_and_is_otherwise_the_full_method(seen):
    once, full = seen("mucald_strict"), seen("mucald_fresh")
    assert once.terms == full.terms
    assert once.parameters.keys() == full.parameters.keys()
    assert once.wire == full.wire - {Field.LATENT_GRADIENT} | {Field.INDICES}
    assert set(once.gradients) == set(full.gradients) - {"front_end"}
    sent = sum(len(fields[Field.LATENT]) for fields in once.fields() if Field.LATENT in fields)
    assert sent == 3 * (4 + 2 + 2)


def test_the_full_method_has_all_that_the_ablations_are_without(seen):
    full = seen("mucald_fresh")
    assert full.terms == ALL_TERMS
    assert full.wire == WIRE | PROXIES
    assert all(full.has(prefix) for prefix in (*CRDM, *CAUSAL))
    assert all(norm > 0 for norm in full.gradients.values())
    assert len(full.last_round["discriminators"]) == 4


def test_crdm_only_has_no_discriminator(seen):
    ablation, full = seen("ablation_crdm_only"), seen("mucald_fresh")
    assert ablation.terms == ALL_TERMS - ADVERSARIAL_TERMS
    assert ablation.last_round["discriminators"] == {}
    names = ablation.recording.run.checkpoint("server", 2)
    assert {name.split(".")[1] for name in names} == {"aggregator"}
    names = full.recording.run.checkpoint("server", 2)
    assert {name.split(".")[1] for name in names} == {"aggregator", "discriminators"}
    assert ablation.parameters.keys() == full.parameters.keys()
    assert ablation.wire == full.wire


def test_daca_only_has_neither_crdm_nor_proxies(seen):
    ablation = seen("ablation_daca_only")
    assert ablation.terms == SITE_TERMS | ADVERSARIAL_TERMS | {"proximal"}
    assert all(name.startswith("middle.") for name in ablation.parameters)
    assert ablation.wire == WIRE
    assert len(ablation.last_round["discriminators"]) == 4


def test_no_causal_has_networks_of_equal_width_without_edges(seen):
    def inputs(run: Seen) -> list[int]:
        return [
            tensor.shape[1]
            for name, tensor in run.parameters.items()
            if ".causal." in name and name.endswith(".0.weight")
        ]

    def rest(run: Seen) -> dict[str, torch.Size]:
        return {
            name: tensor.shape
            for name, tensor in run.parameters.items()
            if not (".causal." in name and name.endswith(".0.weight"))
        }

    ablation, full = seen("ablation_no_causal"), seen("mucald_fresh")
    assert inputs(ablation) == [1] * 8
    assert sum(inputs(full)) > 8
    assert rest(ablation) == rest(full)
    assert ablation.terms == full.terms
    assert ablation.wire == full.wire


def test_no_diffusion_has_no_denoiser_but_keeps_the_causal_model(seen):
    ablation = seen("ablation_no_diffusion")
    assert not ablation.has(*DENOISERS)
    assert all(ablation.has(prefix) for prefix in CAUSAL)
    assert ablation.terms == ALL_TERMS - DIFFUSION_TERMS
    assert ablation.wire == WIRE | PROXIES
    assert ablation.gradients["causal_1"] > 0
    assert ablation.gradients["causal_2"] > 0


def test_no_forward_noise_keeps_the_denoiser_in_the_path(seen):
    ablation = seen("ablation_no_forward_noise")
    assert ablation.parameters.keys() == seen("mucald_fresh").parameters.keys()
    assert ablation.terms == ALL_TERMS - DIFFUSION_TERMS
    assert ablation.wire == WIRE | PROXIES
    assert ablation.gradients["denoiser_1"] > 0
    assert ablation.gradients["denoiser_2"] > 0


@pytest.mark.parametrize("job", PLAIN_BASELINES)
def test_a_plain_baseline_is_a_split_network_and_nothing_else(job, seen):
    baseline = seen(job)
    assert all(name.startswith("middle.") for name in baseline.parameters)
    assert baseline.wire == WIRE
    assert baseline.terms == SITE_TERMS | ({"proximal"} if job == "baseline_fedprox" else set())
    assert set(baseline.gradients) == {"front_end", "back_end", "middle"}
    assert baseline.last_round["discriminators"] == {}


@pytest.mark.parametrize("job", ["baseline_fedper", "baseline_fedrep", "baseline_fedem"])
def test_a_baseline_of_another_algorithm_has_the_terms_and_networks_of_splitfed(job, seen):
    baseline, splitfed = seen(job), seen("baseline_splitfed")
    assert baseline.terms == splitfed.terms
    assert set(baseline.gradients) == set(splitfed.gradients)
    own = {name for name in baseline.parameters if not name.startswith("front_end.")}
    components = 3 if job == "baseline_fedem" else 1
    assert len(own) == components * len(splitfed.parameters)
    assert baseline.wire - {Field.WEIGHTS} == WIRE


def middles(seen: Seen) -> list[torch.Tensor]:
    """Return the middle networks' weights of all sites after the last aggregation."""
    run = seen.recording.run
    folder = run.folder / "home/server/runs" / run.results["run_id"] / "round-002"
    states = [load_checkpoint(folder / f"{site}.safetensors")[0] for site in run.results["sites"]]
    middle = [without_prefix("segments.middle", state) for state in states]
    return [torch.cat([state[name].flatten() for name in sorted(state)]) for state in middle]


def test_local_shares_nothing_where_splitfed_shares_the_middle_network(seen):
    first, *others = middles(seen("baseline_splitfed"))
    assert all(torch.equal(first, other) for other in others)
    first, *others = middles(seen("baseline_local"))
    assert not any(torch.equal(first, other) for other in others)


def test_a_local_site_does_not_notice_who_else_takes_part(seen, tmp_path):
    config = shrunk("baseline_local")
    fewer = run_job(dataclasses.replace(config, min_sites=1), tmp_path, sites=["embryo"])
    assert fewer.results["sites"]["embryo"] == seen("baseline_local").results["sites"]["embryo"]


def test_fedprox_without_its_weight_is_splitfed():
    config, splitfed = shrunk("baseline_fedprox"), shrunk("baseline_splitfed")
    losses = dataclasses.replace(config.losses, proximal=0.0)
    text = {"name": splitfed.name, "description": splitfed.description}
    assert dataclasses.replace(config, losses=losses, **text) == splitfed


@pytest.mark.parametrize("job", RUN)
def test_only_a_job_that_pools_the_data_warns(job, seen):
    assert any(TOGETHER in warning for warning in seen(job).warnings) is (job in POOLED)


def test_centralized_trains_one_model_without_sending_anything(seen):
    run = seen("baseline_centralized")
    assert run.warnings == ["the data of all sites lie TOGETHER at 'pooled', where one model trains"]
    assert run.recording.messages == []
    assert run.results["wire"] == {"bytes_up": 0, "bytes_down": 0, "bytes_per_image_step": 0}
    assert run.results["mean"]["server_contribution"] is None
    assert [one["kind"] for one in run.results["privacy"]["disclosures"]] == ["scores"]
    assert run.terms == SITE_TERMS
    assert set(run.gradients) == {"front_end", "middle", "back_end"}


def test_centralized_tests_the_sites_of_splitfed_on_the_same_number_of_images(seen):
    def facts(site: dict[str, Any]) -> list[Any]:
        kept = ("task", "source", "n_train", "n_validation", "n_test")
        return [*(site[key] for key in kept), site.keys(), site["test"].keys(), len(site["dice_per_image"])]

    pooled, split = (seen(job).results["sites"] for job in ("baseline_centralized", "baseline_splitfed"))
    assert list(pooled) == list(split)
    assert [facts(site) for site in pooled.values()] == [facts(site) for site in split.values()]


def test_the_papers_job_sends_full_resolution_latents(seen):
    paper = seen("mucald_paper")
    shapes = {tuple(fields[Field.LATENT].shape[1:]) for fields in paper.fields() if Field.LATENT in fields}
    assert shapes == {(4, 16, 16)}
    assert paper.terms == ALL_TERMS
    assert paper.disclosed("latent noise") is None
