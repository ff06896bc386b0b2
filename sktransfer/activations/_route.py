"""The boundaries that samples pass on their way to what is wanted of them."""

from itertools import pairwise

__all__ = ["Route"]


class Route:
    """Where a pass may start, and where it stops.

    A network is always computed from the end of one stage to the end of the next, so
    that an activation is rounded at the same places wherever its pass began, and
    whatever else is wanted. A boundary inside a stage, or after the last one, is
    computed from the end of the stage before it, and nothing is computed from it.

    Parameters
    ----------
    backbone : Backbone
    wanted : list of str
        Names of boundaries.

    Attributes
    ----------
    wanted : list of str
        In order of execution.
    chain : list of str
        The input and the ends of stages, up to the last one that is needed.
    """

    def __init__(self, backbone, wanted):
        self.wanted = backbone.in_order(wanted)
        n_stages = backbone.n_stages_before(self.wanted[-1])
        self.chain = ["input", *backbone.stage_names[:n_stages]]
        self._anchors = {name: self._anchor(backbone, name) for name in self.wanted}

    def _anchor(self, backbone, name):
        if name in self.chain:
            return name
        return self.chain[backbone.n_stages_before(name)]

    @property
    def starts(self):
        """Boundaries that a pass may go on from to all that is wanted (list of str).

        From the last to the first. Where one boundary alone is wanted, it is one of
        them: its activation may be stored and something else be wanted of it.
        """
        first = self.wanted[0]
        reached = self.chain[: self.chain.index(self._anchors[first]) + 1]
        if len(self.wanted) == 1 and first not in reached:
            reached = [*reached, first]
        return reached[::-1]

    def steps(self, start):
        """List the sections that a pass computes, in order of execution.

        Parameters
        ----------
        start : str
            One of ``starts``.

        Returns
        -------
        list of (str, str)
            Names of the boundaries that each section lies between.
        """
        if start not in self.chain:
            return []
        steps = list(pairwise(self.chain[self.chain.index(start) :]))
        leaves = [name for name in self.wanted if name not in self.chain]
        return [*steps, *((self._anchors[leaf], leaf) for leaf in leaves)]
