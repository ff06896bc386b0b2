import pytest

from sktransfer.training import epochs_to_wait


@pytest.mark.parametrize(
    ("given", "n_steps", "n_epochs"),
    [("auto", 3, 34), ("auto", 20, 5), ("auto", 1000, 5), (2, 3, 2)],
)
def test_at_least_five_epochs_and_a_hundred_steps(given, n_steps, n_epochs):
    assert epochs_to_wait(given, n_steps) == n_epochs
