"""What `import sktransfer` loads, and what it leaves for later."""

import subprocess
import sys

import pytest

import sktransfer

CODE = """
import sys
import sktransfer
late = "adaptation advice inspection".split()
late = ["torchvision", "timm", "matplotlib", *(f"sktransfer.{name}" for name in late)]
print([name for name in late if name in sys.modules])
sktransfer.advice.BackboneRanker, sktransfer.adaptation.DomainAdaptedClassifier
print({"adaptation", "advice", "backbones", "inspection"} <= {*dir(sktransfer)})
"""


def test_heavy_libraries_are_imported_where_they_are_used():
    run = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == ["[]", "True"]


def test_unknown_attribute_raises():
    with pytest.raises(AttributeError, match="^module 'sktransfer' has no .* 'advise'"):
        sktransfer.advise  # noqa: B018
