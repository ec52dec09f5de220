"""A server with many sites that compute nothing: they send valid random messages as fast as it answers.

``python -m mucald_studies.benchmark.synthetic '<JSON>'`` measures one number of sites in a process of its
own, so that its memory is its own, and prints what it found as a line of JSON.
"""

import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import psutil
import torch
from torch import Tensor

from mucald.config.schema import parse
from mucald.device import choose_device
from mucald.errors import ConfigError
from mucald.federation.coordinator import Coordinator
from mucald.federation.task import SiteTask
from mucald.methods.split import FAMILY
from mucald.methods.split.causal.graphs import n_proxies
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.aggregator import Aggregator
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.server.method import SplitServerMethod
from mucald.methods.split.site.exchange import Exchange, NoisedProxies
from mucald.methods.split.site.release import Released
from mucald.methods.split.wire.messages import Phase
from mucald.nets import backbone_of
from mucald.wire.traffic import Traffic
from mucald_studies.benchmark.probing.probe import Part, Probe

_IMAGES = 8
_BETWEEN_ROUNDS = (
    Part(Aggregator, "end_round", "aggregation", "server", root=True, keep=lambda *_: True),
    Part(Discriminators, "train", "discriminators", "server", root=True, keep=lambda *_: True),
    Part(Coordinator, "_save", "checkpoint", "server", root=True, keep=lambda *_: True),
)


def with_sites(content: dict[str, Any], count: int) -> SplitConfig:
    """Return a job for ``count`` sites, whose tasks are those of its own sites in turn.

    Raises:
        ConfigError: the job is wrong, or its sites send other messages than a step's two.
    """
    tasks = [site["task"] for site in content["sites"].values()]
    sites = {f"site-{number:02}": {"task": tasks[number % len(tasks)]} for number in range(count)}
    config = parse(SplitConfig, content | {"sites": sites, "min_sites": 1})
    if config.release.mode == "once" or config.algorithm.name != "splitfed":
        raise ConfigError("synthetic sites speak the protocol of algorithm splitfed and fresh releases alone")
    return config


class _Site:
    """A site without data or networks."""

    def __init__(self, name: str, number: int, config: SplitConfig):
        self.name, self._config = name, config
        draws = torch.Generator().manual_seed(number)
        batch = config.training.batch_size
        nodes = n_proxies(config.crdm.encoder, config.site(name).task)
        shape = (batch, *backbone_of(config.network).latent_shape(config.data.image_size))
        level = torch.full((batch,), config.release.t, dtype=torch.int32)
        self._released = Released(torch.randn(shape, generator=draws), level, None)
        self._gradient = 1e-3 * torch.randn(shape, generator=draws)
        self._proxies: NoisedProxies | None = None
        if nodes:
            present = torch.ones((batch, nodes), dtype=torch.uint8)
            self._proxies = torch.randn((batch, nodes), generator=draws), present

    def round(self, exchange: Exchange, number: int, steps: int, together: Barrier) -> list[float]:
        """Do a round and return the seconds of each training step; ``together`` all begin to train."""
        if number > 0:
            self._validate(exchange)
        together.wait()
        seconds, exchange.steps = [], steps
        for step in range(steps):
            start = time.perf_counter()
            exchange.train_forward(step, self._released, self._proxies)
            exchange.train_backward(step, self._gradient)
            seconds.append(time.perf_counter() - start)
        return seconds

    def _validate(self, exchange: Exchange) -> None:
        features = exchange.evaluate(Phase.VALIDATE, 0, self._released, self._proxies)
        states = features.shape[1] // self._released.latent.shape[1]
        exchange.report([(0.5, 1.0 + state) for state in range(states)])

    def report(self, number: int, steps: int) -> dict[str, Any]:
        """Return a report that the server accepts."""
        counts = {"n_train": _IMAGES, "n_validation": _IMAGES, "n_test": _IMAGES}
        report = {
            "site": self.name,
            "task": self._config.site(self.name).task,
            "source": "synthetic",
            "round": number,
            **counts,
            "wire": asdict(Traffic()),
            "seconds": 0.0,
            "losses": {"segmentation": 1.0},
            "gradients": {},
            "steps": steps,
        }
        if number > 0:
            report["validation"] = {"round": number - 1, "dice": 0.5, "loss": 1.0, "best": number == 1}
        return report


def measure(content: dict[str, Any], count: int, rounds: int, steps: int) -> dict[str, Any]:
    """Run rounds of synthetic sites against a server.

    Args:
        content: ``mucald.json`` of the job.
        count: sites.
        rounds: at least 2; the first is not timed.
        steps: training steps of each site and round.

    Returns:
        ``latency`` of all timed steps, seconds of the ``span`` and of the processor in it, bytes of a copy's
        parameters, gradients and optimiser state (``needed``), most bytes of ``tensors`` in the server and
        resident memory (``resident``) after each round, and seconds ``between`` rounds by part.
    """
    config = with_sites(content, count)
    torch.set_num_threads(config.runtime.threads)
    process, before, own = psutil.Process(), psutil.Process().memory_info().rss, _tensor_bytes()
    sites = [_Site(name, number, config) for number, name in enumerate(config.sites)]
    held = _tensor_bytes() - own
    found: dict[str, Any] = {"sites": count, "latency": [], "span": 0.0, "processor": 0.0}
    tensors, resident = [], []
    with tempfile.TemporaryDirectory() as name, Probe(_BETWEEN_ROUNDS).installed() as ledger:
        coordinator = Coordinator(
            FAMILY, config, list(config.sites), Path(name), Path(name) / "run", choose_device(config.runtime)
        )
        for number in range(rounds):
            task = SiteTask("train", number, coordinator.run_id)
            coordinator.open(task)
            for _ in coordinator.turns():
                _round(coordinator, sites, config, number, steps, found)
                at_most = _tensor_bytes()
                for site in sites:
                    coordinator.receive(site.name, {site.name: site.report(number, steps)})
            coordinator.close(task)
            tensors.append(max(at_most, _tensor_bytes()) - own - held)
            resident.append(process.memory_info().rss - before)
        needed = _needed(coordinator)
    between = {label: seconds / rounds for label, seconds in ledger.of("server").items()}
    return found | {"needed": needed, "tensors": tensors, "resident": resident, "between": between}


def _round(
    coordinator: Coordinator,
    sites: Sequence[_Site],
    config: SplitConfig,
    number: int,
    steps: int,
    found: dict[str, Any],
) -> None:
    """Let all sites train at once, each in a thread."""
    clock: list[tuple[float, float]] = []
    together = Barrier(len(sites), action=lambda: clock.append((time.perf_counter(), time.process_time())))

    def work(site: _Site) -> list[float]:
        exchange = Exchange(partial(coordinator.handle, site.name), config, site.name, number)
        return site.round(exchange, number, steps, together)

    with ThreadPoolExecutor(len(sites)) as pool:
        latency = [seconds for of_site in pool.map(work, sites) for seconds in of_site]
    if number > 0:
        ((wall, processor),) = clock
        found["latency"] += latency
        found["span"] += time.perf_counter() - wall
        found["processor"] += time.process_time() - processor


def _tensor_bytes() -> int:
    """Return the bytes of all tensors' memory in this process, counting shared memory once."""
    gc.collect()
    storages: dict[int, int] = {}
    for thing in gc.get_objects():
        # Not isinstance, which would wake up torch's lazy modules.
        if issubclass(type(thing), Tensor):
            for tensor in (thing, thing.grad) if thing.is_leaf and thing.grad is not None else (thing,):
                storage = tensor.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _needed(coordinator: Coordinator) -> float:
    """Return the bytes of parameters, gradients and optimiser state of a copy, the mean over all."""
    assert isinstance(coordinator.method, SplitServerMethod)
    total = 0
    copies = coordinator.method.copies
    for copy in copies.values():
        parameters = [parameter for parameter in copy.segments.parameters() if parameter.requires_grad]
        total += sum(2 * parameter.nbytes for parameter in parameters)
        total += sum(
            value.nbytes
            for state in copy.optimiser.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
    return total / len(copies)


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))), flush=True)
