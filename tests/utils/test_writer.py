import pytest

from sktransfer.utils import TensorDigests
from sktransfer.utils._writer import TooMuchError, Writer, name_of


def make(**more):
    kinds = ((list, lambda w, value: w.add_tuple(value)), (object, lambda w, _: 1 / 0))
    return Writer({int: lambda w, n: w.put("int", n), **more}, kinds, TensorDigests())


def test_words_are_kept_apart():
    digests = set()
    for words in (("ab", "c"), ("a", "bc"), ("abc",), (b"abc", ""), ("\ud800",)):
        writer = make()
        writer.put(*words)
        digests.add(writer.hexdigest())
    assert len(digests) == 5


def test_things_that_come_again_go_by_their_number():
    writer, thing = make(), [1]
    assert writer.is_new(thing) and not writer.is_new(thing)
    assert writer.is_new([1])
    assert not writer.twin().found.reasons and writer.twin().found is writer.found


def test_errors_become_reasons():
    writer = make()
    writer.add([1, "text"])
    reason = "an object of type builtins.str (ZeroDivisionError: division by zero)"
    assert writer.found.reasons == [reason]
    assert name_of(make) == "`make`"


def test_order_of_names_does_not_count():
    first, other = make(), make()
    first.add_named({"a": 1, "b": 2})
    other.add_named({"b": 2, "a": 1})
    assert first.hexdigest() == other.hexdigest()


def test_too_many_things(monkeypatch):
    monkeypatch.setattr("sktransfer.utils._writer._MOST", 3)
    with pytest.raises(TooMuchError, match="an object that holds more than 3 others"):
        make().add([1, 2, 3])
