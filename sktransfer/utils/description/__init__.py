"""Descriptions of objects: one hash of everything that can change what they compute.

Activations are kept under a key that must change whenever anything changes that
computes them: weights, settings, the code of a layer in a notebook, a hook, a function
of a library that was monkeypatched. :func:`describe` makes the hash that goes into such
keys. It takes an object apart into simpler values, these into simpler ones again, and
hashes the values that it ends up with, in order.

What is described
    Numbers, texts, arrays and tensors are described by their type and content, and
    objects by their class and their attributes. Functions and classes of installed
    libraries are described by their name and the version of the library, after a check
    that nothing that they call was replaced. All other code is described by its
    instructions, constants, defaults and closures, and by everything that it refers to.
    Names of functions, comments, and the place of a tensor in memory don't count.

When a description is incomplete
    Some things cannot be described: a file that is open, memory that only C knows of,
    code that reads a file or a clock, or that finds what it calls under a name that is
    computed, as ``eval`` does. The description then states the reason, and equal
    descriptions don't mean equal results.

Keys that occur once
    :func:`join_key` makes a key of a description. If it is incomplete, the key also
    holds a random number that belongs to one living object (``process_key``). No other
    object, in this process or another, has the same key. So no earlier result is taken
    for one of this object; its results are computed again.

The modules, each of which uses those above it:

``_libraries``
    Which code belongs to a library, and whether it is as the library made it.
``_library_lock``
    The lock that holds off tracing, which replaces parts of libraries for a while.
``_objects``
    What objects, classes and modules of torch consist of.
``_data``
    Arrays, tensors and other objects that are described by their content.
``_code``
    Functions and what they refer to.
``_describe``
    The walk through all of these, the hash, and keys that are made of it.
``_watch``
    Changes of a network since it was described, at a lower cost than describing it.
"""

from sktransfer.utils.description._describe import (
    DIGEST_SIZE,
    Description,
    describe,
    digest,
    join_key,
)
from sktransfer.utils.description._libraries import (
    NETWORK_LIBRARIES,
    library_versions,
    survey_class,
)
from sktransfer.utils.description._library_lock import library_lock
from sktransfer.utils.description._watch import Watch

__all__ = [
    "DIGEST_SIZE",
    "NETWORK_LIBRARIES",
    "Description",
    "Watch",
    "describe",
    "digest",
    "join_key",
    "library_lock",
    "library_versions",
    "survey_class",
]
