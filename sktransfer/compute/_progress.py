"""Progress of a step that cannot be divided."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


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
