"""Display of features in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone, is_classifier
from sklearn.decomposition import PCA

from sktransfer.inspection._figures import COLORS, MARKERS, WIDTH, legend, panels
from sktransfer.inspection._pictures import picture
from sktransfer.inspection._unwrap import fitted_reader, read
from sktransfer.utils import check_is_fitted, import_optional, types

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PROJECTIONS = ("pca", "umap")
_FEW = 14  # classes that a legend has room for; more are named where they are
_THUMBNAIL = 18  # points, of the longer side
_FIRST, _SECOND = "first component", "second component"


class EmbeddingDisplay:
    """Display of samples by their features, in two dimensions.

    Colours are classes, markers are domains, and black crosses are samples that are
    predicted wrong. Beyond seven classes, colours repeat, with other markers if there
    is one domain. It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, 2)
        Positions.
    labels : array-like of shape (n_samples,), default=None
        Classes, or values of a regression target, which are drawn as a colour scale.
    domains : array-like of shape (n_samples,), default=None
        Domain of each sample.
    is_error : array-like of bool, shape (n_samples,), default=None
        Whether each sample is predicted wrong.
    pictures : dict of int to ndarray of shape (h, w, 3), default=None
        Thumbnails to draw, by the positions of the samples.
    axis_names : tuple of str, default=("first component", "second component")
        Labels of the axes.

    Attributes
    ----------
    embedding : ndarray of shape (n_samples, 2)
    labels, domains, is_error : ndarray of shape (n_samples,) or None
    pictures, axis_names
        As given.
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    points_ : list of matplotlib.collections.PathCollection
        One per class and domain.
    thumbnails_ : list of matplotlib.offsetbox.AnnotationBbox

    See Also
    --------
    ErrorGalleryDisplay : The most confident errors.
    sktransfer.adaptation.domain_gap : Measures how far apart domains are.

    Examples
    --------
    >>> from sktransfer.inspection import EmbeddingDisplay
    >>> display = EmbeddingDisplay([[0, 0], [1, 2], [2, 1]], labels=["a", "b", "b"])
    >>> [points.get_label() for points in display.plot().points_]
    ['a', 'b']
    """

    def __init__(
        self,
        embedding: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        domains: ArrayLike | None = None,
        is_error: ArrayLike | None = None,
        pictures: dict | None = None,
        axis_names: tuple[str, str] = (_FIRST, _SECOND),
    ):
        self.embedding = np.asarray(embedding, dtype=float)
        if self.embedding.ndim != 2 or self.embedding.shape[1] != 2:
            raise ValueError(
                "`embedding` must have the shape (n_samples, 2). Got "
                f"{self.embedding.shape}."
            )
        n = len(self.embedding)
        self.labels = _column("labels", labels, n)
        self.domains = _column("domains", domains, n)
        self.is_error = _column("is_error", is_error, n)
        self.pictures = pictures or {}
        self.axis_names = axis_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: types.Samples,
        y: ArrayLike | None = None,
        *,
        domains: ArrayLike | None = None,
        projection: Any = "pca",
        n_thumbnails: int = 0,
        random_state: int | None = 0,
        ax: Axes | None = None,
    ) -> EmbeddingDisplay:
        """Compute features, project them to two dimensions, and draw them.

        Parameters
        ----------
        estimator : fitted estimator
            An extractor or a fine-tuned estimator, whose features the head sees, or
            another one with `transform`. Of a pipeline or meta-estimator without it,
            the features are those of the estimator of this package that it begins with.
            If it predicts classes and y is given, errors are marked.
        X : array-like of n_samples
            Samples, as in `fit` of the estimator.
        y : array-like of shape (n_samples,), default=None
            Classes or regression targets.
        domains : array-like of shape (n_samples,), default=None
            Domain of each sample.
        projection : {"pca", "umap"} or transformer, default="pca"
            What maps features to two dimensions: PCA, UMAP, which needs the package
            umap-learn, or an object with `fit_transform`, such as
            :class:`sklearn.manifold.TSNE`.
        n_thumbnails : int, default=0
            Number of images to draw at their positions, which are spread evenly.
        random_state : int or None, default=0
            Seeds UMAP.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        ImportError
            If "umap" is asked for and not installed.
        ValueError
            If `projection` is unknown, "pca" has less than two samples or features, or
            thumbnails are asked for of samples that are no images.
        """
        check_is_fitted(estimator)
        has_features = hasattr(estimator, "transform")
        source = estimator if has_features else fitted_reader(estimator)
        features = source.transform(X)
        embedding, names = _project(features, projection, random_state)
        is_error = None
        if y is not None and is_classifier(estimator):
            is_error = np.asarray(estimator.predict(X)) != np.asarray(y)
        return cls(
            embedding,
            labels=y,
            domains=domains,
            is_error=is_error,
            pictures=_thumbnails(estimator, X, embedding, n_thumbnails),
            axis_names=names,
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> EmbeddingDisplay:
        """Draw one point per sample.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        (ax,) = panels(ax, [0.8 * WIDTH], feature=type(self).__name__)
        self.ax_, self.figure_ = ax, ax.figure
        self.points_: list = []
        if self.labels is not None and self.labels.dtype.kind == "f":
            self._draw_scale(ax)
        else:
            self._draw_classes(ax)
        if self.is_error is not None and self.is_error.any():
            x, y = self.embedding[self.is_error.astype(bool)].T
            look: dict[str, Any] = {"color": "black", "marker": "x", "linewidths": 0.8}
            ax.scatter(x, y, 18, **look, label="error", zorder=3)
        self._draw_thumbnails(ax)
        ax.set(
            xlabel=self.axis_names[0],
            ylabel=self.axis_names[1],
            xticks=[],
            yticks=[],
            title="Features",
        )
        ax.set_aspect("equal", adjustable="datalim")
        legend(ax, loc="upper left", bbox_to_anchor=(1, 1), markerscale=1.2)
        return self

    def _draw_scale(self, ax):
        """Draw the values of a regression target as colours."""
        drawn = ax.scatter(*self.embedding.T, 16, self.labels, cmap="cividis")
        self.figure_.colorbar(drawn, ax=ax, label="target", shrink=0.8)
        self.points_.append(drawn)

    def _draw_classes(self, ax):
        """Draw classes in colours, and domains as markers."""
        n = len(self.embedding)
        labels = np.zeros(n) if self.labels is None else self.labels
        domains = np.zeros(n) if self.domains is None else self.domains
        classes, kinds = np.unique(labels).tolist(), np.unique(domains).tolist()
        for number, label in enumerate(classes):
            for kind, domain in enumerate(kinds):
                rows = (labels == label) & (domains == domain)
                marker = kind if len(kinds) > 1 else number // len(COLORS)
                self.points_.append(
                    ax.scatter(
                        *self.embedding[rows].T,
                        s=16,
                        color=COLORS[number % len(COLORS)],
                        marker=MARKERS[marker % len(MARKERS)],
                        linewidths=0,
                        label=str(label) if kind == 0 and self._has_legend else None,
                    )
                )
        if self.labels is not None and not self._has_legend:
            self._name_classes(ax, classes)
        for kind, domain in enumerate(kinds if len(kinds) > 1 else ()):
            marker = MARKERS[kind % len(MARKERS)]
            ax.scatter([], [], color="gray", marker=marker, label=f"domain {domain}")

    @property
    def _has_legend(self):
        return self.labels is not None and len(np.unique(self.labels)) <= _FEW

    def _name_classes(self, ax, classes):
        """Write the name of each class at the median of its samples."""
        for label in classes:
            at = np.median(self.embedding[self.labels == label], axis=0)
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.5}
            ax.annotate(str(label), at, fontsize="x-small", ha="center", bbox=box)

    def _draw_thumbnails(self, ax):
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        self.thumbnails_: list = []
        classes = [] if self.labels is None else np.unique(self.labels).tolist()
        for i, image in self.pictures.items():
            zoom = _THUMBNAIL / max(image.shape[:2])
            content = OffsetImage(image, zoom=zoom)
            color = "gray"
            if self._has_legend:
                color = COLORS[classes.index(self.labels[i]) % len(COLORS)]
            box = {"edgecolor": color, "linewidth": 1.5}
            bbox = AnnotationBbox(
                content, self.embedding[i], pad=0.1, bboxprops=box, zorder=2
            )
            self.thumbnails_.append(ax.add_artist(bbox))


def _column(name, values, n):
    """Return a column as an array of length n, or None."""
    if values is None:
        return None
    column = np.asarray(values)
    if column.shape != (n,):
        raise ValueError(f"`{name}` must have the shape ({n},). Got {column.shape}.")
    return column


def _project(features, projection, random_state):
    """Return features in two dimensions, and the names of these."""
    if isinstance(projection, str) and projection == "pca":
        if min(features.shape) < 2:
            raise ValueError(
                '`projection="pca"` needs at least 2 samples in X and 2 features. Got '
                f"features of the shape {features.shape}."
            )
        pca = PCA(2).fit(features)
        shares = pca.explained_variance_ratio_
        names = ["first principal component", "second principal component"]
        labels = [
            f"{n} ({s:.0%} of variance)" for n, s in zip(names, shares, strict=True)
        ]
        return pca.transform(features), (labels[0], labels[1])
    if isinstance(projection, str) and projection == "umap":
        feature = '`projection="umap"` of EmbeddingDisplay'
        umap = import_optional("umap", feature=feature, extra="umap")
        projection = umap.UMAP(random_state=random_state)
    if not hasattr(projection, "fit_transform"):
        raise ValueError(
            f"`projection` must be one of {[*_PROJECTIONS]} or an object with "
            f"`fit_transform`. Got {projection!r}."
        )
    name = type(projection).__name__
    return clone(projection).fit_transform(features), (f"{name} 1", f"{name} 2")


def _thumbnails(estimator, X, embedding, n):
    """Return the pictures of some samples that are spread over the embedding."""
    if not n:
        return {}
    samples = read(estimator, X)
    chosen = {int(i): picture(samples, i) for i in _spread(embedding, n)}
    if any(isinstance(image, str) or image.ndim != 3 for image in chosen.values()):
        raise ValueError(
            f"`n_thumbnails` must be 0 for samples that are not images. Got {n}."
        )
    return chosen


def _spread(points, n):
    """Return the indices of n points, each the farthest from those before it."""
    chosen = [0]
    nearest = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < min(n, len(points)):
        chosen.append(int(nearest.argmax()))
        distances = np.linalg.norm(points - points[chosen[-1]], axis=1)
        nearest = np.minimum(nearest, distances)
    return chosen
