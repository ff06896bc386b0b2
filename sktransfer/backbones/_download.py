"""What to say when weights cannot be downloaded."""

import os
from contextlib import contextmanager

__all__ = ["explain_download"]


@contextmanager
def explain_download(name, url, path=None):
    """Turn any failure of a download into one that says what to put where.

    Parameters
    ----------
    name : str
        Of the backbone.
    url : str
        What was asked for.
    path : str, default=None
        Where the file is looked for, if it can be put there by hand.

    Raises
    ------
    OSError
        In place of whatever was raised.
    """
    try:
        yield
    except Exception as error:
        where = (
            f"put that file at {path} or" if path else "fetch that file elsewhere and"
        )
        raise OSError(
            f"The weights of {name!r} could not be had from {url} "
            f"({type(error).__name__}: {str(error).strip()[:300]}). Without a network, "
            f"{where} pass its path, as in weights='path/{os.path.basename(url)}'. "
            "backbone='efficientnet_lite0' needs no download: its weights are "
            "installed with sktransfer."
        ) from error
