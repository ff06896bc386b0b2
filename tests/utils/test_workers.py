import os
import sys
from types import SimpleNamespace

import pytest

from sktransfer.utils import get_config
from sktransfer.utils._config import adopt_settings
from sktransfer.utils._workers import own_address, works_for

WORKER, DRIVER = 1, 0


def fake_ray(mode, namespace="space", job="01", is_initialized=True):
    """Return a module with what is asked of Ray."""
    context = SimpleNamespace(
        namespace=namespace,
        get_job_id=lambda: job,
        worker=SimpleNamespace(mode=mode),
    )
    return SimpleNamespace(
        WORKER_MODE=WORKER,
        is_initialized=lambda: is_initialized,
        get_runtime_context=lambda: context,
    )


@pytest.fixture
def address(monkeypatch):
    """Return the address of a driver of Ray."""
    monkeypatch.setitem(sys.modules, "ray", fake_ray(DRIVER))
    return {**own_address(), "pid": os.getpid() + 1}


@pytest.mark.parametrize(
    ("ray", "is_worker"),
    [
        (fake_ray(WORKER), True),
        (fake_ray(DRIVER), False),
        (fake_ray(WORKER, job="02"), False),
        (fake_ray(WORKER, namespace="another"), False),
        (fake_ray(WORKER, is_initialized=False), False),
        (None, False),
    ],
)
def test_workers_of_ray_work_for_the_driver_of_their_job(
    address, ray, is_worker, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert works_for(address) == is_worker


def test_worker_of_ray_ignores_what_was_pickled_without_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    sent, before = {**own_address(), "settings": {"memory_budget": 5}}, get_config()
    assert sent["ray_job"] is None
    monkeypatch.setitem(sys.modules, "ray", fake_ray(WORKER))
    adopt_settings(sent)
    assert get_config() == before
