from sktransfer.utils import digest


def test_digest_counts_where_parts_end():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab", b"c") == digest(b"ab", "c")
    assert len(digest("x")) == 16
