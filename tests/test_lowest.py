import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def pinned(lines, sign):
    """Return versions by name, of lines such as ``numpy>=1.26``."""
    parts = (re.split(re.escape(sign), line) for line in lines if sign in line)
    return {name: version for name, version in parts}


EXTRAS = ["accelerate", "adaptation", "audio", "explain", "lora", "onnx", "parquet"]
EXTRAS += ["plot", "text"]


def same_length(version):
    """Return the version in three numbers: 1.26 is 1.26.0."""
    return (version + ".0.0").split(".")[:3]


def test_lowest_versions_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    used = [line for name in EXTRAS for line in extras[name]]
    used += [n for n in extras["test"] if n.startswith("skops")]
    asked = pinned([*project["dependencies"], *used], ">=")
    tested = pinned((ROOT / ".ci/lowest.txt").read_text().splitlines(), "==")
    assert {k: same_length(v) for k, v in asked.items()} == {
        k: same_length(v) for k, v in tested.items()
    }
