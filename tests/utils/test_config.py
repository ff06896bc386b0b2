import threading

import pytest

import sktransfer


def test_config_context_restores_what_was():
    before = sktransfer.get_config()
    with sktransfer.config_context(memory_budget=1, activation_dtype="float16"):
        assert sktransfer.get_config()["memory_budget"] == 1
        assert sktransfer.get_config()["disk_budget"] == before["disk_budget"]
    assert sktransfer.get_config() == before


def test_config_context_restores_after_an_error():
    before = sktransfer.get_config()
    with pytest.raises(KeyError), sktransfer.config_context(memory_budget=1):
        raise KeyError
    assert sktransfer.get_config() == before


def test_a_thread_starts_with_the_settings_of_the_main_thread():
    seen = []
    with sktransfer.config_context(memory_budget=7):
        thread = threading.Thread(target=lambda: seen.append(sktransfer.get_config()))
        thread.start()
        thread.join()
    assert seen[0]["memory_budget"] == 7


def test_a_thread_changes_its_own_settings_alone():
    before = sktransfer.get_config()
    thread = threading.Thread(target=lambda: sktransfer.set_config(memory_budget=3))
    thread.start()
    thread.join()
    assert sktransfer.get_config() == before


@pytest.mark.parametrize("value", [-1, 1.5, "1GB"])
def test_a_budget_is_a_number_of_bytes(value):
    with pytest.raises(ValueError, match="`disk_budget` must be a number of bytes"):
        sktransfer.set_config(disk_budget=value)


def test_a_dtype_is_one_of_three():
    with pytest.raises(ValueError, match="`activation_dtype` must be one of .*int8"):
        sktransfer.set_config(activation_dtype="int8")


def test_slim_pickles_is_a_bool():
    assert not sktransfer.get_config()["slim_pickles"]
    with sktransfer.config_context(slim_pickles=True):
        assert sktransfer.get_config()["slim_pickles"]
        with sktransfer.config_context(slim_pickles=False):
            assert not sktransfer.get_config()["slim_pickles"]
    with pytest.raises(ValueError, match="`slim_pickles` must be a bool. Got 'yes'."):
        sktransfer.set_config(slim_pickles="yes")
