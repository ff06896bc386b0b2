"""What it costs to keep an activation, and what it saves."""

from dataclasses import dataclass

__all__ = ["Price", "choose"]

# Activations that were not asked for may fill this share of a store's budget, and take
# this share of the time that they save.
_UNASKED_SHARE = 0.5
_UNASKED_COST = 0.15


@dataclass(frozen=True)
class Price:
    """What was measured for the activation at a boundary, and what follows.

    Attributes
    ----------
    boundary : str
    asked : bool
        Whether it is a target, or lies on the way to one.
    bytes_per_sample : int
    compute_seconds : float
        To bring one sample there from where the pass began.
    keep_seconds : float
        To put one sample's activation into the form in which it is kept.
    kept : bool
    reason : str
    """

    boundary: str
    asked: bool
    bytes_per_sample: int
    compute_seconds: float
    keep_seconds: float
    kept: bool = False
    reason: str = ""


def choose(measured, n_samples, budget):
    """Decide which activations of a pass are kept.

    Parameters
    ----------
    measured : list of Price
        Undecided, in order of execution.
    n_samples : int
        How many samples the pass has.
    budget : int
        Bytes that the store may take.

    Returns
    -------
    list of Price
        Decided, in the same order. What was asked for is kept if keeping it is faster
        than computing it and it fits the budget. Of the others, those that save most
        time a byte come first, until they fill half of the budget; those that take
        more than 15% of the time from the boundary kept before them are not kept.
    """
    decided, before = {}, 0.0
    for price in measured:
        size = n_samples * price.bytes_per_sample
        decided[price.boundary] = _decide(price, size, budget, before)
        if decided[price.boundary].kept:
            before = price.compute_seconds
    free = _UNASKED_SHARE * budget
    worthwhile = [p for p in decided.values() if p.kept and not p.asked]
    for price in sorted(worthwhile, key=_saving, reverse=True):
        size = n_samples * price.bytes_per_sample
        if size > free:
            reason = "others save more time in the budget"
            decided[price.boundary] = _with(price, False, reason)
        else:
            free -= size
    return [decided[p.boundary] for p in measured]


def _saving(price):
    return price.compute_seconds / max(1, price.bytes_per_sample)


def _decide(price, size, budget, before):
    if price.keep_seconds >= price.compute_seconds:
        return _with(price, False, "faster to compute than to keep")
    saved = price.compute_seconds - before
    if not price.asked and price.keep_seconds > _UNASKED_COST * saved:
        return _with(price, False, "not asked for, and not cheap to keep")
    if size > budget:
        return _with(price, False, f"{size:,} bytes exceed the budget of {budget:,}")
    return _with(price, True, "faster to keep than to compute")


def _with(price, kept, reason):
    return Price(
        price.boundary,
        price.asked,
        price.bytes_per_sample,
        price.compute_seconds,
        price.keep_seconds,
        kept,
        reason,
    )
