"""A job so small that a whole run takes half a second, and what the tests need to drive it by hand."""

import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mucald.aggregation import make_rule
from mucald.config.job import JobConfig
from mucald.data.loading import load_for
from mucald.data.site_data import SiteData
from mucald.errors import MucaldError
from mucald.federation.coordinator import Coordinator
from mucald.federation.in_process import run_in_process
from mucald.federation.method import Outcome, Send, SiteMethod
from mucald.federation.participant import create_site
from mucald.federation.task import SiteTask
from mucald.methods import family_of
from mucald.methods.jobs import parse_config
from mucald.methods.pooled.config import PooledConfig
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.daca import Discriminator
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.server.shared_networks import CopyPlan
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.site.build import measures_of
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase
from mucald.privacy.policy import OPEN, POLICY_FILE, Policy
from mucald.state.checkpoint import load_checkpoint

REPOSITORY = Path(__file__).parents[1]
CPU = torch.device("cpu")
BATCH = 2
LATENT = (BATCH, 4, 8, 8)
AT_ONCE = {"warm_up": 0.0, "ramp": 0.0}

CONTENT: dict[str, Any] = {
    "method": "split",
    "name": "tiny",
    "description": "every part of MuCALD, as small as it gets",
    "seed": 7,
    "min_sites": 2,
    "resume_from": None,
    "sites": {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}, "west": {"task": "kvasir"}},
    "data": {"image_size": 16, "phantoms": {"train": 4, "validation": 2, "test": 2}},
    "training": {"rounds": 2, "local_epochs": 1, "batch_size": BATCH},
    "network": {
        "backbone": "unet",
        "features": [8, 16, 32],
        "cut": 1,
        "latent_channels": LATENT[1],
        "norm": "instance",
        "task_adaptation": False,
        "precision": "float32",
    },
    "release": {
        "mode": "fresh",
        "pretraining_epochs": 0,
        "stand_in": False,
        "noised": True,
        "clip": 3.0,
        "timesteps": 400,
        "t": 300,
        "proxy_noise_std": 0.5,
        "gradient_clip": None,
        "gradient_noise_std": 0.0,
    },
    "crdm": {
        "encoder": "scm",
        "encoder_width": 8,
        "causal_hidden": 8,
        "denoiser": True,
        "denoiser_width": 8,
        "supervision": "sure",
        "t_split2": 100,
    },
    "daca": {
        "enabled": True,
        "width": 8,
        "buffer": 4,
        "steps": 3,
        "batch_per_site": 2,
        "learning_rate": 0.001,
    },
    "losses": {
        "cross_entropy": 0.5,
        "proxy": {"weight": 0.4, **AT_ONCE},
        "diffusion": {"weight": 0.4, **AT_ONCE},
        "kl_exogenous": {"weight": 0.0001, **AT_ONCE},
        "kl_causal": {"weight": 0.0001, **AT_ONCE},
        "adversarial": {"weight": 0.1, **AT_ONCE},
        "proximal": 0.001,
    },
    "optimiser": {
        "segmentation": 0.001,
        "causal": 0.0005,
        "denoiser": 0.001,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
    },
    "algorithm": {"name": "splitfed", "args": {}},
    "aggregation": {"rule": "equal", "args": {}, "statistics": False},
    "wire": {
        "latent": "int8",
        "features": "bfloat16",
        "feature_gradient": "bfloat16",
        "latent_gradient": "bfloat16",
    },
    "runtime": {
        "device": "cpu",
        "threads": 1,
        "step_timeout_s": 60.0,
        "task_timeout_s": 0,
        "stall_timeout_s": 0.0,
        "record": False,
    },
}
EXACT_WIRE = dict.fromkeys(CONTENT["wire"], "float32")
PLAIN: dict[str, Any] = {
    "release": {"noised": False},
    "crdm": {"encoder": "none", "denoiser": False},
    "daca": {"enabled": False},
    "losses": {"proximal": 0.0},
    "wire": EXACT_WIRE,
}
"""What makes the job a plain split network; also for tests that need no more, for it takes half the time."""


def tiny_content(*changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the job's JSON with ``changes`` merged into it, key by key; ``sites`` is replaced as a whole."""
    content = copy.deepcopy(CONTENT)
    for change in (*changes, more):
        _merge(content, copy.deepcopy(change))
    return content


def _merge(content: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict) and key != "sites":
            _merge(content[key], value)
        else:
            content[key] = value


def tiny_config(*changes: dict[str, Any], **more: Any) -> SplitConfig:
    """Return the job with ``changes`` merged into it."""
    return parse_config(tiny_content(*changes, **more))


def pooled_config(*changes: dict[str, Any], **more: Any) -> PooledConfig:
    """Return the job on pooled data that fits the tiny one, with ``changes`` merged into it."""
    shared = ("description", "seed", "resume_from", "sites", "data", "training", "network", "runtime")
    rates = CONTENT["optimiser"]
    content = {key: copy.deepcopy(CONTENT[key]) for key in shared} | {
        "method": "pooled",
        "name": "tiny_pooled",
        "min_sites": 1,
        "participant": "pooled",
        "clip": CONTENT["release"]["clip"],
        "cross_entropy": CONTENT["losses"]["cross_entropy"],
        "optimiser": {
            "learning_rate": rates["segmentation"],
            "weight_decay": rates["weight_decay"],
            "clip_norm": rates["clip_norm"],
        },
    }
    for change in (*changes, more):
        _merge(content, copy.deepcopy(change))
    return parse_config(content)


def site_data(config: JobConfig, site: str, home: Path | None = None) -> SiteData:
    """Return the data of a site with its proxies: phantoms, or the images in ``home``."""
    return load_for(site, config, home or Path("nowhere"), True, measures_of)


def disclosed(results: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """Return what the results say of a kind of disclosure; None if the job discloses nothing of it."""
    found = [one for one in results["privacy"]["disclosures"] if one["kind"] == kind]
    return found[0] if found else None


@dataclass
class Run:
    """A finished run: its results and where it left its files."""

    folder: Path
    results: dict[str, Any]

    @property
    def server(self) -> Path:
        return self.folder / "results" / "server"

    def models(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights of all model files, by path."""
        files = sorted(self.folder.glob("results/*/models/*.safetensors"))
        return {str(path.relative_to(self.folder)): load_checkpoint(path)[0] for path in files}

    def checkpoint(self, participant: str, completed: int) -> dict[str, Tensor]:
        """Return the tensors that ``participant`` wrote after ``completed`` rounds."""
        run = self.folder / "home" / participant / "runs" / self.results["run_id"]
        name = "server" if participant == "server" else "site"
        return load_checkpoint(run / f"round-{completed:03d}" / f"{name}.safetensors")[0]

    def numbers(self) -> dict[str, Any]:
        """Return the results without what may differ between equal runs: names, times, and the resumption."""
        numbers = {key: value for key, value in self.results.items() if key not in ("run_id", "timing")}
        numbers["config"] = numbers["config"] | {"resume_from": None}
        return numbers


def in_one_process(
    config: JobConfig, sites: Sequence[str], results: Path, home: Path, workers: int = 2
) -> dict[str, Any]:
    """Run a job in this process; every participant's own folder lies in ``home``."""
    family = family_of(config.method)
    return run_in_process(family, config, sites, results, lambda name: home / name, workers)


def run_job(config: JobConfig, folder: Path, workers: int = 1, sites: Sequence[str] | None = None) -> Run:
    """Run a job in this process; a second call with the same folder finds the first one's checkpoints."""
    sites = sites or family_of(config.method).participants(config)
    return Run(folder, in_one_process(config, sites, folder / "results", folder / "home", workers))


def equal_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether two dictionaries hold the same names and, bit for bit, the same tensors."""
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def equal_models(one: Run, other: Run) -> bool:
    """Return whether two runs left the same models, bit for bit."""
    first, second = one.models(), other.models()
    return first.keys() == second.keys() and all(equal_tensors(first[name], second[name]) for name in first)


@dataclass
class Clock:
    """A clock that a test sets, in seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Federation:
    """Server and sites of a job, task by task, so that a test can look at them in between.

    Args:
        config: the job.
        folder: where everything is written.
        new_process: build every site anew for each task, as the simulator with a single thread does.
        carrier: wraps the function that carries a site's requests; given the site's name and that function.
        clock: by which the server measures a site's silence.
    """

    config: JobConfig
    folder: Path
    new_process: bool = False
    carrier: Callable[[str, Send], Send] | None = None
    clock: Callable[[], float] = time.monotonic
    sites: dict[str, SiteMethod] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.set_num_threads(self.config.runtime.threads)
        self.family = family_of(self.config.method)
        self.coordinator = Coordinator(
            self.family,
            self.config,
            self.family.participants(self.config),
            self.folder / "home/server",
            self.folder / "results",
            CPU,
            self.clock,
        )

    @property
    def copies(self) -> dict[str, SiteCopy]:
        """The server's networks by site."""
        return self.coordinator.method.copies

    def parameters(self, site: str) -> dict[str, Tensor]:
        """Return clones of the present parameters of the server's copy for ``site``."""
        segments = self.copies[site].segments
        return {name: p.detach().clone() for name, p in segments.named_parameters()}

    def work(self, name: str, task: SiteTask) -> Outcome:
        """Let one site do the open task."""
        if self.new_process or name not in self.sites:
            home = self.folder / "home" / name
            self.sites[name] = create_site(self.family, name, self.config, home, task.run_id, CPU)
        send: Send = partial(self.coordinator.handle, name)
        send = self.carrier(name, send) if self.carrier else send
        return self.sites[name].run(task, self.coordinator.payload(name, task), send)

    def report(self, name: str, task: SiteTask) -> dict[str, Any]:
        """Let one site do the open task; return its report, which the server does not get."""
        return self.work(name, task).reports[name]

    def receive(self, name: str, outcome: Outcome) -> None:
        """Give the server what a site sends back."""
        self.coordinator.receive(name, outcome.reports, outcome.payload)

    def open(self, task: SiteTask) -> list[str]:
        """Open a task and its first turn; return whose turn it is, all sites unless they work in turn."""
        self.coordinator.open(task)
        self._turns = self.coordinator.turns()
        return next(self._turns)

    def open_next(self) -> SiteTask:
        """Open the next task and its first turn, and return the task."""
        task = next(self.coordinator.tasks())
        self.open(task)
        return task

    def run_sites(self, task: SiteTask) -> None:
        """Open a task and let all sites do it, without closing it."""
        self.coordinator.open(task)
        for name in (site for turn in self.coordinator.turns() for site in turn):
            try:
                self.receive(name, self.work(name, task))
            except MucaldError as error:
                self.coordinator.fail(name, str(error))

    def run(self, tasks: int | None = None) -> None:
        """Do the next ``tasks`` tasks, or all."""
        for task in islice(self.coordinator.tasks(), tasks):
            self.run_sites(task)
            self.coordinator.close(task)


_SCRATCH = tempfile.TemporaryDirectory(prefix="mucald-scratch-")


def make_copy(config: SplitConfig, site: str = "north") -> SiteCopy:
    """Return the server's networks for ``site``, ready for a round."""
    rule = make_rule(config.aggregation.rule, config.aggregation.args)
    plan = CopyPlan(config, make_algorithm(config.algorithm), rule.needs_start, CPU)
    site_copy = SiteCopy(site, plan, Path(tempfile.mkdtemp(dir=_SCRATCH.name)))
    site_copy.begin_round()
    return site_copy


def server_of(
    config: SplitConfig,
    copies: dict[str, SiteCopy] | None = None,
    discriminators: Sequence[Discriminator] = (),
) -> SplitServer:
    """Return the server's end of the wire, with ``copies`` or those of all sites; no round is open."""
    copies = copies or {site: make_copy(config, site) for site in config.sites}
    return SplitServer(config, make_algorithm(config.algorithm), copies, discriminators)


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def request(phase: Phase, step: int = 0, round_number: int = 0, **changes: Tensor | None) -> bytes:
    """Return a valid request of the tiny job as bytes; ``changes`` replace its fields or drop them (None)."""
    fields: dict[Field, Tensor] = {}
    if phase is Phase.TRAIN_BACKWARD:
        fields[Field.FEATURE_GRADIENT] = draw(*LATENT, seed=100 + step) / 10
    elif phase is Phase.REPORT:
        fields[Field.COUNTERS] = torch.tensor([0.5, 1.0], dtype=torch.float64)
    elif phase not in (Phase.FETCH_FRONT_END, Phase.GIVE_FRONT_END, Phase.FETCH_MIDDLE):
        fields[Field.LATENT] = draw(*LATENT, seed=step)
        fields[Field.LEVEL] = torch.full((BATCH,), 300, dtype=torch.int32)
        if phase not in (Phase.TEST, Phase.TRAIN_HEAD):
            fields[Field.PROXIES] = draw(BATCH, 4, seed=200 + step)
            fields[Field.PROXY_MASK] = torch.ones(BATCH, 4, dtype=torch.uint8)
    if phase is Phase.TRAIN_FORWARD_WITH_NOISE:
        fields[Field.NOISE] = draw(*LATENT, seed=300 + step)
    for name, tensor in changes.items():
        if tensor is None:
            del fields[Field[name.upper()]]
        else:
            fields[Field[name.upper()]] = tensor
    message = Message(Kind.REQUEST, phase, round_number, step, fields)
    return message.encode({Field.LATENT: "float32", Field.FEATURE_GRADIENT: "float32"})


def flat_numbers(value: Any) -> Iterator[float]:
    """Yield every number in nested JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from flat_numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def with_limits(policy: Policy, **kinds: dict[str, Any] | None) -> Policy:
    """Return a policy with other limits, by kind with ``_`` for a space; None takes a kind away."""
    discloses = copy.deepcopy(policy.discloses)
    for name, limits in kinds.items():
        kind = name.replace("_", " ")
        if limits is None:
            del discloses[kind]
        else:
            discloses[kind] |= limits
    return replace(policy, discloses=discloses)


def write_policy(home: Path, policy: Policy = OPEN, **changes: Any) -> None:
    """Write a site's policy file: ``policy`` with the fields in ``changes`` replaced."""
    home.mkdir(parents=True, exist_ok=True)
    (home / POLICY_FILE).write_text(json.dumps(asdict(policy) | changes))


def write_job(folder: Path, content: dict[str, Any], participants: list[str] | None = None) -> Path:
    """Write a job folder as FLARE expects it and return it."""
    config = folder / "app" / "config"
    config.mkdir(parents=True)
    (config / "mucald.json").write_text(json.dumps(content))
    names = ["server", *content["sites"]] if participants is None else participants
    (folder / "meta.json").write_text(json.dumps({"name": content["name"], "deploy_map": {"app": names}}))
    return folder
