"""Descriptions of objects: one hash of everything that can change what they compute.

Activations are kept under a key that must change whenever anything changes that
computes them: weights, settings, the code of a layer in a notebook, a hook, a function
of a library that was monkeypatched. :func:`describe` makes the hash that goes into such
keys. It takes an object apart into simpler values, these into simpler ones again, and
hashes the values that it ends up with, in order.

What is described
    Numbers, texts, arrays and tensors go by their type and content. Objects go by their
    class and their attributes. Functions and classes that come with an installed
    library go by their name and the version of the library, after a check that none of
    what they call was replaced by something else. All other code goes by its
    instructions, constants, defaults and closures, and by whatever it refers to. Names
    of functions, comments, and the place of a tensor in memory don't count.

When a description is incomplete
    Some things cannot be described: a file that is open, memory that only C knows of,
    code that reads a file or a clock, or that finds what it calls under a name that is
    computed, as ``eval`` does. The description then states the reason, and equal
    descriptions don't mean equal results.

Keys that never come again
    :func:`join_key` makes a key of a description. If it is incomplete, the key also
    holds a random number that belongs to one living object (:func:`process_key`). No
    other object, and no other process, ever has the same key, so nothing that was
    computed before is mistaken for the result. It is merely computed again.

The modules, each of which uses those above it:

``_libraries``
    Which code belongs to a library, and whether it is as the library made it.
``_objects``
    What objects, classes and modules of torch consist of.
``_data``
    Arrays, tensors and other things that are known by their content.
``_code``
    Functions and what they refer to.
``_describe``
    The walk through all of these, the hash, and keys that are made of it.
"""

from sktransfer.utils.description._describe import (
    Description,
    describe,
    join_key,
    process_key,
)
from sktransfer.utils.description._libraries import survey_class

__all__ = ["Description", "describe", "join_key", "process_key", "survey_class"]
