"""Keep pytest to the pages that people write, and settings to each."""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
from sklearn import config_context

collect_ignore = ["conf.py", "_build", "auto_examples", "api/generated"]

REGISTRIES = [
    "sktransfer.adaptation._methods._METHODS",
    "sktransfer.advice._registry._scores",
    "sktransfer.backbones._registry.registered",
    "sktransfer.inputs.MODALITIES",
    "sktransfer.training.CLASSIFICATION_LOSSES",
    "sktransfer.training.HEADS",
    "sktransfer.training.LOSSES",
]


@pytest.fixture(autouse=True)
def _own_settings():
    """Restore settings and registries after a page; importing skada sets one."""
    with config_context(), ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(patch.dict(registry))
        yield
