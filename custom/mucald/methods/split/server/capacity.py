"""How much memory the server needs for the sites' copies, told before the first of them is built."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mucald.aggregation import make_rule
from mucald.errors import ConfigError
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.segments import ServerSegments
from mucald.tasks import get_task

log = logging.getLogger(__name__)

MEGABYTE = 1e6
_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class CopySize:
    """Bytes of one site's copy.

    Args:
        weights: parameters and buffers.
        training: weights, gradients and both moments of AdamW.
        choosing: what is held instead of gradients while the site's validation chooses a state.
        common: the state that all sites may move towards, once for all copies.
    """

    weights: int
    training: int
    choosing: int
    common: int

    @property
    def total(self) -> int:
        """Bytes in all but what is common, without the activations of a step."""
        return max(self.training, self.choosing)


def copy_size(config: SplitConfig, algorithm: Algorithm, task: str) -> CopySize:
    """Return what a copy for a site of ``task`` takes at most, without what all sites train in turn.

    Raises:
        ConfigError: the aggregation rule or its arguments are wrong.
    """
    segments = _segments(config, algorithm, task)
    parameters = {
        n: parameter.nbytes for n, parameter in segments.named_parameters() if parameter.requires_grad
    }
    sizes = {n: tensor.nbytes for n, tensor in segments.state_dict().items()}
    own = {n for n in sizes if not (algorithm.in_turn and segments.is_shared(n))}
    trained = sum(size for n, size in parameters.items() if n in own)
    weights = sum(sizes[n] for n in own)
    shared = sum(sizes[n] for n in own if segments.is_shared(n))
    rule = make_rule(config.aggregation.rule, config.aggregation.args)
    choosing = weights + 2 * trained + rule.held_to_choose * shared
    return CopySize(weights, weights + 3 * trained, choosing, shared if rule.has_choice else 0)


def shared_size(config: SplitConfig, algorithm: Algorithm, sites: Sequence[str]) -> int:
    """Return how many bytes networks take at most that the sites train in turn; 0 where each has its own.

    They are weights, gradients and both moments; weights and moments that the open turn began with; and the
    weights that the open round began with and, of the rounds before, those that are the best of some site.
    """
    if not algorithm.in_turn:
        return 0
    segments = _segments(config, algorithm, config.site(sites[0]).task)
    sizes = {n: tensor.nbytes for n, tensor in segments.state_dict().items() if segments.is_shared(n)}
    weights = sum(sizes.values())
    trained = sum(p.nbytes for n, p in segments.named_parameters() if segments.is_shared(n))
    starts = 1 + min(len(sites), config.training.rounds)
    return 2 * weights + 5 * trained + starts * weights


def _segments(config: SplitConfig, algorithm: Algorithm, task: str) -> ServerSegments:
    # Parameters that are counted need no memory and no first values.
    with torch.device("meta"):
        return ServerSegments(config, algorithm, get_task(task))


def available_memory(device: torch.device) -> int | None:
    """Return how many bytes a process may still take on ``device``; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [limit for limit in (_of_machine(), _of_group()) if limit is not None]
    return min(limits, default=None)


def _of_machine() -> int | None:
    if _MEMORY.exists():
        lines = dict(line.split(":", 1) for line in _MEMORY.read_text(encoding="ascii").splitlines())
        if "MemAvailable" in lines:
            return int(lines["MemAvailable"].split()[0]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _of_group() -> int | None:
    """Return what a container's limit leaves, where there is one."""
    try:
        limit, used = ((_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else max(int(limit) - int(used), 0)


def check_memory(
    config: SplitConfig, algorithm: Algorithm, sites: Sequence[str], device: torch.device
) -> None:
    """Log what the copies of ``sites`` take, and refuse a job that the machine cannot hold.

    Raises:
        ConfigError: with both numbers and the number of sites.
    """
    tasks = Counter(config.site(site).task for site in sites)
    sizes = {task: copy_size(config, algorithm, task) for task in tasks}
    common = max(size.common for size in sizes.values())
    needed = common + sum(count * sizes[task].total for task, count in tasks.items())
    needed += shared_size(config, algorithm, sites)
    available = available_memory(device)
    of_all = f"{needed / MEGABYTE:,.0f} MB for the networks of {len(sites)} sites"
    if available is not None and needed > available:
        raise ConfigError(
            f"the server needs {of_all}, but {available / MEGABYTE:,.0f} MB are free; take fewer sites, a "
            "smaller 'network.features', an aggregation rule that offers fewer states, or a larger machine"
        )
    largest = max(sizes.values(), key=lambda size: size.total)
    log.info(
        "server memory: %s beside activations; at most %.1f MB each, %.1f MB to train, %.1f MB for all",
        of_all,
        largest.total / MEGABYTE,
        largest.training / MEGABYTE,
        common / MEGABYTE,
    )
