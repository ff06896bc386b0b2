import pytest

from sktransfer.backbones._download import explain_download


def test_explain_download_says_what_to_put_where():
    text = (
        "The weights of 'timm/x' could not be had from http://a/b.pth \\(KeyError: "
        "'why'\\). Without a network, put that file at /c/b.pth or pass its path as "
        "`weights`. backbone='efficientnet_lite0' needs no download: its weights are "
        "installed with sktransfer."
    )
    with pytest.raises(OSError, match=text) as error:
        with explain_download("timm/x", "http://a/b.pth", "/c/b.pth"):
            raise KeyError("why")
    assert isinstance(error.value.__cause__, KeyError)


def test_explain_download_cuts_long_texts():
    with pytest.raises(OSError, match="had from") as error:
        with explain_download("n", "u", "p"):
            raise ValueError("x" * 5000)
    assert len(str(error.value)) < 1000


def test_explain_download_is_silent_on_success_and_on_interrupts():
    with explain_download("n", "u", "p"):
        pass
    with pytest.raises(KeyboardInterrupt):
        with explain_download("n", "u", "p"):
            raise KeyboardInterrupt
