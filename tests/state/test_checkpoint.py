import errno

import pytest
import torch

from mucald.errors import CheckpointError
from mucald.state import checkpoint
from mucald.state.checkpoint import CheckpointStore, load_checkpoint, save_checkpoint

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, TENSORS, {"round": 3, "names": ["é"]})
    tensors, state = load_checkpoint(path)
    assert state == {"round": 3, "names": ["é"]}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_a_damaged_truncated_or_unfinished_checkpoint_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, TENSORS, {})
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    path.write_bytes(data)
    path.with_name("x.safetensors.sha256").unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="missing"):
        load_checkpoint(tmp_path / "y.safetensors")


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, TENSORS, {"round": 1})

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mucald.state.files.os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_checkpoint(path, TENSORS, {"round": 2})
    assert load_checkpoint(path)[1] == {"round": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.safetensors", "x.safetensors.sha256"]


def test_the_store_lists_complete_rounds_and_prunes_the_rest(tmp_path):
    store = CheckpointStore(tmp_path)
    for completed in (0, 1, 2, 10):
        save_checkpoint(store.path(completed, "server"), TENSORS, {})
    store.path(11, "server").parent.mkdir()
    store.path(11, "server").write_bytes(b"half")
    assert store.rounds("server") == [0, 1, 2, 10]
    store.prune([2, 10])
    assert store.rounds("server") == [2, 10]


def test_an_optimiser_goes_on_as_if_it_had_never_stopped():
    def network():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return torch.nn.Linear(3, 1)

    def step(module, optimiser, x):
        optimiser.zero_grad()
        module(x).square().sum().backward()
        optimiser.step()

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    whole, resumed = network(), network()
    optimisers = [torch.optim.AdamW(m.parameters(), lr=0.1) for m in (whole, resumed)]
    for _ in range(2):
        step(whole, optimisers[0], x)
    step(resumed, optimisers[1], x)
    tensors = checkpoint.optimiser_tensors(optimisers[1])
    fresh = torch.optim.AdamW(resumed.parameters(), lr=0.1)
    checkpoint.load_optimiser_tensors(fresh, tensors)
    step(resumed, fresh, x)
    assert torch.equal(whole.weight, resumed.weight)
