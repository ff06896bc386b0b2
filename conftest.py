"""Limits that hold for every test and doctest: threads, network, caches."""

import os
import shutil
import socket
import tempfile
from contextlib import ExitStack
from ipaddress import ip_address
from unittest import mock

import pytest

# Set before anything is imported, as by the conftest.py of a folder that is named on
# the command line: huggingface_hub, torch and matplotlib read them at import.
CACHES = tempfile.mkdtemp(prefix="sktransfer-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = os.path.join(CACHES, "huggingface")
os.environ["TORCH_HOME"] = os.path.join(CACHES, "torch")
os.environ["MPLBACKEND"] = "agg"
# scikit-learn's check of array API input runs with this alone.
os.environ["SCIPY_ARRAY_API"] = "1"
# The networks of the tests are tiny: threads would wait for each other, and spin while
# they do wherever the cores are shared.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"


# Files that take longest. Processes take whole files in this order, so that none of
# them is left with a long one at the end.
LONGEST = [
    "tests/test_contract.py",
    "tests/test_system_failures.py",
    "tests/test_concurrency.py",
    "tests/training/test_train.py",
]


def pytest_collection_modifyitems(items):
    """Put the longest files first."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.split("::")[0], len(rank)))


@pytest.fixture(autouse=True)
def _doctest_leaves_nothing(request):
    """Restore settings and registries after a doctest; importing skada sets one."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    from sklearn import config_context

    import sktransfer.adaptation  # it registers its methods
    from sktransfer import advice, backbones, inputs, training

    registries = [
        training.ADAPTATION_METHODS,
        advice._registry.SCORES,
        backbones._registry.PROVIDERS,
        inputs.MODALITIES,
        training.HEADS,
        *training.LOSSES.values(),
    ]
    with config_context(), sktransfer.config_context(), ExitStack() as stack:
        for registry in registries:
            stack.enter_context(mock.patch.dict(registry))
        yield


def pytest_unconfigure(config):
    """Remove the caches of this run."""
    shutil.rmtree(CACHES, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _no_network():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _local_only(name))
        patch.setattr(socket, "getaddrinfo", _local_getaddrinfo)
        yield


def _local_only(name):
    original = getattr(socket.socket, name)

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_unless_loopback(address[0])
        return original(self, address)

    return connect


_getaddrinfo = socket.getaddrinfo


def _local_getaddrinfo(host, *args, **kwargs):
    _refuse_unless_loopback(host)
    return _getaddrinfo(host, *args, **kwargs)


def _refuse_unless_loopback(host):
    if not _is_loopback(host):
        raise RuntimeError(
            f"Tests must not use the network: refused to reach {host!r}. Serve the "
            "file from 127.0.0.1 or replace the function that downloads."
        )


def _is_loopback(host):
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
