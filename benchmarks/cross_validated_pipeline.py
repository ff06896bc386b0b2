"""Time a grid search over a pipeline of extractor, scaler and logistic regression.

Ten values of C and five folds, without a refit. The search is compared with one whose
extractor stores nothing, and with one that uses `memory` of scikit-learn's pipeline.
BLAS has one thread on all sides, which is fastest for these small problems.
"""

import tempfile
import time
import warnings

import numpy as np
from common import image_files, parser, print_table
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sktransfer import PretrainedFeatureExtractor, config_context
from sktransfer.activations import forward_passes, process_store


def search(paths, y, memory=None):
    pipeline = Pipeline(
        [
            ("features", PretrainedFeatureExtractor()),
            ("scaler", StandardScaler()),
            ("classifier", LogisticRegression(max_iter=200)),
        ],
        memory=memory,
    )
    grid = {"classifier__C": np.logspace(-4, 0, 10)}
    cv = StratifiedKFold(5, shuffle=True, random_state=0)
    return GridSearchCV(pipeline, grid, cv=cv, refit=False).fit(paths, y)


def main():
    options = parser(__doc__, n_images=240).parse_args()
    paths, y = image_files(options.folder, options.n_images)
    warnings.simplefilter("ignore")
    rows = []
    PretrainedFeatureExtractor().fit_transform(paths[:2])  # loads, for all sides
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            "sktransfer": (None, {}),
            "Pipeline(memory=)": (folder, {"memory_budget": 0}),
            "uncached": (None, {"memory_budget": 0}),
        }
        for name, (memory, budgets) in sides.items():
            process_store().clear()
            forward_passes().clear()
            began = time.perf_counter()
            with config_context(**budgets), threadpool_limits(1, user_api="blas"):
                found = search(paths, y, memory)
            seconds = time.perf_counter() - began
            passes = sum(
                n for (_, start, _), n in forward_passes().items() if start == "input"
            )
            rows.append(
                {
                    "side": name,
                    "seconds": seconds,
                    "accuracy": found.best_score_,
                    "images encoded": passes,
                    "times an image": passes / len(paths),
                }
            )
            print(f"{name}: {seconds:.0f} s", flush=True)
    print_table(rows)
    for row in rows[1:]:
        ratio = row["seconds"] / rows[0]["seconds"]
        print(f"sktransfer is {ratio:.1f} times as fast as {row['side']}")


if __name__ == "__main__":
    main()
