"""The neural structural causal model, and the encoder without causes that it is compared with."""

import torch
from torch import Tensor, nn

from mucald.methods.split.causal.graphs import CausalGraph


def _mechanism(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )


class NeuralSCM(nn.Module):
    """Computes each node from its exogenous variable and its direct causes: z_i = MLP_i([u_i, z_parents]).

    Pearl, "Causality" (2009), §1.4, with neural mechanisms as in MuCALD-SplitFed (arXiv 2605.04108).

    Args:
        graph: the task's causal graph; its nodes are in a topological order.
        hidden: width of each mechanism.
    """

    def __init__(self, graph: CausalGraph, hidden: int = 128):
        super().__init__()
        self.n_nodes = len(graph.nodes)
        self.parents = tuple(graph.parents(node) for node in graph.nodes)
        self.mechanisms = nn.ModuleList(_mechanism(1 + len(parents), hidden) for parents in self.parents)

    def forward(self, u: Tensor) -> Tensor:
        """Return the nodes' values z (B, n_nodes) for exogenous variables u (B, n_nodes)."""
        exogenous = u.split(1, dim=1)
        z: list[Tensor] = []
        for own, parents, mechanism in zip(exogenous, self.parents, self.mechanisms, strict=True):
            z.append(mechanism(torch.cat([own, *(z[parent] for parent in parents)], dim=1)))
        return torch.cat(z, dim=1)


class PlainEncoder(NeuralSCM):
    """The ablation "no causal structure": the same networks, none of which sees another node.

    Args:
        n_nodes: number of nodes.
        hidden: width of each node's network.
    """

    def __init__(self, n_nodes: int, hidden: int = 128):
        super().__init__(CausalGraph(nodes=tuple(f"z{i}" for i in range(n_nodes)), edges=()), hidden)
