"""Rules of the source that no linter has, and the closed network of the tests."""

import ast
import importlib.util
import inspect
import re
import socket
from operator import attrgetter
from pathlib import Path

import pytest

import sktransfer

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sktransfer"
DOCS = ROOT / "docs"
TOP = PACKAGE / "__init__.py"
# Packages with names for users; the others are internal.
PUBLIC = ["adaptation", "advice", "backbones", "inputs", "inspection", "model"]
SKLEARN = PACKAGE / "utils" / "_validation.py"  # may import private names of it
LONGEST = {"sktransfer": 400, "tests": 600, "examples": 250}  # lines per file


def source_files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


INITS = [path for path in source_files("sktransfer") if path.name == "__init__.py"]
MODULES = [path for path in source_files("sktransfer") if path not in INITS]


def relative(path):
    return path.relative_to(ROOT).as_posix()


def parse(path):
    return ast.parse(path.read_text())


def private_names_of_sklearn(tree):
    """Underscored modules and names of scikit-learn that a file imports."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith("sklearn.") and "._" in name]


def work_at_import(tree, names=("__all__", "__version__", "_LAZY")):
    """Lines of an `__init__.py` that are no docstring, import or listed name."""
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    return [node.lineno for node in body if not _is_declaration(node, names)]


def _is_declaration(node, names):
    if isinstance(node, ast.FunctionDef):  # of packages that are imported when used
        return node.name in ("__getattr__", "__dir__")
    if isinstance(node, ast.Assign):
        return all(isinstance(t, ast.Name) and t.id in names for t in node.targets)
    return isinstance(node, ast.Import | ast.ImportFrom)


def public_names(path):
    """Names that an `__init__.py` lists, as the reference spells them."""
    (names,) = (
        ast.literal_eval(node.value)
        for node in parse(path).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    package = "" if path == TOP else f"{path.parent.name}."
    return [package + name for name in names if not name.startswith("__")]


def documented_names(text):
    """Names that a page documents, or that a table of the reference makes pages of."""
    pages = r"^\.\. autosummary::\n   :toctree:.*\n((?:\n|   .*\n)*)"
    tables = re.findall(pages, text, re.MULTILINE)
    here = re.findall(r"\bauto(?:class|function):: sktransfer\.(\S+)", text)
    return " ".join(tables).split() + here


def names_on_pages_of_others():
    """Names that the configuration of Sphinx puts on the page of another name."""
    text = (DOCS / "conf.py").read_text()
    return re.findall(r'\("(?:class|function)", "sktransfer\.(\S+)"\)', text)


def mirror(path):
    """Test file of a source file: `inputs/_image.py` has `inputs/test_image.py`."""
    inside = path.relative_to(PACKAGE)
    return ROOT / "tests" / inside.with_name(f"test_{inside.name.removeprefix('_')}")


def test_one_file_imports_private_names_of_sklearn():
    paths = [
        p for p in source_files("sktransfer") if private_names_of_sklearn(parse(p))
    ]
    assert paths == [SKLEARN]


def test_inits_have_a_docstring_and_do_no_work():
    assert [
        relative(path) for path in INITS if not ast.get_docstring(parse(path))
    ] == []
    lines = {relative(path): work_at_import(parse(path)) for path in INITS}
    assert {path: found for path, found in lines.items() if found} == {}


def all_public_names():
    paths = [TOP, *(PACKAGE / name / "__init__.py" for name in PUBLIC)]
    return [name for path in paths for name in public_names(path)]


def test_reference_documents_each_public_name_once_and_no_others():
    pages = [*DOCS.glob("api/*.rst"), *DOCS.glob("development/*.rst")]
    names = [name for page in pages for name in documented_names(page.read_text())]
    names += names_on_pages_of_others()
    assert sorted(names) == sorted(all_public_names())


def test_public_names_have_examples():
    without = [
        name
        for name in all_public_names()
        if ">>> " not in (inspect.getdoc(attrgetter(name)(sktransfer)) or "")
    ]
    assert without == []


def test_tutorials_lead_to_all_examples():
    text = (DOCS / "tutorials.rst").read_text()
    examples = [path.with_suffix("") for path in source_files("examples")]
    names = [path.relative_to(ROOT / "examples").as_posix() for path in examples]
    assert len(names) > 20
    assert [name for name in names if f"auto_examples/{name}`" not in text] == []


def test_modules_have_their_test_files():
    missing = [relative(mirror(path)) for path in MODULES if not mirror(path).is_file()]
    assert missing == []


def test_files_are_short():
    lengths = {
        relative(path): len(path.read_text().splitlines()) - limit
        for folder, limit in LONGEST.items()
        for path in source_files(folder)
    }
    assert {path: over for path, over in lengths.items() if over > 0} == {}


def test_files_that_the_settings_name_exist():
    makefile = (ROOT / "Makefile").read_text()
    lowest = makefile.split("LOWEST := $(addprefix ")[1].split(")")[0]
    prefix, *names = re.split(r"[\s,\\]+", lowest)
    names = [prefix + name for name in names]
    names += re.findall(r'"(tests/.+\.py)"', (ROOT / "conftest.py").read_text())
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_goals_of_the_complexity_that_hold():
    path = ROOT / "benchmarks" / "complexity.py"
    spec = importlib.util.spec_from_file_location("complexity", path)
    spec.loader.exec_module(complexity := importlib.util.module_from_spec(spec))
    sizes = complexity.sizes()
    assert sizes["median function"] <= 6
    assert complexity.n_public() > 0


def test_rules_find_what_they_look_for():
    source = '"""Doc."""\nimport os\n__all__ = []\nos.getcwd()\nx = 1\n'
    assert work_at_import(ast.parse(source)) == [4, 5]
    source = "from sklearn.utils._tags import Tags\nfrom sklearn.utils import _safe, ok"
    found = private_names_of_sklearn(ast.parse(source))
    assert found == ["sklearn.utils._tags.Tags", "sklearn.utils._safe"]
    assert (
        relative(mirror(PACKAGE / "inputs/_image.py")) == "tests/inputs/test_image.py"
    )
    assert relative(mirror(PACKAGE / "_features.py")) == "tests/test_features.py"


@pytest.mark.parametrize("host", ["example.com", "192.0.2.1", "2001:db8::1"])
def test_tests_cannot_use_the_network(host):
    with pytest.raises(RuntimeError, match=f"not use the network: .* reach '{host}'"):
        socket.create_connection((host, 80), timeout=1)


def test_tests_can_use_loopback():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            assert client.getpeername() == server.getsockname()
