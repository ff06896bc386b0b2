"""Import of packages that only some features need."""

from importlib import import_module
from types import ModuleType


def import_optional(module: str, *, feature: str, extra: str) -> ModuleType:
    """Import a module that is not a core dependency.

    Parameters
    ----------
    module : str
        Dotted name of the module, such as ``"matplotlib.pyplot"``.
    feature : str
        What needs the module; the subject of the error message.
    extra : str
        The extra of sktransfer that installs the module.

    Returns
    -------
    module : module
        The imported module.

    Raises
    ------
    ImportError
        If the package is not installed. An error inside an installed package is
        left as it is.

    Examples
    --------
    >>> from sktransfer.utils import import_optional
    >>> import_optional("json", feature="This example", extra="plot").__name__
    'json'
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(
            f"{feature} needs {package}. "
            f"Install it with: pip install 'sktransfer[{extra}]'"
        ) from error
