import threading

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from sktransfer.compute import fixed_threads, one_blas_thread


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


def n_threads():
    blas = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    return {lib["num_threads"] for lib in blas}


def test_blas_has_one_thread():
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            assert n_threads() == {1}
        assert n_threads() == {2}


def test_threads_put_the_setting_back_in_whatever_order_they_end():
    begun, may_end = threading.Event(), threading.Event()

    def first():
        with one_blas_thread():
            begun.set()
            assert may_end.wait(10)

    def second():
        with one_blas_thread():
            may_end.set()  # has no effect where the first is waited for

    with threadpool_limits(2, user_api="blas"):
        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        threads[0].start()
        assert begun.wait(10)
        threads[1].start()
        assert not may_end.wait(0.2)
        may_end.set()
        for thread in threads:
            thread.join()
        assert n_threads() == {2}
