"""What the estimators share that go on with a target domain alone."""

import numpy as np
import pandas as pd
import torch

from sktransfer._base import undone_on_error
from sktransfer.activations import digest_samples
from sktransfer.adaptation._batch_norm import (
    fit_statistics,
    put_back_statistics,
    source_statistics,
)
from sktransfer.adaptation._methods import SOURCE_FREE
from sktransfer.adaptation._shot import (
    CentroidLabels,
    shot_objective,
    weighted_cross_entropy,
)
from sktransfer.training import Data, put_back_on_error, stages_above, train
from sktransfer.utils import check_is_fitted

__all__ = ["SourceFree", "in_order"]


class SourceFree:
    """Mixin of the estimators that adapt, for methods that do without the source."""

    @undone_on_error
    def adapt(self, X):
        """Adapt what was fitted to a target domain, without the source.

        For the methods ``"adabn"``, which starts from the source each time, and
        ``"shot"``, which goes on from where it is.

        Parameters
        ----------
        X : array-like of n_samples
            Of the target domain, as in :meth:`fit`.

        Returns
        -------
        self : DomainAdaptedClassifier or DomainAdaptedRegressor

        Raises
        ------
        ValueError
            If the method needs the source, too, or something that the fit has not
            left: stages that were trained, or classes that exclude each other.
        """
        check_is_fitted(self)
        self._validate_params()
        if self.method not in SOURCE_FREE:
            raise ValueError(
                f"`adapt` needs a `method` that does without the source: one of "
                f"{list(SOURCE_FREE)}. Got {self.method!r}, which `fit` adapts by, "
                "with the samples of both domains."
            )
        self._check_classes()
        self._check_stages_for_adapt()
        self._check_unchanged("in `adapt`", "`fit` again")
        samples = in_order(self._samples(X))
        self._adapt(samples)
        self._tell_card(len(samples))
        return self

    def _check_stages_for_adapt(self):
        if self.boundary_ == self._end():
            raise ValueError(
                f"`adapt` with `method={self.method!r}` changes the stages that were "
                f"trained. Got `freeze={self.freeze!r}`, which left none in `fit`: fit "
                "again with this `method`, or freeze fewer."
            )

    def _adapt(self, samples):
        """Adapt by the target alone; what is frozen stays so."""
        if self.method == "adabn":
            _check_distinct(samples)
        network = self.module_.network
        self._forgetting = None
        vars(self).pop("feature_drift_", None)
        self._pretrained = self.backbone_.owner(self.boundary_)
        activations, views = self._target_activations(samples, self._target)
        with put_back_on_error(network):
            if self.method == "adabn":
                self._put_back_statistics()
                batch_size = self._runtime().batch_size
                fit_statistics(
                    network.eval(), activations, batch_size, self._source_statistics
                )
            else:
                self._move(network, activations, views)
        self.module_.eval()
        del self._pretrained

    def _measure(self, samples):
        """Remember what BatchNorm saw of the source."""
        network, batch_size = self.net_.module_.eval(), self._runtime().batch_size
        activations = self._activations(samples, self._target)
        self._source_statistics = source_statistics(network, activations, batch_size)

    def _put_back_statistics(self):
        if not hasattr(self, "_source_statistics"):
            raise ValueError(
                "`method='adabn'` needs what BatchNorm saw of the source, which is "
                "measured in `fit` with that method. Fit again."
            )
        put_back_statistics(self.module_.network, self._source_statistics)

    def _move(self, network, activations, views):
        """Train the stages on the target, under a head that stays as it is."""
        vars(self).pop("_source_statistics", None)  # of weights that are left now
        self._n_epochs_before = len(self.history_)
        labels = torch.zeros(len(activations), dtype=torch.int64)
        recipe, weight = self._recipe(), self.adaptation_weight
        network.head.requires_grad_(False)
        try:
            with self._adapted(network.suffix):
                net = train(
                    network,
                    Data(views, labels, np.ones(len(labels))),
                    loss=weighted_cross_entropy(weight),
                    recipe=recipe,
                    device=self._runtime().device,
                    seed=self._seed(),
                    stages_above=stages_above(self.backbone_, self.boundary_),
                    objective=shot_objective(weight),
                    nonlinearity=self._nonlinearity(),
                    callbacks=[
                        CentroidLabels(activations, labels, self._runtime().batch_size),
                        *(self.callbacks or []),
                    ],
                    verbose=self.verbose,
                )
        finally:
            network.head.requires_grad_(True)
        self.net_ = net
        rows = pd.concat([self.history_, pd.DataFrame(net.history.to_list())])
        rows = rows.drop(columns="batches", errors="ignore")
        self.history_ = rows.assign(epoch=range(1, len(rows) + 1)).reset_index(
            drop=True
        )


def _check_distinct(samples):
    """Refuse samples that do not vary."""
    n_distinct = len({*samples.digests})
    if n_distinct < 2:
        raise ValueError(
            "`method='adabn'` measures how target samples vary, so there must be two "
            f"or more that differ. Got {len(samples)}, of which {n_distinct} differ: "
            "give more samples of the target, or take another method."
        )


def in_order(samples):
    """Return samples in the order of their contents, with ``digests``."""
    digests = digest_samples(samples)
    order = sorted(range(len(digests)), key=digests.__getitem__)
    samples = samples.take(order)
    samples.digests = [digests[i] for i in order]
    return samples
