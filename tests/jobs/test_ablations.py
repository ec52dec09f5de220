"""What every job changes of jobs/mucald, to the key, and what each ablation is truly without."""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from recording import Recording, record_run
from tiny_job import REPOSITORY, run_job

from mucald.errors import ConfigError
from mucald.methods.jobs import load_job, parse_config
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.wire.messages import Field, decode
from mucald.state.checkpoint import load_checkpoint, without_prefix
from mucald.wire.codec import FORMATS
from mucald_studies.reporting.runs import flatten

ROOT = REPOSITORY / "jobs"
JOBS = sorted(path.parent for path in ROOT.glob("*/meta.json"))
TEXT = {"name", "description"}
WITHOUT_NOISE = "WITHOUT noise"
TOGETHER = "TOGETHER"
POOLED = {"baseline_centralized": "pooled"}
"""Jobs in which one participant holds the data of all sites, and its name."""

# What another rule has no use for is None; without any argument, the empty dictionary is a value itself.
RULE_ARGUMENTS = {
    f"aggregation.args.{key}": None
    for key in ("toward.rule", "toward.args.c", "factors", "blocks.encoder", "blocks.decoder")
}
FRESH = {
    "release.mode": "fresh",
    "release.pretraining_epochs": 0,
    "release.t": 300,
    "release.gradient_clip": None,
    "release.gradient_noise_std": 0.0,
    "wire.features": "bfloat16",
    "wire.feature_gradient": "bfloat16",
    "runtime.stall_timeout_s": 600.0,
}
EQUAL = RULE_ARGUMENTS | {"aggregation.rule": "equal", "aggregation.args": {}}
NO_NOISE = {"release.noised": False}
NO_CRDM = {"crdm.encoder": "none", "crdm.denoiser": False}
SPLITFED = FRESH | EQUAL | NO_NOISE | NO_CRDM | {"daca.enabled": False, "losses.proximal": 0.0}


def arguments(**values: Any) -> dict[str, Any]:
    """Return the differences of a job whose algorithm has arguments; that of jobs/mucald has none."""
    return {"algorithm.args": None} | {f"algorithm.args.{name}": value for name, value in values.items()}


DIFFERENCES: dict[str, dict[str, Any]] = {
    "mucald": {},
    "mucald_fresh": FRESH,
    "mucald_paper": FRESH
    | EQUAL
    | {
        "network.features": [32, 64, 128, 256, 512],
        "network.cut": 0,
        "network.latent_channels": 32,
        "release.t": 200,
        "crdm.encoder_width": 64,
        "crdm.denoiser_width": 128,
        "crdm.t_split2": 200,
    },
    "mucald_swin_unet": {"network.backbone": "swin_unet"},
    "mucald_unet3plus": {"network.backbone": "unet3plus", "network.features": [16, 32, 64, 128, 256]},
    "ablation_equal_average": FRESH | EQUAL,
    "ablation_crdm_only": FRESH | {"daca.enabled": False},
    "ablation_daca_only": FRESH | NO_NOISE | NO_CRDM,
    "ablation_no_causal": FRESH | {"crdm.encoder": "plain"},
    "ablation_no_diffusion": FRESH | NO_NOISE | {"crdm.denoiser": False},
    "ablation_no_forward_noise": FRESH | NO_NOISE,
    "baseline_splitfed": SPLITFED,
    "baseline_splitfed_v2": SPLITFED | {"algorithm.name": "splitfed_v2", "aggregation.rule": "local"},
    "baseline_local": SPLITFED | {"aggregation.rule": "local"},
    "baseline_fedprox": SPLITFED | {"losses.proximal": 0.01},
    "baseline_fedper": SPLITFED | {"algorithm.name": "fedper"},
    "baseline_fedrep": SPLITFED | {"algorithm.name": "fedrep"} | arguments(head_epochs=1),
    "baseline_fedem": SPLITFED | {"algorithm.name": "fedem"} | arguments(components=3),
    "baseline_fedbn": SPLITFED | {"aggregation.rule": "fedbn"},
    "baseline_scaffold": SPLITFED | {"algorithm.name": "scaffold"},
    "baseline_mocha": SPLITFED
    | {"algorithm.name": "mocha", "aggregation.rule": "local"}
    | arguments(regularisation=0.001, ridge=0.0001),
    "baseline_fedbone": {key: value for key, value in SPLITFED.items() if key != "aggregation.args"}
    | {
        "network.task_adaptation": True,
        "aggregation.rule": "fedbone",
        "aggregation.args.learning_rate": 1.0,
        "aggregation.args.momentum": 0.9,
    },
    "baseline_centralized": SPLITFED
    | {"min_sites": 1, "algorithm.name": "centralized"}
    | arguments(site=POOLED["baseline_centralized"]),
}
"""Every job's differences from jobs/mucald, beside name and description; a new job needs its row."""

# Another backbone changes nothing that the runs below look at, and is slow to build.
RUN = [job for job, changes in DIFFERENCES.items() if "network.backbone" not in changes]
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
SPLIT = [job for job in RUN if job not in POOLED]

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


def read(job: Path | str, file: str = "app/config/mucald.json") -> dict[str, Any]:
    return json.loads((ROOT / job / file).read_text())


def differences(job: str) -> dict[str, Any]:
    """Return the values, by dotted key, that jobs/mucald has otherwise; None for those that only it has."""
    own, main = flatten(read(job)), flatten(read("mucald"))
    return {key: own.get(key) for key in own | main if own.get(key, ...) != main.get(key, ...)}


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_a_job_differs_from_the_main_job_in_exactly_these_values(job):
    assert job.name in DIFFERENCES, f"give {job.name} its row in DIFFERENCES"
    found = {key: value for key, value in differences(job.name).items() if key not in TEXT}
    assert found == DIFFERENCES[job.name]


def test_every_row_is_a_job():
    assert set(DIFFERENCES) == {job.name for job in JOBS}


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_the_other_files_are_those_of_the_main_job(job):
    def files(folder: Path) -> dict[str, bytes]:
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    own, main = files(job), files(ROOT / "mucald")
    assert own.keys() == main.keys()
    assert {name for name in own if own[name] != main[name]} <= {"meta.json", "app/config/mucald.json"}
    expected = read("mucald", "meta.json") | {"name": job.name}
    if job.name in POOLED:
        expected |= {"min_clients": 1, "deploy_map": {"app": ["server", POOLED[job.name]]}}
    assert read(job, "meta.json") == expected


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_a_job_says_what_it_is(job):
    content = read(job)
    assert content["name"] == job.name
    others = [read(other)["description"] for other in JOBS if other != job]
    assert content["description"] not in others
    assert (TOGETHER in content["description"]) is (job.name in POOLED)
    sends_clean = job.name not in POOLED and not content["release"]["noised"]
    assert (WITHOUT_NOISE in content["description"]) is sends_clean


def test_a_job_that_differs_in_a_key_that_does_not_exist_is_refused(tmp_path):
    for file in ("meta.json", "app/config/mucald.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((ROOT / "ablation_crdm_only" / file).read_text())
    config = tmp_path / "app/config/mucald.json"
    config.write_text(config.read_text().replace('"steps"', '"step"'))
    with pytest.raises(ConfigError, match=r"unknown key 'daca.step'; did you mean 'steps'"):
        load_job(tmp_path)


def shrunk(job: str) -> SplitConfig:
    """Return the job with its switches as they are and its sizes as small as they get."""
    content = read(job)
    content["sites"] = {site: content["sites"][site] for site in ("embryo", "skin", "polyp")}
    content["data"] = {"image_size": 16, "phantoms": {"train": 4, "validation": 2, "test": 2}}
    epochs = 1 + content["algorithm"]["args"].get("head_epochs", 0)
    content["training"] |= {"rounds": 2, "local_epochs": epochs, "batch_size": 2}
    content["release"]["pretraining_epochs"] = min(content["release"]["pretraining_epochs"], 1)
    content["network"] |= {"features": [8, 16, 16], "latent_channels": 4}
    content["network"]["cut"] = min(content["network"]["cut"], 1)
    content["crdm"] |= {"encoder_width": 8, "causal_hidden": 8, "denoiser_width": 8}
    content["daca"] |= {"width": 8, "buffer": 4, "steps": 2, "batch_per_site": 2}
    return parse_config(content)


@dataclasses.dataclass(frozen=True)
class Seen:
    """A recorded run of a shrunk job, and the server's warnings."""

    recording: Recording
    warnings: list[str]

    @property
    def results(self) -> dict[str, Any]:
        return self.recording.run.results

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Names and values of the server's networks for one site."""
        return load_checkpoint(self.recording.run.server / "models/embryo.safetensors")[0]

    @property
    def last_round(self) -> dict[str, Any]:
        return self.results["rounds"][-1]

    @property
    def terms(self) -> set[str]:
        """Names of the loss terms of the last round, when every ramp is at its end."""
        return set(self.last_round["sites"]["embryo"]["losses"])

    @property
    def gradients(self) -> dict[str, float]:
        return self.last_round["sites"]["embryo"]["gradients"]

    def fields(self) -> Iterator[dict[Field, torch.Tensor]]:
        """Yield what every message carried."""
        for _, request, reply in self.recording.messages:
            yield decode(request).fields
            yield decode(reply).fields

    @property
    def wire(self) -> set[Field]:
        return {field for fields in self.fields() for field in fields}

    @property
    def levels(self) -> set[int]:
        return {int(t) for fields in self.fields() if Field.LEVEL in fields for t in fields[Field.LEVEL]}

    def has(self, *prefixes: str) -> bool:
        """Return whether the server holds a parameter whose name begins so."""
        return any(name.startswith(prefixes) for name in self.parameters)


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Callable[[str], Seen]:
    """Run a job once for all tests of this module."""

    @cache
    def run(job: str) -> Seen:
        warnings: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
        log = logging.getLogger("mucald")
        log.addHandler(handler)
        try:
            return Seen(record_run(shrunk(job), tmp_path_factory.mktemp(job)), warnings)
        finally:
            log.removeHandler(handler)

    return run


@pytest.mark.parametrize("job", SPLIT)
def test_only_a_job_without_noise_warns_and_says_so_in_its_results(job, seen):
    privacy, warnings = seen(job).results["privacy"], seen(job).warnings
    noised = read(job)["release"]["noised"]
    assert privacy["noised"] is noised
    assert sum(WITHOUT_NOISE in warning for warning in warnings) == (not noised)
    if not noised:
        assert privacy["latent_recoverable_by_server"]
        assert (privacy["t_release"], privacy["snr"], privacy["supervision"]) == (None, None, None)


@pytest.mark.parametrize("job", SPLIT)
def test_only_a_job_that_shares_front_ends_warns_and_says_so_in_its_results(job, seen):
    shared = job in ("baseline_fedper", "baseline_fedrep")
    assert seen(job).results["privacy"]["front_end_known_to_server"] is shared
    assert sum("front ends are SHARED" in warning for warning in seen(job).warnings) == shared
    assert seen(job).has("front_end.") is shared
    assert (Field.WEIGHTS in seen(job).wire) is shared


@pytest.mark.parametrize("job", SPLIT)
def test_what_leaves_is_noised_or_else_the_clean_latent(job, seen):
    recording = seen(job).recording
    noised = read(job)["release"]["noised"]
    for clean, released in zip(recording.clean, recording.released, strict=True):
        assert torch.equal(clean, released.latent) is not noised
        assert (released.noise is not None) is noised
    assert seen(job).levels == ({read(job)["release"]["t"]} if noised else {0})


@pytest.mark.parametrize("job", SPLIT)
def test_no_job_sends_its_noise_its_secret_or_a_latent_that_it_says_to_noise(job, seen):
    recording = seen(job).recording
    everything = b"".join(part for _, request, reply in recording.messages for part in (request, reply))
    private = [released.noise for released in recording.released]
    if read(job)["release"]["noised"]:
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
    once, full = seen("mucald"), seen("mucald_fresh")
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
    assert {name.split(".")[0] for name in names} == {"aggregator"}, "and no discriminators"
    assert full.recording.run.checkpoint("server", 2) != {}
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
def test_only_a_job_that_pools_the_data_says_so_in_log_and_results(job, seen):
    run = seen(job)
    assert run.results["privacy"]["data_pooled"] is (job in POOLED)
    assert any(TOGETHER in warning for warning in run.warnings) is (job in POOLED)


def test_centralized_trains_one_model_without_sending_anything(seen):
    run = seen("baseline_centralized")
    assert run.warnings == ["the data of all sites lie TOGETHER at 'pooled', where one model trains"]
    assert run.recording.messages == []
    assert run.results["wire"] == {"bytes_up": 0, "bytes_down": 0, "bytes_per_image_step": 0}
    assert run.results["mean"]["server_contribution"] is None
    assert run.results["privacy"] == dict.fromkeys(run.results["privacy"]) | {
        "data_pooled": True,
        "noised": False,
        "releases_per_sample": {"train": 0, "validation": 0, "test": 0},
    }
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
    assert paper.results["privacy"]["supervision"] == "sure"
