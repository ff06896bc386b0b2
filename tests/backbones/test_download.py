import pytest

from sktransfer.backbones._download import explain_download


@pytest.mark.parametrize("path", ["/c/b.pth", None])
def test_explain_download_says_what_to_put_where(path, download_text):
    url = "http://a/b.pth"
    text = download_text("timm/x", url, "KeyError: 'why'", path)
    with pytest.raises(OSError, match=text) as error:
        with explain_download("timm/x", url, path):
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
