"""What to say when a network cannot take the image size that was asked for."""

__all__ = ["size_error"]


def size_error(name, size, own, reason):
    """Return the error for an image size that a network cannot take.

    Parameters
    ----------
    name : str
        Of the backbone.
    size : (int, int)
        Height and width that were asked for.
    own : (int, int)
        Height and width that its weights were made for.
    reason : Exception or str
        Why not.

    Returns
    -------
    ValueError
    """
    if isinstance(reason, Exception):
        reason = f"{type(reason).__name__}: {reason}"
    reason = reason.partition("While executing")[0]  # torch.fx names the node
    reason = " ".join(reason.split())[:200].rstrip(".:! ")
    return ValueError(
        f"`image_size` of {name!r} cannot be {tuple(size)}: {reason}. "
        f"Leave it out for the size of the weights, {tuple(own)}."
    )
