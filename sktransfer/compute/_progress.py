"""Progress bars."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


def sample_bar(name: str, n_samples: int, verbose: int) -> tqdm | None:
    """Return a progress bar over samples, to be used as a context; None if silent."""
    if not verbose:
        return None
    return tqdm(desc=name, total=n_samples, unit="sample")


@contextmanager
def step_bar(name: str, verbose: int) -> Iterator[None]:
    """Show a progress bar of one step, with the time that it took; none if not verbose.

    The bar is full at the end of the `with` block, if that raises no error.
    """
    if not verbose:
        yield
        return
    with tqdm(desc=name, total=1, unit="step") as bar:
        yield
        bar.update()
