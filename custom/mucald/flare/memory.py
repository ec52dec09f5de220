"""Memory that FLARE's messages of tensors leave behind in a process that lives on."""

import gc

from nvflare.fuel.utils.memory_utils import try_malloc_trim


def settle() -> None:
    """Keep what stays for good, such as modules, out of later searches for garbage: they get faster."""
    gc.collect()
    gc.freeze()


def release() -> None:
    """Free what messages have left, and give it back to the system.

    FLARE's messages end in reference cycles, which hold a round's tensors until Python happens to look for
    cycles; and glibc keeps what its threads have freed.
    """
    gc.collect()
    try_malloc_trim()
