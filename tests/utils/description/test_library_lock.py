import threading
from concurrent.futures import ThreadPoolExecutor

from torch import nn

from sktransfer.backbones._tracer import trace_graph
from sktransfer.utils import Watch, describe


class Waiting(nn.Module):
    """Is traced until another thread has begun to look at it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.traced, self.looked = threading.Event(), threading.Event()

    def forward(self, x):
        self.traced.set()
        self.looked.wait(0.5)
        return self.layer(x)


def test_descriptions_and_changes_wait_for_tracing():
    plain, waiting = nn.Linear(3, 3), Waiting()
    before, watch, call = describe(plain), Watch(plain), nn.Module.__call__
    with ThreadPoolExecutor(1) as pool:
        traced = pool.submit(trace_graph, waiting, ())
        assert waiting.traced.wait(10)
        assert nn.Module.__call__ is not call
        assert describe(plain) == before
        assert not watch.has_changed()
        waiting.looked.set()
        assert len(traced.result(10)[0].nodes) == 3


def test_threads_find_the_same_description():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = describe(network)
    with ThreadPoolExecutor(3) as pool:
        tracing = [pool.submit(trace_graph, network, ()) for _ in range(20)]
        found = [pool.submit(describe, network) for _ in range(20)]
        assert {task.result(30) for task in found} == {before}
        assert all(task.result(30) for task in tracing)
