"""The rules that all registries follow."""

import pytest

from sktransfer.utils import Registry, check_callable, check_parts


class Protocol:
    """An object with an attribute and a method."""

    word: str

    def speak(self):
        """Return the word."""


@pytest.fixture
def registry():
    registry = Registry(
        "speakers",
        "`speaker` must be one of {names}",
        lambda thing: check_parts(thing, Protocol, "speaker"),
        reserved=["auto"],
    )
    registry.add_built_in("quiet", Speaker())
    return registry


class Speaker(Protocol):
    """An object that follows the protocol."""

    word = "none"


def test_register_replaces_an_object_of_the_same_name(registry):
    first, second = Speaker(), Speaker()
    registry.register("loud", first)
    assert registry["loud"] is first
    registry.register("loud", second)
    assert registry["loud"] is second
    assert [*registry] == ["quiet", "loud"] and len(registry) == 2


@pytest.mark.parametrize("name", ["quiet", "auto", "two words", "", "a-b", None, 3])
def test_names_that_cannot_be_registered(registry, name):
    text = (
        "^`name` must be an identifier other than those of the built-in speakers, "
        rf"\['auto', 'quiet'\]\. Got {name!r}\.$"
    )
    with pytest.raises(ValueError, match=text):
        registry.register(name, Speaker())
    assert [*registry] == ["quiet"]


@pytest.mark.parametrize(
    ("name", "near"), [("quite", r" Did you mean 'quiet'\?"), (3, "")]
)
def test_unknown_name(registry, name, near):
    text = rf"^`speaker` must be one of \['quiet'\]\. Got {name!r}\.{near}$"
    with pytest.raises(ValueError, match=text):
        registry[name]


def test_objects_that_lack_parts(registry):
    rule = "^A speaker must be an object with all parts of Protocol. "
    with pytest.raises(TypeError, match=rf"{rule}7 lacks \['word', 'speak'\]\.$"):
        registry.register("seven", 7)
    with pytest.raises(TypeError, match=f"{rule}Got the class .*; pass an inst"):
        registry.register("type", Speaker)
    with pytest.raises(TypeError, match=r"^`f` must be a callable, f\(x\)\. Got 7\.$"):
        check_callable(7, "f", "f(x)")
