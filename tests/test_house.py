"""The house's rules, read from the source with `ast`."""

import ast
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sktransfer"

# Data flows downwards. A file imports from its own room and from rows above its own;
# rooms in one row don't import each other. "estimators" are the files next to _base.py.
ROWS = [
    ["utils"],
    ["compute"],
    ["inputs"],
    ["backbones"],
    ["activations"],
    ["training"],
    ["export"],
    ["_base"],
    ["estimators"],
    ["adaptation", "advice", "inspection"],
    ["datasets"],
]
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
LONGEST = 600


def source_files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path):
    return path.relative_to(ROOT).as_posix()


def room_of_file(path):
    """Room that a source file stands in, known to the house or not."""
    folder, *rest = path.relative_to(PACKAGE).parts
    if rest:
        return folder
    return "_base" if folder == "_base.py" else "estimators"


def room_of_module(module):
    """Room of a dotted name; a public name of the top counts as an estimator."""
    inside = module.split(".")[1:2]
    return inside[0] if inside and inside[0] in ROW_OF else "estimators"


def imported_modules(tree):
    """Every sktransfer module that a file imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("sktransfer"))
        elif isinstance(node, ast.ImportFrom) and node.module == "sktransfer":
            yield from (f"sktransfer.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module.startswith("sktransfer."):
                yield node.module


def forbidden_imports(tree, room):
    """Imports from rooms that stand after `room` or beside it."""
    return [
        module
        for module in imported_modules(tree)
        if (there := room_of_module(module)) != room and ROW_OF[there] >= ROW_OF[room]
    ]


def relative_imports(tree):
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]


def private_names_of_sklearn(tree):
    """Underscored modules and names of scikit-learn that a file imports."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith("sklearn.") and "._" in name]


def work_at_import(tree, names=("__all__",)):
    """Lines of an `__init__.py` that are no docstring, import or listed name."""
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    return [node.lineno for node in body if not _is_declaration(node, names)]


def _is_declaration(node, names):
    if isinstance(node, ast.Assign):
        return all(isinstance(t, ast.Name) and t.id in names for t in node.targets)
    return isinstance(node, ast.Import | ast.ImportFrom)


def public_names(tree):
    """Names that an `__init__.py` lists, without dunders."""
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    return [name for name in names if not name.startswith("__")]


def mirror(path):
    """Test file of a source file: `inputs/_image.py` has `inputs/test_image.py`."""
    inside = path.relative_to(PACKAGE)
    return ROOT / "tests" / inside.with_name(f"test_{inside.name.removeprefix('_')}")


INITS = [path for path in source_files("sktransfer") if path.name == "__init__.py"]
MODULES = [path for path in source_files("sktransfer") if path not in INITS]
TOP = PACKAGE / "__init__.py"  # gathers the public names of all rooms
IN_ROOMS = [path for path in source_files("sktransfer") if path != TOP]
DOOR = PACKAGE / "utils" / "_validation.py"


@pytest.mark.parametrize("path", IN_ROOMS, ids=relative)
def test_file_imports_only_from_rooms_before_it(path):
    room = room_of_file(path)
    assert room in ROW_OF, f"{room} has no place in the order of the house"
    assert forbidden_imports(ast.parse(path.read_text()), room) == []


@pytest.mark.parametrize("path", source_files("sktransfer", "tests"), ids=relative)
def test_file_has_only_absolute_imports(path):
    assert relative_imports(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("path", IN_ROOMS, ids=relative)
def test_private_names_of_sklearn_come_through_the_door(path):
    found = private_names_of_sklearn(ast.parse(path.read_text()))
    assert bool(found) == (path == DOOR), found


@pytest.mark.parametrize("path", INITS, ids=relative)
def test_init_does_no_work(path):
    tree = ast.parse(path.read_text())
    names = ("__all__", "__version__") if path == TOP else ("__all__",)
    assert ast.get_docstring(tree), "the docstring is missing"
    assert work_at_import(tree, names) == []


@pytest.mark.parametrize(
    "path",
    [path for path in INITS if PACKAGE / "utils" not in path.parents],
    ids=relative,
)
def test_public_names_are_in_the_reference(path):
    room = "" if path == TOP else f"{path.parent.name}."
    names = [room + name for name in public_names(ast.parse(path.read_text()))]
    listed = (ROOT / "docs" / "api" / "index.rst").read_text().split()
    assert [name for name in names if name not in listed] == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_has_its_test_file(path):
    assert mirror(path).is_file(), f"{relative(mirror(path))} is missing"


@pytest.mark.parametrize(
    "path", source_files("sktransfer", "tests", "examples"), ids=relative
)
def test_file_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("utils", "import sktransfer.compute"),
        ("utils", "from sktransfer import inputs"),
        ("inputs", "from sktransfer.backbones import load_backbone"),
        ("inputs", "from sktransfer import __version__"),
        ("training", "from sktransfer import PretrainedFeatureExtractor"),
        ("training", "def late():\n    from sktransfer._base import x"),
        ("_base", "from sktransfer._features import PretrainedFeatureExtractor"),
        ("advice", "from sktransfer.inspection import Display"),
        ("estimators", "from sktransfer import datasets"),
    ],
)
def test_forbidden_imports_finds(room, line):
    assert len(forbidden_imports(ast.parse(line), room)) == 1


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("utils", "import numpy as np, torch.nn"),
        ("inputs", "from sktransfer.inputs._image import decode"),
        ("backbones", "from sktransfer.utils import near_matches"),
        ("estimators", "from sktransfer._base import x"),
        ("advice", "from sktransfer import PretrainedFeatureExtractor, inputs"),
        ("datasets", "from sktransfer import inspection"),
    ],
)
def test_forbidden_imports_passes(room, line):
    assert forbidden_imports(ast.parse(line), room) == []


def test_work_at_import_finds_lines():
    source = '"""Doc."""\nimport os\n__all__ = []\nos.getcwd()\nx = 1\n'
    assert work_at_import(ast.parse(source)) == [4, 5]


def test_relative_imports_finds_lines():
    assert relative_imports(ast.parse("import os\nfrom . import x")) == [2]


def test_private_names_of_sklearn_finds_names_and_modules():
    source = "from sklearn.utils._tags import Tags\nfrom sklearn.utils import _safe, ok"
    found = private_names_of_sklearn(ast.parse(source))
    assert found == ["sklearn.utils._tags.Tags", "sklearn.utils._safe"]


def test_room_of_file():
    assert room_of_file(PACKAGE / "inputs/_image.py") == "inputs"
    assert room_of_file(PACKAGE / "novelty/_image.py") == "novelty"
    assert room_of_file(PACKAGE / "_base.py") == "_base"
    assert room_of_file(PACKAGE / "_features.py") == "estimators"


def test_mirror_of_files():
    image = mirror(PACKAGE / "inputs/_image.py")
    assert relative(image) == "tests/inputs/test_image.py"
    assert relative(mirror(PACKAGE / "_features.py")) == "tests/test_features.py"


@pytest.mark.parametrize("host", ["example.com", "192.0.2.1", "2001:db8::1"])
def test_tests_cannot_use_the_network(host):
    with pytest.raises(RuntimeError, match=f"not use the network: .* reach '{host}'"):
        socket.create_connection((host, 80), timeout=1)


def test_tests_can_use_loopback():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            assert client.getpeername() == server.getsockname()
