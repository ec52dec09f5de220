"""Where a process computes: each one, server or site, looks for itself."""

import torch

from mucald.errors import ConfigError
from mucald.sections import RuntimeConfig


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
