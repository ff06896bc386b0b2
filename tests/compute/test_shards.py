import threading

import pytest
import torch

from sktransfer.compute import Shards


def _twice(part):
    return 2 * part


@pytest.mark.parametrize("n_workers", [1, 2, 4])
@pytest.mark.parametrize("n_parts", [1, 2, 7])
def test_results_come_in_order(n_workers, n_parts):
    with Shards([_twice] * n_workers) as shards:
        for _ in range(3):
            assert shards.map([*range(n_parts)]) == [2 * k for k in range(n_parts)]


def test_a_worker_is_used_by_one_thread_at_a_time():
    class Worker:
        busy = False

        def __call__(self, part):
            assert not self.busy
            self.busy = True
            torch.ones(200, 200) @ torch.ones(200, 200)
            self.busy = False

    with Shards([Worker(), Worker()]) as shards:
        shards.map([*range(40)])


@pytest.mark.parametrize("n_workers", [1, 3])
def test_each_part_is_computed_by_one_thread(n_workers):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Shards([lambda part: torch.get_num_threads()] * n_workers) as shards:
            assert shards.map([0, 1, 2]) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_first_error_is_raised_and_threads_end(n_workers):
    def fail(part):
        if part:
            raise ValueError(f"part {part}")
        return part

    before = threading.active_count()
    with (
        pytest.raises(ValueError, match="part 1"),
        Shards([fail] * n_workers) as shards,
    ):
        shards.map([0, 1, 2])
    assert threading.active_count() == before
