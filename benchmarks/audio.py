"""Accuracy of classifiers of recordings: words of unknown speakers, and speakers.

FOLDER holds recordings `LABEL_SPEAKER_NUMBER.wav`, such as those of spoken digits.
Words are recognized across speakers, of whom none is both learned from and tested on
(GroupKFold); speakers are recognized across recordings (StratifiedKFold).

    python benchmarks/audio.py FOLDER [--recordings 4] [--folds 3] [--networks
        speech_embedding,resemblyzer]

With `--noise`, words are recognized in white noise instead. The source are recordings
as they are; the target are other recordings of the same speakers, with noise at these
signal-to-noise ratios in dB. Half of the target is for training, with or without its
labels, and the accuracy is that on the other half, over some random divisions.

    python benchmarks/audio.py FOLDER --noise 20,10,0 [--recordings 4] [--seeds 3]
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.fft
from common import parser
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.activations import process_store
from sktransfer.adaptation import DomainAdaptedClassifier
from sktransfer.backbones import load_backbone
from sktransfer.inputs import as_samples

N_COEFFICIENTS = 20
FEW = 3


def read(folder, n_recordings):
    """Return paths, labels and speakers of some recordings of each."""
    files = sorted(Path(folder).glob("*_*_*.wav"))
    table = pd.DataFrame([f.stem.split("_") for f in files], columns=["y", "who", "i"])
    table["path"] = [*map(str, files)]
    table = table.groupby(["y", "who"]).head(n_recordings)
    return (table[name].to_numpy(str) for name in ("path", "y", "who"))


def statistics(paths, *, is_cepstrum):
    """Return the means and deviations over time of the spectra of recordings."""
    preprocessing = load_backbone("speech_embedding").preprocessing
    samples, rows = as_samples(paths, preprocessing), []
    for i in range(len(samples)):
        spectrum = preprocessing.prepare(samples[i])["hidden"]  # (frames, bands)
        if is_cepstrum:
            spectrum = scipy.fft.dct(spectrum, norm="ortho")[:, :N_COEFFICIENTS]
        rows.append(np.concatenate([spectrum.mean(0), spectrum.std(0)]))
    return np.array(rows)


def regression():
    """Return a logistic regression on standardized features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))


def ways(networks):
    """Return the classifiers by their names."""
    log_mel = FunctionTransformer(statistics, kw_args={"is_cepstrum": False})
    cepstrum = FunctionTransformer(statistics, kw_args={"is_cepstrum": True})
    found = {
        "log-mel statistics, LR": make_pipeline(log_mel, regression()),
        "MFCC statistics, LR": make_pipeline(cepstrum, regression()),
    }
    for name in networks:
        features = PretrainedFeatureExtractor(name)
        found[f"{name} features, LR"] = make_pipeline(features, regression())
    found["default"] = FineTunedClassifier("speech_embedding", random_state=0)
    return found


def splits(y, who, n_folds):
    """Yield the task, labels, and positions to train on and to test on."""
    for train, test in GroupKFold(n_folds).split(y, y, groups=who):
        yield "word", y, train, test
        few = pd.Series(train).groupby(y[train]).sample(FEW, random_state=0)
        yield f"word, {FEW} a class", y, few.to_numpy(), test
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    for train, test in folds.split(who, who):
        few = pd.Series(train).groupby(who[train]).sample(FEW, random_state=0)
        yield f"speaker, {FEW} a class", who, few.to_numpy(), test


def with_noise(paths, decibels, rng):
    """Return recordings with white noise, at a ratio of their power to its power."""
    samples = as_samples(paths, load_backbone("speech_embedding").preprocessing)
    found = []
    for i in range(len(samples)):
        values, rate = samples[i]
        noise = rng.normal(size=len(values)) * np.sqrt(np.mean(values**2))
        found.append((values + noise * 10 ** (-decibels / 20), rate))
    return found


def in_noise(paths, y, decibels, seed):
    """Yield ways to learn words in noise, and their accuracy on the target."""
    rng = np.random.default_rng(seed)
    half = {"train_size": 0.5, "random_state": seed}
    source, target = train_test_split(np.arange(len(y)), stratify=y, **half)
    train, test = train_test_split(target, stratify=y[target], **half)
    clean = with_noise(paths[source], np.inf, rng)
    noisy, asked = (with_noise(paths[rows], decibels, rng) for rows in (train, test))
    network = FineTunedClassifier("speech_embedding", random_state=seed)
    adapted = DomainAdaptedClassifier(clone(network))
    domain = np.repeat([1, -1], [len(source), len(train)])
    fitted = {
        "source only": clone(network).fit(clean, y[source]),
        "default adaptation": adapted.fit(
            clean + noisy, y[np.concatenate([source, train])], sample_domain=domain
        ),
        "labelled target": clone(network).fit(noisy, y[train]),
    }
    for name, model in fitted.items():
        yield name, 100 * model.score(asked, y[test])


def compare_in_noise(paths, y, noise, n_seeds):
    """Print the accuracy of each way at each ratio, on average over the seeds."""
    results = []
    for decibels in map(float, noise.split(",")):
        for seed in range(n_seeds):
            for name, score in in_noise(paths, y, decibels, seed):
                results.append((f"{decibels:g} dB", name, score))
                print(*results[-1], sep="\t", flush=True)
    columns = ["noise", "way", "accuracy"]
    table = pd.DataFrame(results, columns=columns).groupby(columns[:2], sort=False)
    print(table.agg({"accuracy": ["mean", "sem"]}).round(1))


def main():
    """Print the accuracy and seconds of each way, on average over the folds."""
    options = parser(
        __doc__,
        recordings=4,
        folds=3,
        networks="speech_embedding,resemblyzer",
        noise="",
        seeds=3,
    ).parse_args()
    paths, y, who = read(options.folder, options.recordings)
    print(f"{len(paths)} recordings, {len({*y})} words, {len({*who})} speakers")
    if options.noise:
        return compare_in_noise(paths, y, options.noise, options.seeds)
    results = []
    for task, labels, train, test in splits(y, who, options.folds):
        for name, model in ways(options.networks.split(",")).items():
            process_store().clear()
            began = time.perf_counter()
            model.fit(paths[train], labels[train])
            score = 100 * model.score(paths[test], labels[test])
            results.append((task, name, score, time.perf_counter() - began))
            print(*results[-1], sep="\t", flush=True)
    columns = ["task", "way", "accuracy", "seconds"]
    table = pd.DataFrame(results, columns=columns).groupby(columns[:2], sort=False)
    print(table.agg({"accuracy": ["mean", "sem"], "seconds": "median"}).round(1))


if __name__ == "__main__":
    main()
