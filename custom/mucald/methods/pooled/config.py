"""The keys of ``mucald.json`` that training on pooled data adds."""

from dataclasses import dataclass

from mucald.config.keys import key
from mucald.tasks import shared_classes
from mucald.training.config import WholeModelConfig


@dataclass(frozen=True, kw_only=True)
class PooledConfig(WholeModelConfig):
    """Training on pooled data: the images of all sites lie in one place."""

    participant: str = key("who trains; holds the data of all `sites`", "pooled")
    by_group: bool = key(
        "a whole network for each group of sites, in place of one front end and middle network for all",
        False,
    )

    def groups(self) -> list[tuple[str, ...]]:
        """Return all sites by group, or nothing where one network serves all.

        Raises:
            ConfigError: sites of one group have not equally many classes.
        """
        if not self.by_group:
            return []
        found = sorted({self.group(site) or (site,) for site in self.sites})
        for members in found:
            shared_classes({site: self.site(site).task for site in members})
        return found
