"""Measure the complexity of the code: its sizes, and the path of a fit through it.

    python benchmarks/complexity.py

Prints, for ``sktransfer/``:

- lines and modules, the modules over 400 lines, and the longest;
- lines of code per function: the lines of its body, including nested functions, without
  its docstring, blank lines and comments between statements;
- for each public estimator, the number of parameters, of base classes in the package,
  and of methods and properties that are defined in the package;
- entries of the API reference;
- for a fit and a transform with a frozen backbone and an empty store: the files and
  functions of the package that are called, and changes of file. A change of file is a
  call of a function in another file than the previous call in the same thread.
"""

import argparse
import ast
import inspect
import re
import statistics
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits

import sktransfer
import sktransfer.adaptation
import sktransfer.advice

ROOT = Path(sktransfer.__file__).parent


class Walk:
    """Context that records which functions of the package are called.

    Attributes
    ----------
    files, functions : set of str
    n_changes : int
        Calls of a function in another file than the call before it, in one thread.
    """

    def __init__(self):
        self.files, self.functions, self.n_changes = set(), set(), 0
        self._last = threading.local()

    def __enter__(self):
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)
        threading.setprofile(None)

    def _see(self, frame, event, _):
        if event != "call":
            return
        code = frame.f_code
        if not code.co_filename.startswith(str(ROOT)):
            return
        self.files.add(code.co_filename)
        self.functions.add((code.co_filename, code.co_qualname))
        last = getattr(self._last, "file", None)
        self.n_changes += code.co_filename != last
        self._last.file = code.co_filename


def code_lines(function):
    """Count the lines of code of a function, without its docstring (int)."""
    body = function.body[ast.get_docstring(function) is not None :]
    lines = set()
    for statement in body:
        for node in ast.walk(statement):
            if hasattr(node, "lineno"):
                lines |= {*range(node.lineno, node.end_lineno + 1)}
    return len(lines)


def sizes():
    """Measure modules and functions (dict)."""
    modules, functions = {}, {}
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        modules[name] = text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions[f"{name}:{node.name}"] = code_lines(node)
    return {
        "lines": sum(modules.values()),
        "modules": len(modules),
        "modules over 400 lines": sum(n > 400 for n in modules.values()),
        "longest module": max(modules, key=modules.get),
        "median function": statistics.median(functions.values()),
        "functions over 30 lines": sum(n > 30 for n in functions.values()),
        "longest function": max(functions, key=functions.get),
    }


def shape_of(estimator):
    """Count the parameters, methods and own levels of an estimator (dict)."""
    ours = [
        base
        for base in estimator.__mro__[1:]
        if base.__module__.startswith("sktransfer")
    ]
    methods = {
        name
        for base in [estimator, *ours]
        for name, value in vars(base).items()
        if callable(value) or isinstance(value, property | classmethod | staticmethod)
    }
    return {
        "parameters": len(inspect.signature(estimator).parameters),
        "own classes above": len(ours),
        "methods of ours": len(methods),
    }


def estimators():
    """Return the public estimators (list of type)."""
    found = {}
    for package in (sktransfer, sktransfer.adaptation, sktransfer.advice):
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) and issubclass(value, BaseEstimator):
                found[name] = value
    return [*found.values()]


def n_public():
    """Count the entries of the API reference (int)."""
    text = (ROOT.parent / "docs" / "api" / "index.rst").read_text()
    lists = re.findall(r"^\.\. autosummary::\n((?:\n|   .*\n)*)", text, re.MULTILINE)
    rows = [row.strip() for rows in lists for row in rows.splitlines()]
    return sum(bool(row) and row[0] != ":" for row in rows)


def walk_of(function):
    """Count the files, functions and changes of file of a call (dict)."""
    with Walk() as walk:
        function()
    return {
        "files": len(walk.files),
        "functions": len(walk.functions),
        "changes of file": walk.n_changes,
    }


def walks():
    """Measure a fit with a frozen backbone and an empty store, and a transform."""
    X, y = load_digits(n_class=3, return_X_y=True)
    X = np.repeat(X.reshape(-1, 8, 8, 1), 3, axis=3)
    X = (X * 15).astype(np.uint8)
    model = sktransfer.FineTunedClassifier(freeze="all", image_size=64, random_state=0)
    model.fit(X[:24], y[:24])  # imports, and what is made once per process
    yield "fit, frozen", walk_of(lambda: model.fit(X[100:124], y[100:124]))
    yield "transform, new samples", walk_of(lambda: model.transform(X[200:224]))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(pd.Series(sizes()).to_string(), end="\n\n")
    print(pd.DataFrame({e.__name__: shape_of(e) for e in estimators()}).T, end="\n\n")
    print("entries of the API reference:", n_public(), end="\n\n")
    print(pd.DataFrame(dict(walks())).T)
