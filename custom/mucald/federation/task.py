"""What the server asks of a site."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class SiteTask:
    """What the server asks of a site.

    Args:
        kind: ``train`` for one round, or ``test`` after the last.
        round: number of complete rounds before this task, which numbers the round.
        run_id: names the run, hence its checkpoints.
        newcomers: sites of which no round has counted yet; they begin with their first weights.
        behind: of the other sites, those whose last round did not count, and how many rounds were complete
            after the last one that did.
    """

    kind: Literal["train", "test"]
    round: int
    run_id: str
    newcomers: tuple[str, ...] = ()
    behind: Mapping[str, int] = field(default_factory=dict)

    def is_new(self, site: str) -> bool:
        """Return whether a site begins with its first weights."""
        return self.round == 0 or site in self.newcomers

    def counted(self, site: str) -> int:
        """Return how many rounds were complete after a site's last round that counted."""
        return self.behind.get(site, self.round)
