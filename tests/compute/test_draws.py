import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sktransfer.compute import (
    RandomStream,
    drawn_since,
    generator_states,
    seeded,
    undisturbed,
)
from sktransfer.utils import describe


def from_global(seed, n=4):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.rand(n)


def test_stream_depends_on_the_seed_and_continues():
    draws, expected = RandomStream(3), from_global(3, 8)
    found = []
    for _ in range(4):
        with draws.active():
            found.append(torch.rand(2))
        torch.rand(5)  # the user's own
    assert torch.equal(torch.cat(found), expected)


def test_global_sequence_continues_after_a_stream():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with RandomStream(3).active():
            torch.rand(7)
        with pytest.raises(RuntimeError, match="shape"), seeded(4):
            torch.randn(3).view(2)
        assert torch.equal(torch.rand(4), from_global(0))


def test_stream_continues_from_saved_states():
    draws = RandomStream(3)
    with draws.active():
        torch.rand(2)
    later = RandomStream(9)
    later.states = dict(draws.states)
    with later.active():
        assert torch.equal(torch.rand(6), from_global(3, 8)[2:])


def test_seeded_inside_a_stream():
    draws = RandomStream(3)
    with draws.active():
        first = torch.rand(2)
        with seeded(5):
            assert torch.equal(torch.rand(4), from_global(5))
        assert torch.equal(torch.cat([first, torch.rand(6)]), from_global(3, 8))


def test_streams_of_threads_are_independent():
    found = {}

    def draw(seed):
        draws, parts = RandomStream(seed), []
        for _ in range(200):
            with draws.active():
                parts += [torch.rand(1), torch.rand(1)]
        found[seed] = torch.cat(parts)

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        expected = torch.Generator().manual_seed(seed)
        numbers = [torch.rand(1, generator=expected) for _ in range(400)]
        assert torch.equal(found[seed], torch.cat(numbers))


class Device:
    """Replacement of `torch.cuda`: a generator that counts its draws."""

    def __init__(self):
        self.state = torch.tensor([7])

    def get_rng_state(self, device):
        assert device == torch.device("cuda", 0)
        return self.state.clone()

    def set_rng_state(self, state, device):
        assert device == torch.device("cuda", 0)
        self.state = state.clone()


def test_generator_of_a_device_is_set_and_restored(monkeypatch):
    from sktransfer.compute import _draws

    cuda = Device()
    monkeypatch.setitem(_draws._DEVICES, "cuda", cuda)
    draws = RandomStream(3)
    draws._device = torch.device("cuda", 0)
    draws.states["cuda"] = torch.tensor([100])
    for k in (1, 2):
        with draws.active():
            assert cuda.state == 99 + k
            cuda.state += 1
        assert cuda.state == 7
    assert draws.states["cuda"] == 102


def test_drawn_since_names_libraries(monkeypatch):
    before = generator_states()
    torch.rand(1), np.random.rand()  # noqa: NPY002
    assert drawn_since(before, 0.0) == (["torch", "numpy.random"], [])
    assert drawn_since(generator_states(), 0.0) == ([], [])
    # Another thread goes on drawing from Python's generator while this one waits.
    before = generator_states()
    torch.rand(1), random.random()
    monkeypatch.setattr(time, "sleep", lambda seconds: random.random())
    assert drawn_since(before, 0.0) == (["torch"], ["random"])


def test_streams_and_descriptions_do_not_wait_for_each_other():
    entered = threading.Barrier(2, timeout=10)

    def describe_in_a_stream():
        with RandomStream(0).active():
            entered.wait()
            return describe(torch.nn.Linear(2, 2)).is_complete

    def draw_undisturbed():
        entered.wait()
        with undisturbed(), RandomStream(0).active():
            return describe(torch.nn.Linear(2, 2)).is_complete

    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(f) for f in (describe_in_a_stream, draw_undisturbed)]
        assert [task.result(20) for task in tasks] == [True, True]
