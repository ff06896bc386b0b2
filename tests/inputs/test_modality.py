"""What stands for samples that cannot be read."""

import pickle

import pytest

from sktransfer.inputs import UnreadableSampleError
from sktransfer.inputs._modality import Unreadable, explain


@pytest.mark.parametrize(
    ("name", "where"), [("a.png", "sample 3 ('a.png')"), (None, "sample 3")]
)
def test_error_says_which_and_why(name, where):
    error = UnreadableSampleError(3, name, "it is empty")
    assert isinstance(error, ValueError)
    assert (error.row, error.name, error.reason) == (3, name, "it is empty")
    assert error.where == where
    assert str(error) == (
        f"Samples must be readable images. Got {where}, which is not; replace it or "
        "leave it out. The reason: it is empty"
    )


def test_error_comes_back_from_other_processes():
    error = UnreadableSampleError(3, "a.png", "it is empty")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and copy.row == 3


def test_unreadable_makes_the_error_of_its_row():
    cause = OSError("no")
    error = Unreadable("it is empty", "a.png", cause).error(7)
    assert (error.row, error.name, error.reason) == (7, "a.png", "it is empty")
    assert error.__cause__ is cause


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("cut off"), "cut off"),
        (ValueError("no shape"), "no shape"),
        (KeyError("page"), "KeyError: 'page'"),
        (ValueError(), "ValueError"),
    ],
)
def test_explain_says_the_type_where_the_text_does_not_do(error, words):
    assert explain(error) == words
