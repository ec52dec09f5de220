"""Who has answered the open task, who has gone silent, and who is away since an earlier one."""

import threading
import time
from collections.abc import Callable, Iterable


class Attendance:
    """Keeps the time of every site's last step, and calls a site away that has been silent for too long.

    A site steps when it takes its task or sends a message that is accepted. Until it has taken its task, the
    steps of the others count for it too: where sites take turns, the last of them may wait for all others.
    A site that is away is not waited for again until it shows itself.

    Args:
        timeout_s: after how many seconds of silence a site is away; 0 waits for ever.
        clock: returns the present time in seconds.

    Attributes:
        grace_s: how long a site that is away is waited for once nobody else is, ``timeout_s`` at most. Where
            sites take turns nobody else ever is, and it needs the time to take its task.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic):
        self._timeout, self._clock = timeout_s, clock
        self.grace_s = 0.0
        # Sites are served by threads of their own.
        self._lock = threading.Lock()
        self._awaited: list[str] = []
        self._away: set[str] = set()
        self._steps: dict[str, float] = {}
        self._latest = clock()

    @property
    def awaited(self) -> list[str]:
        """Sites that have neither answered the open task nor been left out of it."""
        with self._lock:
            return list(self._awaited)

    def begin(self, sites: Iterable[str]) -> None:
        """Begin a task, which ``sites`` are to answer."""
        with self._lock:
            self._awaited, self._steps, self._latest = list(sites), {}, self._clock()

    def step(self, site: str) -> None:
        """Note that a site has taken its task or sent a message that was accepted."""
        with self._lock:
            self._note(site)

    def show(self, site: str) -> None:
        """Note that a site is there, though what it sent was refused: that ends its absence, no more."""
        with self._lock:
            if site in self._away:
                self._note(site)

    def _note(self, site: str) -> None:
        self._away.discard(site)
        self._steps[site] = self._latest = self._clock()

    def answer(self, site: str) -> bool:
        """Take a site's answer; return False, and change nothing, if it has answered or been left out."""
        with self._lock:
            if site not in self._awaited:
                return False
            self._awaited.remove(site)
            return True

    def overdue(self) -> dict[str, str]:
        """Return the sites that are not to be waited for any longer, each with the reason.

        Those are the sites that have been silent for too long; and once nobody else is waited for, those
        that were away before the task began and have not shown themselves.
        """
        if not self._timeout:
            return {}
        with self._lock:
            now, before = self._clock(), self._away & set(self._awaited)
            present = [site for site in self._awaited if site not in before]
            silence = {site: now - self._steps.get(site, self._latest) for site in present}
            reasons = {
                site: f"it has not stepped for {seconds:.0f} s (runtime.stall_timeout_s)"
                for site, seconds in silence.items()
                if seconds >= self._timeout
            }
            self._away |= reasons.keys()
            if len(reasons) == len(present) and now - self._latest >= min(self.grace_s, self._timeout):
                reasons |= dict.fromkeys(before, "it has not stepped since an earlier round")
            return {site: reasons[site] for site in self._awaited if site in reasons}
