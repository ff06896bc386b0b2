import warnings

from sktransfer.utils import TransferWarning


def test_transfer_warning_can_be_silenced_alone():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", TransferWarning)
        warnings.warn("one", TransferWarning, stacklevel=1)
        warnings.warn("other", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["other"]
