"""One description of whatever can change a result, the same in every process."""

from dataclasses import dataclass

from sktransfer.utils._describe_code import CODE_BY_KIND
from sktransfer.utils._describe_objects import OBJECTS_BY_KIND
from sktransfer.utils._describe_values import VALUES_BY_KIND, VALUES_BY_TYPE
from sktransfer.utils._tensor_bytes import TensorDigests
from sktransfer.utils._writer import TooMuchError, Writer

__all__ = ["Description", "describe"]

_BY_KIND = (*CODE_BY_KIND, *VALUES_BY_KIND, *OBJECTS_BY_KIND)


@dataclass(frozen=True)
class Description:
    """What :func:`describe` returns.

    Attributes
    ----------
    digest : str
        Hexadecimal, 32 digits. The same in every process.
    is_complete : bool
        Whether equal digests mean equal results.
    reason : str
        What could not be described; "" if it is complete.
    has_code : bool
        Whether there is code that comes from no library, and so may be edited without
        another version.
    """

    digest: str
    is_complete: bool
    reason: str
    has_code: bool


def describe(obj, *, tensors=None):
    """Describe an object by all that can change what it computes.

    Values, arrays and tensors go by their content and type, but not by their device.
    Functions and classes of installed libraries go by their names and the version of
    the library, their objects by their attributes; the attributes of a module that only
    tell the train from the eval mode are left out. All other code is described by
    itself: instructions, constants, defaults, closures, the globals that it refers to,
    class attributes, decorators and hooks; so are functions that were put into a
    library in the place of its own.

    Parameters
    ----------
    obj : object
    tensors : TensorDigests, default=None
        Hashes of tensors that are known, of an earlier description.

    Returns
    -------
    Description
        Not complete where the object holds what cannot be described, such as open
        files, or where its code looks something up by a name that is computed, as with
        ``globals()`` or ``eval``. See :func:`process_key` for that.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.utils import describe
    >>> describe(nn.ReLU()) == describe(nn.ReLU())
    True
    >>> describe(lambda x: 2 * x).digest == describe(lambda x: 3 * x).digest
    False
    >>> describe(lambda path: open(path)).reason
    'code that uses `open`'
    """
    tensors = TensorDigests() if tensors is None else tensors
    writer = Writer(VALUES_BY_TYPE, _BY_KIND, tensors)
    try:
        writer.add(obj)
    except TooMuchError as error:
        writer.give_up(str(error))
    except RecursionError:
        writer.give_up("objects that are nested too deeply")
    reason = "; ".join(dict.fromkeys(writer.found.reasons))
    return Description(writer.hexdigest(), not reason, reason, writer.found.has_code)
