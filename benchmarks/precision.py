"""Measure the effect of `precision="auto"` on features and on a linear probe.

The probe is a cross-validated logistic regression on the features of both precisions.
"""

import time

import numpy as np
from common import FASHION, fashion_images, image_files, parser, print_table
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedFeatureExtractor, config_context
from sktransfer.activations import process_store

STAGES = ["blocks.2", "blocks.4", "conv_head"]


def main():
    """Compare the precisions on files and on digits."""
    options = parser(__doc__, n_images=400).parse_args()
    digits = load_digits()
    data = {
        "files": (image_files(options.folder, options.n_images), None),
        "digits": ((digits.images / 16, digits.target), 64),
    }
    if FASHION.is_dir():
        data["fashion"] = (fashion_images(3_000), 64)
    rows = []
    for name, ((X, y), size) in data.items():
        for stage in STAGES:
            features, seconds = {}, {}
            for precision in ("float32", "auto"):
                process_store().clear()
                extractor = PretrainedFeatureExtractor(stage=stage, image_size=size)
                with config_context(precision=precision):
                    extractor.fit_transform(X[:32])
                began = time.perf_counter()
                features[precision] = extractor.transform(X)
                seconds[precision] = time.perf_counter() - began
            error = np.linalg.norm(features["auto"] - features["float32"])
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
            scores = {
                p: cross_val_score(model, Z, y).mean() for p, Z in features.items()
            }
            rows.append(
                {
                    "images": name,
                    "stage": stage,
                    "features moved by": error / np.linalg.norm(features["float32"]),
                    "accuracy float32": scores["float32"],
                    "accuracy auto": scores["auto"],
                    "points": 100 * (scores["auto"] - scores["float32"]),
                    "speed auto / float32": seconds["float32"] / seconds["auto"],
                }
            )
    print_table(rows)
    points = np.array([row["points"] for row in rows])
    error = points.std(ddof=1) / np.sqrt(len(points))
    print(f"mean difference: {points.mean():.2f} points, standard error {error:.2f}")


if __name__ == "__main__":
    main()
