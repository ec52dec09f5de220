import re
import subprocess
import sys

import pytest
import torch
from tiny_job import REPOSITORY, tiny_content, write_job

from mucald import optimisers

PACKAGE = REPOSITORY / "custom/mucald"


def trained(optimiser_class: type[torch.optim.Optimizer], fused: bool | None) -> dict[str, torch.Tensor]:
    """Return a small network's weights after steps on both sides of saving and loading its optimiser."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network, data = torch.nn.Linear(5, 4), torch.randn(6, 5)
    groups = [{"params": [network.weight], "lr": 0.1}, {"params": [network.bias], "lr": 0.01}]
    optimiser = optimiser_class(groups, weight_decay=0.05, fused=fused)
    for _ in range(2):
        state = optimiser.state_dict()
        optimiser = optimiser_class(groups, weight_decay=0.05, fused=fused)
        optimiser.load_state_dict(state)
        for _ in range(3):
            optimiser.zero_grad()
            network(data).square().sum().backward()
            optimiser.step()
    return network.state_dict()


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_they_do_what_torch_s_do(name, fused):
    found, expected = (trained(getattr(module, name), fused) for module in (optimisers, torch.optim))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not torch.equal(expected["weight"], torch.nn.Linear(5, 4).weight)


def test_sgd_does_what_torch_s_does():
    found, expected = (trained(module.SGD, None) for module in (optimisers, torch.optim))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_a_step_is_no_part_of_a_graph(name):
    weight = torch.ones(2, requires_grad=True)
    optimiser = getattr(optimisers, name)([weight], foreach=False)
    weight.sum().backward()
    optimiser.step()
    assert weight.is_leaf
    assert torch.is_grad_enabled()


def test_rates_are_scaled_from_what_the_optimiser_was_made_with_also_after_it_is_loaded():
    weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
    groups = [{"params": [weight], "lr": rate} for weight, rate in zip(weights, (0.5, 0.25), strict=True)]
    optimiser = optimisers.AdamW(groups)
    for factor in (0.5, 0.5, 1.0):
        optimisers.scale_rates(optimiser, factor)
        assert [group["lr"] for group in optimiser.param_groups] == [0.5 * factor, 0.25 * factor]
        optimiser.load_state_dict(optimiser.state_dict())


def test_no_process_of_a_run_loads_torch_s_compiler(tmp_path):
    job = write_job(tmp_path / "job", tiny_content())
    program = (
        "import sys; from mucald.__main__ import main; import mucald.flare.executor, mucald.flare.controller;"
        f"main([{str(job)!r}, '-w', {str(tmp_path / 'workspace')!r}]);"
        "print('loaded', 'torch._dynamo' in sys.modules, 'torch._inductor' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["loaded False False"], done.stderr


def test_all_of_the_package_takes_its_optimisers_from_here():
    for path in PACKAGE.rglob("*.py"):
        if path.name != "optimisers.py":
            assert not re.search(r"optim\.\w+\(", path.read_text(encoding="utf-8")), path
