"""What was learnt of a task's causal graph, and beside it the graph that is built in."""

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from mucald import __version__
from mucald.methods.split.causal.graphs import causal_task
from mucald.tasks import Task
from mucald_studies.discovery import graphs
from mucald_studies.discovery.definitions import definition_of, note
from mucald_studies.discovery.graphs import Comparison, Edge, Edges, reverse
from mucald_studies.discovery.nonlinear import NonlinearNotears
from mucald_studies.discovery.notears import LinearNotears, Matrix
from mucald_studies.discovery.rows import Rows, Stability

SCHEMA = 1

Method: TypeAlias = LinearNotears | NonlinearNotears


@dataclass(frozen=True)
class Findings:
    """A learnt graph and all that is needed to judge it.

    Args:
        task: whose proxies the nodes are.
        source: where the rows come from, in words without paths.
        phantoms: whether they were drawn by a program.
        seed: of phantoms, starts and resamples.
        rows: what the graph was learnt from.
        method: how it was learnt.
        threshold: least strength of an edge.
        strengths: acyclic, cause (row) to effect (column), 0 where there is no edge.
        stability: of the edges over resamples; None if there were none.
    """

    task: Task
    source: str
    phantoms: bool
    seed: int
    rows: Rows
    method: Method
    threshold: float
    strengths: Matrix
    stability: Stability | None

    @property
    def built_in(self) -> tuple[Edge, ...]:
        """The edges of the task's own graph."""
        return causal_task(self.task.name).graph.edges

    @property
    def edges(self) -> Edges:
        """The learnt edges."""
        return graphs.edges_of(self.strengths, self.rows.nodes)

    @property
    def ordered(self) -> list[Edge]:
        """The learnt edges, the strongest first."""
        return sorted(self.edges, key=lambda edge: (-abs(self.strength(edge)), edge))

    @property
    def comparison(self) -> Comparison:
        """The learnt against the built-in graph."""
        return graphs.compare(self.edges, self.built_in)

    @property
    def equivalent(self) -> int:
        """Number of graphs with the conditional independences of the learnt one, itself included."""
        return len(graphs.markov_class(self.edges))

    def strength(self, edge: Edge) -> float:
        """Return the strength of an edge."""
        cause, effect = map(self.rows.nodes.index, edge)
        return float(self.strengths[cause, effect])

    def share(self, edge: Edge) -> float | None:
        """Return the share of resamples that have the edge in this direction, None without resamples."""
        return None if self.stability is None else self.stability.share(edge)

    def direction(self, edge: Edge) -> str:
        """Return whether the independences compel the direction of an edge that was learnt either way.

        ``compelled`` or ``reversible``; ``-`` for an edge that was not learnt.
        """
        learnt = {edge, reverse(edge)} & self.edges
        if not learnt:
            return "-"
        return "reversible" if learnt & graphs.reversible(self.edges) else "compelled"

    def status(self, edge: Edge) -> str:
        """Return what became of a built-in edge: found, reversed, missing, or untestable."""
        return "untestable" if set(edge) & set(self.rows.constant) else self.comparison.status(edge)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as JSON."""
        return {
            "schema": SCHEMA,
            "mucald": __version__,
            "task": self.task.name,
            "source": self.source,
            "seed": self.seed,
            "rows": {
                **{"total": self.rows.total, "complete": len(self.rows), "missing": self.rows.missing},
                "constant": list(self.rows.constant),
            },
            "method": {"name": self.method.title, "threshold": self.threshold, **asdict(self.method)},
            "resamples": self.stability.resamples if self.stability else 0,
            "nodes": list(self.rows.nodes),
            "equivalent_graphs": self.equivalent,
            "edges": [
                {
                    **self._described(edge),
                    "strength": self.strength(edge),
                    "direction": self.direction(edge),
                    "built_in": self._in_built_in(edge),
                }
                for edge in self.ordered
            ],
            "built_in": [{**self._described(edge), "status": self.status(edge)} for edge in self.built_in],
            "structural_hamming_distance": self.comparison.distance,
        }

    def _in_built_in(self, edge: Edge) -> str:
        ways = {"same": edge, "reversed": reverse(edge)}
        return next((word for word, way in ways.items() if way in self.built_in), "absent")

    def _described(self, edge: Edge) -> dict[str, Any]:
        definition = definition_of(edge)
        return {
            "cause": edge[0],
            "effect": edge[1],
            "share_of_resamples": self.share(edge),
            "share_reversed": self.share(reverse(edge)),
            "definition": definition and {"note": note(edge), **asdict(definition)},
        }
