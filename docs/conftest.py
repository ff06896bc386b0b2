"""Keep pytest to the pages that people write, and settings to each."""

import pytest
from sklearn import config_context

collect_ignore = ["conf.py", "_build", "auto_examples", "api/generated"]


@pytest.fixture(autouse=True)
def _own_settings():
    """Put settings back after a page; importing skada switches one on."""
    with config_context():
        yield
