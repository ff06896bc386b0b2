"""What samples are, in sixteen bytes each."""

from sktransfer.inputs import UnreadableSampleError
from sktransfer.utils import digest

__all__ = ["digest", "digest_samples"]


def digest_samples(samples, failed=None):
    """Hash every sample by its content.

    Parameters
    ----------
    samples : Samples or VectorSamples
    failed : dict or None, default=None
        Samples that cannot be read are errors without it. With it they have None for a
        digest; by their position, the dict gets the reasons.

    Returns
    -------
    list of bytes
        16 each; see :meth:`sktransfer.inputs.Samples.digest`.

    Raises
    ------
    UnreadableSampleError
        If a sample cannot be read.
    """
    if samples.digests is not None:
        return samples.digests
    digests = []
    for i in range(len(samples)):
        try:
            digests.append(samples.digest(i))
        except UnreadableSampleError as error:
            if failed is None:
                raise
            failed[i] = error.reason
            digests.append(None)
    return digests
