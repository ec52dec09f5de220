"""Lines that break, sites that are killed, and a run that starts them again."""

from collections.abc import Callable

from tiny_job import Federation

from mucald.errors import WireError
from mucald.federation.method import Send

Carrier = Callable[[str, Send], Send]


class KilledError(Exception):
    """Ends a site in the middle of a task, as a signal would: nothing is reported."""


def breaking_after(site: str, requests: int, error: Exception, answered: bool = False) -> Carrier:
    """Return a carrier that raises ``error`` for ``site`` once, after so many requests.

    Where ``answered``, the server answers the one that it raises for, and the site does not hear of it.
    """
    left = {site: requests}

    def carrier(name: str, send: Send) -> Send:
        def sending(data: bytes) -> bytes:
            breaks = name in left and left[name] == 0
            if name in left:
                left[name] -= 1
            if breaks:
                del left[name]
                if answered:
                    send(data)
                raise error
            return send(data)

        return sending

    return carrier


def cut_after(site: str, requests: int) -> Carrier:
    """Return a carrier that fails for ``site`` once, after so many requests."""
    return breaking_after(site, requests, WireError("the line is cut"))


def killed_after(site: str, requests: int) -> Carrier:
    """Return a carrier that ends ``site`` once, after so many of its requests have been answered."""
    return breaking_after(site, requests, KilledError(), answered=True)


def run_restarting(federation: Federation) -> int:
    """Run all tasks, starting again what was killed; return how often that was."""
    restarts = 0
    for task in federation.coordinator.tasks():
        for name in federation.open(task):
            try:
                outcome = federation.work(name, task)
            except KilledError:
                restarts += 1
                del federation.sites[name]
                federation.coordinator.restart(name)
                outcome = federation.work(name, task)
            federation.receive(name, outcome)
        federation.coordinator.close(task)
    federation.coordinator.finish()
    return restarts
