import threading

from threadpoolctl import threadpool_info, threadpool_limits

from sktransfer.training._blas import one_blas_thread


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
