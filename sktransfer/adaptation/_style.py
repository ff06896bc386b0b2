"""Augmentation that moves images towards the style of a target domain."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from torchvision import tv_tensors
from torchvision.transforms import v2

from sktransfer.activations import digest
from sktransfer.adaptation._image_statistics import (
    STATISTICS,
    background_side,
    prevailing_side,
    to_lab,
)
from sktransfer.adaptation._style_statistics import (
    measure,
    moved,
    moves_between,
    some_images,
    typical_quality,
)
from sktransfer.adaptation._style_steps import (
    SHIFTS,
    STEPS,
    apply_steps,
    swap_lightness,
)
from sktransfer.utils import near_matches, types

_VERSION = "target-style-v5"  # changes when the code draws different views
_PARAMETERS = "strength shift p max_images image_shape value_range".split()


class TargetStyle(v2.Transform):
    """Move images towards the style of a target domain, without labels.

    `fit` measures the brightness, colours, blur, noise, resolution and compression of
    target images. The transform measures each source image as well, and moves it
    towards the statistics of a target image that is drawn at random. If `fit` also got
    source images, resolution, colours and lightness are instead mapped from the
    quantiles of the source to those of the target, so that images hardly change if the
    domains do not differ. Images keep their size and content.

    Needs scikit-image: ``pip install "sktransfer[adaptation]"``.

    Parameters
    ----------
    strength : float, default=1.0
        Share of the way to the target, in [0, 1]; 0 does not change images.
    shift : str or list of str, default="measured"
        Differences to imitate: a preset, a step, or a list of these. The presets are:

        - "measured": the steps that depend on measurements and keep the content:
          "resolution", "polarity", "blur", "colour", "noise" and "jpeg"
        - "lighting": "lightness"
        - "cameras": "resolution", "blur", "noise" and "jpeg"

        The steps are:

        - "resolution" resizes to the resolution of the target, and back.
        - "polarity" swaps light and dark if the backgrounds of the domains are swapped:
          nearly all of them, and at least eight, are the lighter part of the images in
          one domain and the darker part in the other. It needs source images in `fit`
          and a strength of at least 0.5.
        - "blur" and "noise" add what is missing; nothing is sharpened or denoised. As
          content can look like blur or noise, no more is added than three quarters of
          the target images have.
        - "lightness" moves the mean and standard deviation of L* in CIELAB, and
          "colour" those of all three channels.
        - "jpeg" compresses with the quality of the target's JPEG files.
    p : float, default=1.0
        Probability that an image is changed.
    max_images : int, default=200
        Maximum number of images per domain that are measured, evenly spread over X.
    image_shape : tuple of int, default=None
        Shape of one image, ``(h, w)`` or ``(h, w, c)``, if X holds flat rows.
    value_range : "auto" or (low, high), default="auto"
        Values of black and white in arrays, and in images of more than 8 bits.

    Attributes
    ----------
    target_rows_ : ndarray of shape (n_measured, n_statistics)
        Statistics of each measured target image. The columns are the rows of
        ``statistics_``.
    source_rows_ : ndarray of shape (n_measured, n_statistics) or None
        Statistics of each measured source image; None if `fit` got none.
    statistics_ : pandas.DataFrame
        Per statistic, its mean (``target``) and standard deviation (``target_std``)
        over the target images. If `fit` got source images, also ``source``,
        ``source_std`` and ``difference``, the difference of the means in pooled
        standard deviations. The statistics are the mean and standard deviation of the
        grey levels in [0, 1] (``brightness``, ``contrast``) and of the channels of
        CIELAB; ``blur``, the standard deviation in pixels of the Gaussian that would
        blur a sharp image as much; ``noise``, the standard deviation of the noise of a
        channel in levels of 255, and ``noise_shared``, its correlation between the
        channels; ``jpeg_quality`` in [1, 100]; ``side``, the shorter side in pixels;
        and along the border, the median colour (``background_...``) and the standard
        deviation of L* (``background_spread``).
    turned_ : bool
        Whether "polarity" found light and dark swapped between source and target; False
        if `fit` got no source.

    See Also
    --------
    domain_gap : Measures whether the domains differ for a network.

    Notes
    -----
    This is a torchvision transform, which can be a part of ``v2.Compose``. It takes PIL
    images, which become RGB, and uint8 tensors of shape (..., 3, h, w). The images of a
    batch move towards the same target image. Random numbers come from torch's global
    generator. After a change of parameters, `fit` has to be called again.

    References
    ----------
    E. Reinhard, M. Ashikhmin, B. Gooch, P. Shirley (2001). Color Transfer between
    Images. IEEE Computer Graphics and Applications 21(5).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import Augmentation, FineTunedClassifier
    >>> from sktransfer.adaptation import TargetStyle
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> dark = 0.3 * X[180:]
    >>> style = TargetStyle(image_shape=(8, 8), value_range=(0, 16))
    >>> style.fit(dark, X_source=X[:180]).statistics_.round(1).loc[["brightness"]]
                target  target_std  source  source_std  difference
    brightness     0.1         0.0     0.3         0.0        -8.4
    >>> model = FineTunedClassifier(
    ...     image_shape=(8, 8),
    ...     value_range=(0, 16),
    ...     image_size=32,
    ...     freeze="all",
    ...     augment=Augmentation(style, n_views=2),
    ... )
    >>> model.fit(X[:60], y[:60]).classes_
    array([0, 1])
    """

    for_source_only = True  # target images have the style of the target already

    def __init__(
        self,
        strength: float = 1.0,
        *,
        shift: str | list[str] = "measured",
        p: float = 1.0,
        max_images: int = 200,
        image_shape: Sequence[int] | None = None,
        value_range: types.ValueRange = "auto",
    ):
        super().__init__()
        self.strength = strength
        self.shift = shift
        self.p = p
        self.max_images = max_images
        self.image_shape = image_shape
        self.value_range = value_range

    def fit(
        self, X: types.Samples, y: None = None, *, X_source: types.Samples | None = None
    ) -> Self:
        """Measure target images.

        Parameters
        ----------
        X : array-like of n_samples
            Target images: file paths, images, encoded bytes, arrays or flat rows; see
            the user guide.
        y : None
            Ignored.
        X_source : array-like of n_samples, default=None
            Source images. Without them, "polarity" changes nothing, and the goal for
            colours and resolution is a target image that is drawn at random.

        Returns
        -------
        self : TargetStyle

        Raises
        ------
        ValueError
            If a parameter is out of range, or an image cannot be read.
        """
        self._check()
        self._steps = _steps_of(self.shift)
        self.target_rows_ = measure(self._some(X, self.max_images))
        self._least = typical_quality(self.target_rows_)
        self.source_rows_, self.turned_, self._source = None, False, None
        if X_source is not None:
            self.source_rows_ = measure(self._some(X_source, self.max_images))
            self._compare()
        self._fitted_with = self._given()
        return self

    def _compare(self):
        """Compare the domains as wholes, and set what the views of both depend on."""
        pair = self.source_rows_, self.target_rows_
        sides = [prevailing_side(rows) for rows in pair]
        self.turned_ = "polarity" in self._steps and sides[0] * sides[1] < 0
        self._target_side = sides[1]
        self._source = typical_quality(self.source_rows_)
        self._moves = moves_between(*pair, swapped=self.turned_)
        # Images with the target's background already have the target's lightness.
        stays = moves_between(self.target_rows_, self.target_rows_)
        light = {k: v for k, v in stays.items() if k.startswith("lightness")}
        self._moves_unswapped = self._moves | (light if self.turned_ else {})

    def _given(self):
        return {name: repr(getattr(self, name)) for name in _PARAMETERS}

    def _check(self):
        for name in ("strength", "p"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Got {value!r}.")
        if not isinstance(self.max_images, Integral) or self.max_images < 1:
            raise ValueError(
                f"`max_images` must be an int of at least 1. Got {self.max_images!r}."
            )

    def _some(self, X, n_most):
        reading = {"image_shape": self.image_shape, "value_range": self.value_range}
        return some_images(X, n_most, **reading)

    @property
    def statistics_(self) -> pd.DataFrame:
        """Means and standard deviations of the statistics (pandas.DataFrame)."""
        table = _summary(self.target_rows_, "target")
        if self.source_rows_ is None:
            return table
        table = table.join(_summary(self.source_rows_, "source"))
        pooled = np.sqrt((table["target_std"] ** 2 + table["source_std"] ** 2) / 2)
        difference = (table["target"] - table["source"]) / pooled.where(pooled > 0)
        return table.assign(difference=difference)

    def key(self) -> str:
        """Return a text that is equal for styles that draw the same views.

        Returns
        -------
        str
        """
        self._check_is_fitted()
        arrays = self.target_rows_, self.source_rows_
        contents = [b"" if a is None else a.tobytes() for a in arrays]
        return (
            f"{_VERSION};strength={float(self.strength)};p={float(self.p)};"
            f"steps={','.join(self._steps)};target={digest(*contents).hex()}"
        )

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the goal and whether to change the images; called by torchvision."""
        self._check_is_fitted()
        changed = bool(torch.rand(()) < self.p)
        row = int(torch.randint(len(self.target_rows_), ()))
        goal = dict(zip(STATISTICS, self.target_rows_[row].tolist(), strict=True))
        goal |= {"swaps": False, "source": self._source}
        goal |= {name: min(goal[name], self._least[name]) for name in ("blur", "noise")}
        goal["jpeg_quality"] = max(goal["jpeg_quality"], self._least["jpeg_quality"])
        return {"goal": goal, "share": self.strength if changed else 0}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Move an image, but no boxes or masks; called by torchvision."""
        if isinstance(inpt, tv_tensors.BoundingBoxes | tv_tensors.Mask):
            return inpt
        if isinstance(inpt, torch.Tensor):
            return self._transform_tensor(inpt, params)
        return self._transform_image(inpt.convert("RGB"), params)

    def _transform_image(self, image, params):
        if not params["share"]:
            return image
        goal = {**params["goal"], **self._mapped(image, params["share"])}
        return apply_steps(image, self._steps, goal, params["share"])

    def _mapped(self, image, share):
        """Return the part of an image's goal that depends on the source (dict)."""
        if self._source is None:
            return {}
        lab = to_lab(image)
        is_strong = self.turned_ and share >= 0.5
        if is_strong and background_side(lab) != self._target_side:
            return {"swaps": True, **moved(swap_lightness(lab), self._moves)}
        return {"swaps": False, **moved(lab, self._moves_unswapped)}

    def _transform_tensor(self, pixels, params):
        if pixels.dtype != torch.uint8 or pixels.ndim < 3 or pixels.shape[-3] != 3:
            raise TypeError(
                "TargetStyle takes PIL images or uint8 tensors of shape (..., 3, h, w)."
                f" Got {pixels.dtype} of shape {tuple(pixels.shape)}."
            )
        found = torch.empty(pixels.shape, dtype=torch.uint8, device=pixels.device)
        images, views = _as_batch(pixels.contiguous()), _as_batch(found)
        for i in range(len(images)):
            image = Image.fromarray(images[i].numpy(force=True))
            image = self._transform_image(image, params)
            views[i] = torch.from_numpy(np.array(image))
        return tv_tensors.wrap(found, like=pixels)

    def _check_is_fitted(self):
        if not hasattr(self, "target_rows_"):
            raise NotFittedError(
                "This TargetStyle is not fitted. Call `fit` with target images first; "
                "no labels are needed."
            )
        for name, now in self._given().items():
            if now != self._fitted_with[name]:
                raise NotFittedError(
                    "This TargetStyle is not fitted with the parameters that it has. "
                    f"Got {name}={now} after {name}={self._fitted_with[name]}; call "
                    "`fit` again."
                )

    def extra_repr(self) -> str:
        """Return the parameters and a digest of the statistics, for `repr`."""
        shown = f"strength={self.strength}, shift={self.shift!r}, p={self.p}"
        if not hasattr(self, "target_rows_"):
            return shown
        if self._given() != self._fitted_with:
            return f"{shown}, changed since `fit`"
        n, name = len(self.target_rows_), digest(self.key()).hex()[:8]
        return f"{shown}, target={n} images, key={name}"


def _steps_of(shift):
    """Return the steps of the parameter `shift`, in the order of execution."""
    names = [shift] if isinstance(shift, str) else list(shift)
    known = [*SHIFTS, *STEPS]
    for name in names:
        if name not in known:
            raise ValueError(
                f"`shift` must be one of {known}, or a list of these. Got {name!r}."
                f"{near_matches(str(name), known)}"
            )
    chosen = {step for name in names for step in SHIFTS.get(name, (name,))}
    return tuple(step for step in STEPS if step in chosen)


def _as_batch(pixels):
    """Return a view (n, h, w, 3) of a tensor (..., 3, h, w)."""
    n = pixels.shape[:-3].numel()
    return pixels.view(n, *pixels.shape[-3:]).permute(0, 2, 3, 1)


def _summary(rows, name):
    values = {name: rows.mean(axis=0), f"{name}_std": rows.std(axis=0)}
    return pd.DataFrame(values, index=list(STATISTICS))
