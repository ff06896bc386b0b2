"""The box of an estimator in scikit-learn's diagrams."""

from sktransfer.utils._validation import VisualBlock

__all__ = ["captioned_block"]


def captioned_block(estimator, caption):
    """Return what scikit-learn draws for an estimator, with a line below its name.

    Parameters
    ----------
    estimator : estimator
    caption : str

    Returns
    -------
    VisualBlock
        For ``_sk_visual_block_``.
    """
    return VisualBlock(
        "single",
        estimator,
        names=type(estimator).__name__,
        name_details=str(estimator),
        name_caption=caption,
    )
