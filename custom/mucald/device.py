"""Where a process computes: each one, server or site, looks for itself."""

import os

import torch

from mucald.config.common import RuntimeConfig
from mucald.errors import ConfigError


def choose_device(runtime: RuntimeConfig) -> torch.device:
    """Return the device that ``runtime.device`` means in this process.

    Raises:
        ConfigError: a GPU is asked for, and there is none.
    """
    available = torch.cuda.is_available()
    if runtime.device == "cuda" and not available:
        raise ConfigError(
            'runtime.device is "cuda", but this process sees no GPU; install torch with CUDA and a driver or '
            'set it to "auto" or "cpu"'
        )
    return torch.device("cuda" if available and runtime.device != "cpu" else "cpu")


def settle_threads() -> None:
    """Let the calling thread compute with as many threads as its process has been told.

    OpenMP counts for each thread: a new one that begins with a convolution takes all cores for it, and
    adds up a gradient in another order than one that had asked. Every thread that computes calls this first.
    """
    torch.get_num_threads()  # torch brings the calling thread into line when it is asked.


def steps_at_once(runtime: RuntimeConfig) -> int:
    """Return how many sites' steps a server works on at a time, while those of the others wait.

    With 50 sites at work on two cores all get in each other's way, and a step takes more of the processors.
    One more than the cores hold, for when a step waits for the interpreter or the disk.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // runtime.threads) + 1
