"""The warning about samples that change while they are read."""

from sktransfer.utils import warn_caller


def tell_change(where: str) -> None:
    """Warn that a sample, such as "sample 3 ('a.png')", is not as it was before."""
    warn_caller(
        f"{where[0].upper()}{where[1:]} changed while samples were read. Its "
        "activations are not stored; run again when nothing writes to it."
    )
