import pytest

from sktransfer.inputs._changes import tell_change


def test_warning_begins_with_the_sample_and_keeps_its_path():
    with pytest.warns(
        UserWarning, match=r"^Sample 3 \('A.png'\) changed while samples"
    ):
        tell_change("sample 3 ('A.png')")
