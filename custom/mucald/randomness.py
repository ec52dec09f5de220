"""Every random draw of the project comes from here, named by what it is for.

A generator is keyed by (seed, site, round, step, purpose) and used once. Hence a draw depends neither on
which process makes it nor on what was drawn before, and sites give the same numbers whether they run in turn
or at once, on FLARE or in one process.

Philox is counter based and takes a key of 128 bits, where ``torch.manual_seed`` on the CPU keeps only 32: a
server could try all of those to find the noise that hides a latent.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

Key = tuple[int | str, ...]
"""Names random draws; never used for others."""


def _digest(key: Key) -> bytes:
    # repr() separates the parts, so that ("a", "bc") and ("ab", "c") differ.
    return hashlib.sha256(repr(key).encode()).digest()


def generator(*key: int | str) -> np.random.Generator:
    """Return the random generator named by ``key``; equal keys give equal draws on every machine."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(key)[:16], "little")))


def normal(shape: tuple[int, ...], *key: int | str, device: torch.device | None = None) -> Tensor:
    """Draw a float32 tensor of standard normal numbers.

    It is drawn on the CPU and then moved, so that all devices get the same numbers.
    """
    return torch.from_numpy(generator(*key).standard_normal(shape, dtype=np.float32)).to(device)


def uniform(shape: tuple[int, ...], *key: int | str) -> Tensor:
    """Draw a float32 tensor of numbers that are uniform in [0, 1), on the CPU."""
    return torch.from_numpy(generator(*key).random(shape, dtype=np.float32))


def signs(shape: tuple[int, ...], *key: int | str, device: torch.device | None = None) -> Tensor:
    """Draw a float32 tensor of Rademacher numbers, -1 or +1 with equal odds."""
    draws = generator(*key).integers(0, 2, size=shape, dtype=np.int8)
    return torch.from_numpy(draws).to(torch.float32).mul_(2).sub_(1).to(device)


# torch's global generator is one for all threads, and sites of one process are built in several.
_initialising = threading.RLock()


@contextmanager
def seeded_initialisation(*key: int | str) -> Iterator[None]:
    """Seed torch's global generator, which PyTorch's layers draw their first weights from, and restore it.

    One thread at a time; nothing else in this project draws from the global generator.
    """
    with _initialising, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(_digest(key)[:8], "little"))
        yield
