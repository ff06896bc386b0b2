"""What an error report needs to say of an installation."""

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version

import torch

from sktransfer.compute._runtime import resolve_device
from sktransfer.utils import get_config

_TOOLS = ("test", "docs", "docs-test", "lint", "dev")  # extras that no estimator needs


def show_versions() -> None:
    """Print the versions, the processor and the settings that sktransfer runs with.

    Please add them when you report a fault. They are the system, the versions of the
    packages that sktransfer needs or can use, the devices and threads of PyTorch, and
    the current settings.

    See Also
    --------
    get_config : The current settings.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.show_versions()
    <BLANKLINE>
    System:
          python: 3...
    """
    sections = {
        "System": _system(),
        "Packages": _packages(),
        "PyTorch": _torch(),
        "Settings": get_config(),
    }
    for title, values in sections.items():
        width = max(map(len, values))
        print(f"\n{title}:")
        for name, value in values.items():
            print(f"  {name:>{width}}: {value}")


def _system():
    return {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "machine": platform.platform(),
    }


def _packages():
    names = ["sktransfer"]
    for requirement in requires("sktransfer") or []:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if extra is None or extra[1] not in _TOOLS:
            names.append(re.match(r"[\w.-]+", requirement)[0])
    return {name: _installed(name) for name in dict.fromkeys(names)}


def _installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _torch():
    values = {"device": resolve_device("auto"), "threads": torch.get_num_threads()}
    values["cuda"] = torch.version.cuda if torch.cuda.is_available() else None
    for i in range(torch.cuda.device_count()):
        values[f"cuda:{i}"] = torch.cuda.get_device_name(i)
    values["processor"] = torch.backends.cpu.get_cpu_capability()
    return values
