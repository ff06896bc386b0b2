"""Descriptions of functions, classes and modules of Python."""

import functools
import types

import torch

from sktransfer.utils._describe_values import add_operators, add_pairs
from sktransfer.utils._libraries import is_library_function, is_own
from sktransfer.utils._object_state import hooks_for_all_modules
from sktransfer.utils._references import (
    names_of,
    reads,
    reason_against,
    resolve_imports,
)
from sktransfer.utils._survey import functions_in, survey_class, survey_function

__all__ = ["CODE_BY_KIND", "add_builtin", "add_class"]

_HEAP = 1 << 9  # the flag of classes that are made while a process runs
_MISSING = object()
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)
_PLAIN = (bool, int, float, complex, str, bytes, functools.partial)
_NOT_OF_CLASSES = {
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__orig_bases__",
    "__parameters__",
    "__qualname__",
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
    "_autograd_function_id",  # a count
    "_backward_cls",  # made of the class itself
}
_MEMBERS_IN_C = (
    types.BuiltinFunctionType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
)


def _add_code(d, code):
    d.found.has_code = True
    d.put("code", code.co_code, code.co_exceptiontable)
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    d.put(*counts, code.co_flags)
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    d.put(*map(repr, names))
    d.add_tuple(code.co_consts)


def _add_function(d, function):
    if not d.is_new(function):
        return
    _add_common(d)
    compiled = vars(function).get("_torchdynamo_orig_callable")
    if compiled is not None:
        d.put("compiled")
        d.add(compiled)
        return
    if not is_library_function(function):
        d.put("function")
        _add_code(d, function.__code__)
        _add_surroundings(d, function)
        _add_references(d, function)
        return
    name = function.__globals__["__name__"]
    code = function.__code__
    d.put("library", name, code.co_qualname, d.version(name))
    if not is_own(function):  # made inside another, or by a decorator
        d.put(code.co_firstlineno, code.co_code)
        _add_surroundings(d, function)
    _add_survey(d, survey_function(function))


def _add_surroundings(d, function):
    d.add(function.__defaults__)
    d.add(function.__kwdefaults__)
    d.add_tuple(function.__closure__ or ())
    d.add_named(vars(function))


def _add_cell(d, cell):
    try:
        content = cell.cell_contents
    except ValueError:
        d.put("empty cell")
    else:
        d.put("cell")
        d.add(content)


def _add_references(d, function):
    """Describe what code finds in its module and in those that it imports."""
    names = names_of(function.__code__)
    space, builtin = function.__globals__, function.__builtins__
    # What a constructor read is in the attributes of the object.
    for name in names.reads if function.__name__ != "__init__" else []:
        d.give_up(f"code that uses `{name}`")
    for name in names.globals:
        value = space.get(name, builtin.get(name, _MISSING))
        d.put(name)
        if value is _MISSING:
            d.put("missing")
        elif reason_against(value):
            d.give_up(f"code that uses {reason_against(value)}")
        elif reads(value) and d.version(getattr(value, "__module__", None) or ""):
            d.give_up(f"code that uses `{name}`")  # of a library
        elif value is torch.ops:
            add_operators(d, {*names.attributes})
        elif isinstance(value, types.ModuleType):
            _add_members(d, value, names, set())
        else:
            d.add(value)
    for module in resolve_imports(function):
        _add_members(d, module, names, set())


def _add_members(d, module, names, passed):
    """Describe a module by what code takes from it."""
    if id(module) in passed:
        return
    passed.add(id(module))
    version = d.version(module.__name__)
    d.put("module", module.__name__, version)
    if names.looks_up:
        _add_module_whole(d, module)
    for name in names.attributes:
        value = vars(module).get(name, _MISSING)
        if value is _MISSING:
            continue
        d.put(name)
        if reason_against(value):
            d.give_up(f"code that uses {reason_against(value)}")
        elif value is torch.ops:
            add_operators(d, {*names.attributes})
        elif isinstance(value, types.ModuleType):
            _add_members(d, value, names, passed)
        elif version is None or _counts(d, value):
            d.add(value)
        else:  # what a library keeps for itself
            d.put(type(value).__qualname__)


def _add_module_whole(d, module):
    """Describe all that is in a module, or only what was put into a library."""
    if not d.is_new(module):
        return
    version = d.version(module.__name__)
    d.put("whole", module.__name__, version)
    if version is None:
        members = {k: v for k, v in vars(module).items() if k[:2] != "__"}
        d.add_named(members)
        return
    for name, value in [*vars(module).items()]:
        is_function = isinstance(value, types.FunctionType)
        if is_function and not is_library_function(value):
            d.put(name)
            d.add(value)


def _add_survey(d, survey):
    d.put(survey.text)
    for name, function in survey.foreign:
        d.put(name)
        d.add(function)


def _add_common(d):
    """Describe what was put into what all networks use, once."""
    if d.has_common:
        return
    d.has_common = True
    for name, member in [*vars(torch.Tensor).items()]:
        for function in functions_in(member):
            if not is_library_function(function):
                d.put(name)
                d.add(function)
    hooks = hooks_for_all_modules()
    if hooks:
        d.add_named(hooks)


def _add_method(d, method):
    d.put("method")
    d.add(method.__func__)
    d.add(method.__self__)


def add_builtin(d, function):
    """Describe a function that is written in C by its name, and what it is bound to."""
    if reason_against(function):
        d.give_up(reason_against(function))
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__module__", None) or ""
    if isinstance(owner, types.ModuleType):
        name, owner = owner.__name__, None
    d.put("builtin", name, function.__qualname__, d.version(name))
    d.add(owner)


def _add_member_in_c(d, member):
    owner = getattr(member, "__objclass__", None)
    d.put("member", getattr(owner, "__qualname__", None), member.__name__)
    if isinstance(member, types.MethodWrapperType):
        d.add(member.__self__)


def _add_wrapper(d, wrapper):
    d.put(type(wrapper).__name__)
    d.add(wrapper.__func__)


def _add_property(d, value):
    d.put("property")
    d.add_tuple((value.fget, value.fset, value.fdel))


def _add_partial(d, value):
    if not d.is_new(value):
        return
    d.put("partial")
    add_class(d, type(value))
    d.add_tuple((value.func, value.args))
    add_pairs(d, value.keywords)
    d.add_named(vars(value))


def _add_cached(d, value):
    if d.is_new(value):
        d.put("cached", sorted(value.cache_parameters().items()))
        d.add_named(vars(value))  # with what it wraps


def add_class(d, cls):
    """Describe a class by its name and version, or by all that is in it."""
    if not d.is_new(cls):
        return
    _add_common(d)
    name = cls.__module__
    is_in_c = not cls.__flags__ & _HEAP
    if (is_in_c and name == "builtins") or is_own(cls):
        d.put("class", name, cls.__qualname__, d.version(name))
        for base in cls.__mro__[:-1]:
            if base.__flags__ & _HEAP:
                _add_survey(d, survey_class(base))
        return
    d.put("class", cls.__qualname__)
    members = {k: v for k, v in vars(cls).items() if k not in _NOT_OF_CLASSES}
    d.add_named(members)
    d.add_tuple((type(cls), *cls.__bases__))


def _counts(d, value):
    """Say whether something in a module of a library is more than its own affair."""
    return (
        isinstance(value, _CODE + _PLAIN) or d.version(type(value).__module__) is None
    )


# In the order in which they are tried.
CODE_BY_KIND = (
    (type, add_class),
    (types.FunctionType, _add_function),
    (types.MethodType, _add_method),
    (types.BuiltinFunctionType, add_builtin),
    (types.CodeType, _add_code),
    (types.CellType, _add_cell),
    (types.ModuleType, _add_module_whole),
    (_MEMBERS_IN_C, _add_member_in_c),
    (staticmethod, _add_wrapper),
    (classmethod, _add_wrapper),
    (property, _add_property),
    (functools.partial, _add_partial),
    (type(functools.cache(repr)), _add_cached),
)
