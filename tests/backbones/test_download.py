import pytest

from sktransfer.backbones._download import explain_download


def test_a_failure_says_what_to_put_where():
    with (
        pytest.raises(OSError, match="could not be had from http://x/w.pth") as caught,
        explain_download("timm/net", "http://x/w.pth", "/cache/w.pth"),
    ):
        raise TimeoutError("no answer")
    text = str(caught.value)
    assert "(TimeoutError: no answer)" in text
    assert "put that file at /cache/w.pth or pass its path as `weights`" in text
    assert "backbone='efficientnet_lite0' needs no download" in text
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_success_is_left_alone():
    with explain_download("timm/net", "url", "path"):
        pass
