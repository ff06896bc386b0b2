"""Measure how well transferability scores rank backbones and stages, and their time.

The reference is the held-out accuracy of a linear probe with a cross-validated penalty
on the features of each stage of each backbone. The first table shows Kendall's tau
between the reference and each score over all stages of all backbones. The second shows
by how many points the stage with the highest score is below the best stage, and the
time of the score as a share of the time of all probes.

    python benchmarks/ranking.py [--quick] [--results ranking.csv]

Results are saved to a file, from which an interrupted run continues.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import CURVED, FASHION, SHOES, STAMPS, fashion_images, image_files
from scipy.stats import kendalltau
from sklearn.datasets import load_digits

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import process_store
from sktransfer.advice import BackboneRanker
from sktransfer.backbones import describe_backbone
from sktransfer.training import fit_probe, search_C

BACKBONES = [f"efficientnet_lite{i}" for i in range(3)]
SCORERS = ["lda", "logme", "h_score", "knn", "n_leep"]


def datasets(quick):
    """Return images, labels, image size and number of training images, by name."""
    n, n_held = (100, 200) if quick else (300, 1000)
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))[: n + n_held]
    X, y = digits.images[order] / 16, digits.target[order]
    found = {"digits": (X, y, 64, n), "curved digits": (X, np.isin(y, CURVED), 64, n)}
    if FASHION.is_dir():
        train, test = fashion_images(n), fashion_images(n_held, part="t10k")
        X, y = (np.concatenate(pair) for pair in zip(train, test, strict=True))
        found |= {"fashion": (X, y, 64, n), "shoes": (X, np.isin(y, SHOES), 64, n)}
    if STAMPS.is_dir():
        X, y = image_files(None, 160 if quick else 480)
        found["stamps"] = (X, y, 128, len(y) // 2)
    return found


def truth(name, backbone, X, y, size, n):
    """Probe every stage (list of dict)."""
    codes, rows = np.unique(y, return_inverse=True)[1], []
    for stage in describe_backbone(backbone)["name"]:
        process_store().clear()  # so that each probe starts from the images
        began = time.perf_counter()
        extractor = PretrainedFeatureExtractor(backbone, stage=stage, image_size=size)
        Z = extractor.fit_transform(X[:n])
        mean, scale = Z.mean(axis=0), Z.std(axis=0) + 1e-6
        features = torch.from_numpy((Z - mean) / scale)
        C = search_C(features, codes[:n])
        head, *_ = fit_probe(features, codes[:n], codes.max() + 1, C=C)
        seconds = time.perf_counter() - began
        held = torch.from_numpy((extractor.transform(X[n:]) - mean) / scale)
        with torch.no_grad():
            accuracy = (head(held).argmax(1).numpy() == codes[n:]).mean()
        row = {"data": name, "backbone": backbone, "stage": stage, "scorer": "truth"}
        rows.append({**row, "score": 100 * accuracy, "seconds": seconds})
    return rows


def scored(name, backbone, scorer, X, y, size, n):
    """Score every stage (list of dict)."""
    process_store().clear()
    began = time.perf_counter()
    ranker = BackboneRanker([backbone], scorer=scorer, image_size=size)
    table = ranker.fit(X[:n], y[:n]).scores_
    seconds = (time.perf_counter() - began) / len(table)
    return [
        {
            "data": name,
            "backbone": backbone,
            "stage": row["stage"],
            "scorer": scorer,
            "score": row["score"],
            "seconds": seconds,
        }
        for row in table.to_dict("records")
    ]


def summarise(table):
    """Return both tables."""
    taus, choices = [], []
    for data, part in table.groupby("data", sort=False):
        wide = part.pivot(index=["backbone", "stage"], columns="scorer", values="score")
        seconds = part.groupby("scorer")["seconds"].sum()
        tau, choice = {"data": data}, {"data": data}
        for scorer in [s for s in SCORERS if s in wide]:
            tau[scorer] = kendalltau(wide[scorer], wide["truth"]).statistic
            lost = wide["truth"].max() - wide["truth"][wide[scorer].idxmax()]
            share = seconds[scorer] / seconds["truth"]
            choice[scorer] = f"{lost:.1f} ({share:.2f})"
        taus.append(tau)
        choices.append(choice)
    taus = pd.DataFrame(taus).set_index("data")
    taus.loc["mean"] = taus.mean()
    return taus, pd.DataFrame(choices).set_index("data")


def main():
    """Complete the file of results, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images")
    parser.add_argument("--results", default=None, help="file of results")
    parser.add_argument("--data", default=None, help="names, with commas")
    arguments = parser.parse_args()
    path = Path(arguments.results or f"ranking{'-quick' * arguments.quick}.csv")
    found = datasets(arguments.quick)
    names = arguments.data.split(",") if arguments.data else list(found)
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    keys = ["data", "backbone", "scorer"]
    done = set() if table.empty else {*map(tuple, table[keys].to_numpy())}
    for name in names:
        for backbone in BACKBONES:
            for scorer in ["truth", *SCORERS]:
                if (name, backbone, scorer) in done:
                    continue
                given = name, backbone
                if scorer == "truth":
                    rows = truth(*given, *found[name])
                else:
                    rows = scored(*given, scorer, *found[name])
                table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
                table.to_csv(path, index=False)
                print(name, backbone, scorer, flush=True)
    taus, choices = summarise(table)
    print("\nKendall's tau")
    print(taus.to_string(float_format="{:.2f}".format))
    print("\nPoints lost by the best-scored stage (share of the time of all probes)")
    print(choices.to_string())


if __name__ == "__main__":
    main()
