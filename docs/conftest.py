"""Keep pytest to the pages that people write, and settings to each."""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
from sklearn import config_context

import sktransfer.adaptation  # noqa: F401 (it registers its methods)
from sktransfer.advice._registry import SCORES
from sktransfer.backbones._registry import PROVIDERS
from sktransfer.inputs import MODALITIES
from sktransfer.training import ADAPTATION_METHODS, HEADS, LOSSES

collect_ignore = ["conf.py", "_build", "auto_examples", "api/generated"]

REGISTRIES = [
    ADAPTATION_METHODS,
    SCORES,
    PROVIDERS,
    MODALITIES,
    HEADS,
    *LOSSES.values(),
]


@pytest.fixture(autouse=True)
def _own_settings():
    """Restore settings and registries after a page; importing skada sets one."""
    with config_context(), ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(patch.dict(registry))
        yield
