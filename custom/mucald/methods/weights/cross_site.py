"""Every site's network on the test samples of the other sites of its task."""

from mucald.federation.method import State
from mucald.methods.weights.config import WeightsConfig
from mucald.nets.whole import whole_plan
from mucald.state.checkpoint import with_prefix, without_prefix
from mucald.tasks import get_task
from mucald.wire.tensors import check_tensors

MODEL = "model"
"""Before the names of a site's whole network, which comes with the change of its last round."""


def split_off(payload: State) -> tuple[State, State]:
    """Return what a site shares, and its whole network, or nothing if it did not send it."""
    model = without_prefix(MODEL, payload)
    return {name: tensor for name, tensor in payload.items() if not name.startswith(f"{MODEL}.")}, model


class SiteNetworks:
    """The whole networks of sites that have others of their task, which test them.

    Args:
        config: the job.
    """

    def __init__(self, config: WeightsConfig):
        self._config = config
        self._models: dict[str, State] = {}

    def take(self, site: str, model: State) -> None:
        """Keep a site's network as it is after its last round.

        Raises:
            WireError: it is no network of the site's task.
        """
        plan, task = (
            whole_plan(self._config.network, self._config.clip),
            get_task(self._config.site(site).task),
        )
        network = plan.whole({part: plan.part(part, task) for part in plan.parts}, task)
        check_tensors(model, network.state_dict(), f"site '{site}'")
        self._models[site] = model

    def forget(self, site: str) -> None:
        """Forget a site's network."""
        self._models.pop(site, None)

    def for_site(self, site: str) -> State:
        """Return the networks that a site tests, ``model.<site>.<tensor>``."""
        peers = self._config.peers(site)
        return {
            name: tensor
            for other, model in self._models.items()
            if other in peers
            for name, tensor in with_prefix(f"{MODEL}.{other}", model).items()
        }

    def state(self) -> State:
        """Return everything that a checkpoint holds."""
        return {
            name: tensor
            for site, model in self._models.items()
            for name, tensor in with_prefix(site, model).items()
        }

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        sites = dict.fromkeys(name.partition(".")[0] for name in tensors)
        self._models = {site: without_prefix(site, tensors) for site in sites}
