"""The ends of a site whose group exchanges them sealed: the server relays, and every site averages."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from mucald.aggregation import Contribution
from mucald.aggregation.base import weighted_mean
from mucald.errors import WireError
from mucald.federation.task import SiteTask
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.ends import first_ends
from mucald.methods.split.wire.sealed import SEALED, packed, unpacked
from mucald.privacy.sealing import SealError, opened, run_key, seal
from mucald.wire.tensors import check_tensors

_NUMBERS = "numbers"

log = logging.getLogger(__name__)


class SealedEnds:
    """Methods and arguments are those of :class:`.SharedEnds`.

    Args:
        key: of the group.
    """

    def __init__(
        self,
        config: SplitConfig,
        algorithm: Algorithm,
        site: str,
        ends: Mapping[str, nn.Module],
        key: bytes,
    ):
        assert algorithm.within is not None
        self._config, self._algorithm, self._rule = config, algorithm, algorithm.within
        self._site, self._key = site, key
        self._members = algorithm.group(config, site)
        self._tensors = algorithm.of_group(ends, config.aggregation.statistics)

    @torch.no_grad()
    def take(self, task: SiteTask, received: Mapping[str, Tensor]) -> None:
        """Open what the group's sites have sealed, and put their mean in place.

        Before any of them has, all begin with the ends that follow from the group's key. A site whose ends do
        not open is left out of the mean, as if it had not come: its key is not the others' fault.

        Raises:
            WireError: the site's own or all others' do not open, they are of another round than the last, or
                are not what the site shares.
        """
        state = self._mean(task, received) if received else {}
        if not received and task.is_new(self._site):
            secret = run_key(self._key, "first weights").hex()
            state = first_ends(self._config, self._algorithm, self._site, secret)
        for name, tensor in state.items():
            self._tensors[name].copy_(tensor)

    def give(self, task: SiteTask, report: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the site's ends and what weighs them, sealed."""
        loss = report.get("validation", {}).get("loss", math.nan)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tensors.items()}
        tensors[_NUMBERS] = torch.tensor([report["n_train"], loss], dtype=torch.float64)
        content = safetensors.torch.save(tensors)
        key = run_key(self._key, task.run_id)
        return {SEALED: packed(task.round, seal(key, content, _context(self._site, task.round)))}

    def _mean(self, task: SiteTask, received: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if strangers := sorted(received.keys() - set(self._members)):
            raise WireError(f"the server sent ends of '{strangers[0]}', which is not in this site's group")
        pieces = {site: unpacked(tensor) for site, tensor in sorted(received.items())}
        rounds = {number for number, _ in pieces.values()}
        # Whoever took part in the last round knows that there are its own ends of it, at least.
        took_part = task.counted(self._site) == task.round and not task.is_new(self._site)
        if len(rounds) > 1 or (took_part and (rounds != {task.round - 1} or self._site not in pieces)):
            raise WireError("the server sent ends of another round than the last one")
        found = self._opened(run_key(self._key, task.run_id), pieces)
        return weighted_mean([one.state for one in found], self._rule.weights(found))

    def _opened(self, key: bytes, pieces: Mapping[str, tuple[int, bytes]]) -> list[Contribution]:
        found, closed = [], {}
        for site, (number, data) in pieces.items():
            try:
                found.append(self._read(site, opened(key, data, _context(site, number))))
            except SealError as error:
                closed[site] = error
        # Who opens nothing but its own is the one with another key, or cannot know that it is not.
        if self._site in closed or (closed and all(one.site == self._site for one in found)):
            raise closed[min(closed)]
        for site, why in closed.items():
            log.warning("site '%s' goes on without the ends of '%s': %s", self._site, site, why)
        return found

    def _read(self, site: str, content: bytes) -> Contribution:
        state = safetensors.torch.load(content)
        n_train, loss = state.pop(_NUMBERS).tolist()
        check_tensors(state, self._tensors, f"site '{site}'")
        if state.keys() != self._tensors.keys():
            raise WireError(f"site '{site}' shares other ends than this one")
        state = {name: state[name].to(tensor.device) for name, tensor in self._tensors.items()}
        return Contribution(site, state, int(n_train), None if math.isnan(loss) else loss)


def _context(site: str, round_number: int) -> str:
    return f"{site}, round {round_number + 1}"
