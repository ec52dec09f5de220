"""The server's half: it holds what is shared, combines what the sites make of it, and counts votes for λ."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from mucald.errors import WireError
from mucald.federation.method import Contributor, Notes, Saved, ServerMethod, State
from mucald.federation.report import ReportField
from mucald.federation.task import SiteTask
from mucald.methods.generative.algorithms import make_algorithm
from mucald.methods.generative.build import build_learner
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.downstream import MIXTURES, best_mixture, mean_votes
from mucald.methods.generative.origins import BITS, unlike
from mucald.state.averages import total_norm
from mucald.wire.tensors import check_tensors

MIXTURE = "mixture"
"""Name of the number λ among the tensors that a test brings."""

_ORIGIN = "origin"


class GenerativeServer(ServerMethod):
    """Sends each site the shared weights, and takes their changes.

    In the last round sites also vote on λ, with what that round began with. The first round settles how
    embeddings must be made: as at the largest group of sites. Later rounds take no others.

    Args:
        config: the job.
        sites: the sites that take part.
    """

    report_fields: ClassVar[Mapping[str, ReportField]] = {
        "votes": ReportField("train", needed=False),
        "classifiers": ReportField("test"),
        "embeddings": ReportField("both", needed=False),
    }

    def __init__(self, config: GenerativeConfig, sites: Sequence[str]):
        self._config, self._algorithm = config, make_algorithm(config.algorithm)
        self.loss = self._algorithm.loss
        learner = build_learner(config, next(iter(config.sites.values())).task)
        shared = {} if learner is None else learner.shared()
        self._weights = {name: tensor.detach().clone() for name, tensor in shared.items()}
        self._sites, self._trains = list(sites), True
        self._changes: dict[str, State] = {}
        self._votes: dict[str, Mapping[str, float]] = {}
        self._mixture = 0.5
        self._origins: dict[str, int | None] = {}
        self._agreed: int | None = None

    def begin_round(self, round_number: int) -> None:
        """Forget what came for the task before."""
        self._changes, self._votes, self._origins = {}, {}, {}
        self._trains = round_number < self._config.training.rounds

    def payload(self, site: str, task: SiteTask) -> State:  # noqa: ARG002 - all sites get the same
        """Return the shared weights, and for a test the λ of all sites."""
        if task.kind == "train" or not self._algorithm.mixes:
            return dict(self._weights)
        return self._weights | {MIXTURE: torch.tensor([self._mixture], dtype=torch.float64)}

    def receive(self, site: str, reports: Mapping[str, dict[str, Any]], payload: State) -> Notes:
        """Take a site's change and votes, which a test does not bring.

        Raises:
            WireError: they are not those of this job, or of embeddings that were made differently.
        """
        if self._weights:
            for name, report in reports.items():
                self._take_origin(name, report.get("embeddings"))
        if not self._trains:
            return super().receive(site, reports, payload)
        check_tensors(payload, self._weights, f"site '{site}'")
        for name, report in reports.items():
            if (votes := report.get("votes")) is not None:
                wanted = {f"{mixture:.1f}" for mixture in MIXTURES}
                if not isinstance(votes, dict) or set(votes) != wanted:
                    raise WireError(f"'votes' in the report of site '{name}' are not one for each mixture")
                self._votes[name] = votes
        self._changes[site] = payload
        return Notes()

    def _take_origin(self, site: str, told: Any) -> None:
        if told is not None and not (type(told) is int and 0 <= told < 2**BITS):
            raise WireError(f"'embeddings' in the report of site '{site}' is no hash of {BITS} bits")
        if self._agreed is not None and (reasons := unlike({site: told}, self._agreed)):
            raise WireError(reasons[site])
        self._origins[site] = told

    def unfit(self, sites: Sequence[str]) -> dict[str, str]:
        """Return the sites whose embeddings were made differently, see :func:`.unlike`."""
        return unlike({site: self._origins.get(site) for site in sites}, self._agreed)

    def rewind(self, site: str, saved: Saved | None) -> None:  # noqa: ARG002 - nothing is kept per site
        """Forget what came of a site."""
        self._changes.pop(site, None)
        self._votes.pop(site, None)

    def end_round(self, round_number: int, present: Mapping[str, Contributor]) -> dict[str, Any]:  # noqa: ARG002
        """Combine the changes; return how far the shared weights have moved, and λ once it is chosen."""
        numbers: dict[str, Any] = {}
        if self._weights:
            changes = [self._changes[site] for site in present]
            moved = self._algorithm.combine(self._weights, changes, [c.n_train for c in present.values()])
            norm = total_norm(moved[name] - tensor for name, tensor in self._weights.items())
            numbers["update_norm"], self._weights = {"shared": norm}, moved
            self._agreed = self._origins.get(next(iter(present)))
        votes = [self._votes[site] for site in present if site in self._votes]
        if votes:
            self._mixture = best_mixture(mean_votes(votes))
            numbers[MIXTURE] = {"lambda": self._mixture}
        self._changes, self._votes = {}, {}
        return numbers

    def state(self) -> State:
        """Return the shared weights, λ, and how embeddings are made once that is known."""
        agreed = {} if self._agreed is None else {_ORIGIN: torch.tensor([self._agreed])}
        return self._weights | agreed | {MIXTURE: torch.tensor([self._mixture], dtype=torch.float64)}

    def load_state(self, tensors: State, site_parts: Mapping[str, Callable[[], Saved]]) -> None:  # noqa: ARG002
        """Restore what :meth:`state` returned."""
        self._mixture = float(tensors[MIXTURE])
        self._agreed = int(tensors[_ORIGIN]) if _ORIGIN in tensors else None
        # In the order of the networks, so that sums are those of a run that was never stopped.
        self._weights = {name: tensors[name] for name in self._weights}

    def models(self) -> Iterator[tuple[str, str, State]]:
        """Yield the shared weights, which belong to no site's task."""
        if self._weights:
            yield "shared", "", self._weights
