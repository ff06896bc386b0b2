import threading

import pytest
import torch

from sktransfer.compute import fixed_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_torch_has_one_thread_and_then_as_many_as_before(two_threads):
    with fixed_threads():
        assert torch.get_num_threads() == 1
        with fixed_threads():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_the_number_is_put_back_after_an_error(two_threads):
    with pytest.raises(KeyError), fixed_threads():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_the_setting_is_that_of_the_calling_thread(two_threads):
    begun, may_end = threading.Event(), threading.Event()

    def hold():
        with fixed_threads():
            begun.set()
            may_end.wait(10)

    torch.ones(1).sum()  # this thread has its number
    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(10)
    assert torch.get_num_threads() == 2
    may_end.set()
    thread.join()
    assert torch.get_num_threads() == 2
