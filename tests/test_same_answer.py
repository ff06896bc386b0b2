"""Whatever is stored, by whom and where: the same bits as without any store."""

import tempfile
from contextlib import contextmanager
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from sklearn.model_selection import GridSearchCV, cross_val_predict
from torch import nn

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor, config_context
from sktransfer.activations import _pass, process_store
from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing

PREPROCESSING = ImagePreprocessing((16, 16), 16, "bilinear", (0.5,) * 3, (0.5,) * 3)
N = 14
IMAGES = np.random.RandomState(0).randint(0, 256, (N, 18, 18, 3), dtype=np.uint8)
Y = np.arange(N) % 2


class Patches(nn.Module):
    """Tokens of an image, with attention."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3))
        )

    def forward(self, x):
        return self.blocks(self.patches(x).flatten(2).transpose(1, 2))


def convolutions():
    def block(a, b, norm):
        return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), norm, nn.ReLU())

    return nn.Sequential(
        block(3, 8, nn.BatchNorm2d(8)),
        block(8, 12, nn.GroupNorm(3, 12)),
        block(12, 16, nn.BatchNorm2d(16)),
        block(16, 16, nn.BatchNorm2d(16)),
    )


def make(network):
    torch.manual_seed(0)
    return load_backbone(network().eval(), preprocessing=PREPROCESSING)


BACKBONES = {"convolutions": make(convolutions), "tokens": make(Patches)}
DEPTHS = st.integers(0, 3)
ROWS = st.permutations(range(N)).flatmap(
    lambda order: st.integers(6, N).map(lambda n: tuple(order[:n]))
)


def extractor(backbone, stage, memory=None, **options):
    return PretrainedFeatureExtractor(
        BACKBONES[backbone], stage=stage, memory=memory, **options
    )


def classifier(backbone, freeze, memory=None):
    return FineTunedClassifier(
        BACKBONES[backbone], freeze=freeze, max_epochs=1, random_state=0, memory=memory
    )


def transform(backbone, stages, rows, memory=None):
    return extractor(backbone, list(stages), memory).fit_transform(IMAGES[list(rows)])


def fit(backbone, freeze, rows, memory=None):
    rows = np.sort(rows)
    model = classifier(backbone, freeze, memory).fit(IMAGES[rows], Y[rows])
    return model.predict_proba(IMAGES)


def search(backbone, depths, memory=None):
    grid = {"freeze": list(depths)}
    found = GridSearchCV(classifier(backbone, 1, memory), grid, cv=2).fit(IMAGES, Y)
    scores = [found.cv_results_[f"split{k}_test_score"] for k in (0, 1)]
    return np.hstack([*scores, found.predict_proba(IMAGES).ravel()])


def in_processes(backbone, freeze, memory=None):
    return cross_val_predict(
        classifier(backbone, freeze, memory),
        IMAGES,
        Y,
        cv=2,
        n_jobs=2,
        method="predict_proba",
    )


NAME = st.sampled_from([*BACKBONES])
STAGES = st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True).map(tuple)
ASKED = st.one_of(
    st.tuples(st.just(transform), NAME, STAGES, ROWS),
    st.tuples(st.just(fit), NAME, DEPTHS, ROWS),
    st.tuples(
        st.just(search),
        NAME,
        st.lists(DEPTHS, min_size=1, max_size=3, unique=True).map(tuple),
    ),
)
DONE = st.one_of(
    st.tuples(st.just("forget")),
    st.tuples(st.just("budget"), st.sampled_from([0, 3_000, 30_000, 10**8])),
    st.tuples(st.just("folder"), st.sampled_from([None, 0, 1])),
    st.tuples(st.just("threads"), st.sampled_from([1, 2, 3])),
)
known = {}


def expected(asked):
    """Return what comes out where nothing is ever stored."""
    if asked not in known:
        before, function, *arguments = torch.get_num_threads(), *asked
        torch.set_num_threads(1)
        with config_context(memory_budget=0):
            known[asked] = function(*arguments)
        torch.set_num_threads(before)
    return known[asked]


@contextmanager
def kept_by_chance(seed):
    """Let chance decide what is kept, as the clock does elsewhere."""
    rng = np.random.RandomState(seed)

    def choose(measured, n_samples, budget):
        return [replace(price, kept=bool(rng.randint(2))) for price in measured]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pass, "choose", choose)
        yield


@pytest.fixture(autouse=True)
def _as_before():
    threads = torch.get_num_threads()
    process_store().clear()
    yield
    torch.set_num_threads(threads)
    process_store().clear()


def check(steps, seed):
    """Run steps one after another, and compare whatever is asked."""
    process_store().clear()
    with (
        tempfile.TemporaryDirectory() as first,
        tempfile.TemporaryDirectory() as second,
        kept_by_chance(seed),
    ):
        memory, budget = None, 10**8
        for function, *arguments in steps:
            if function == "forget":
                process_store().clear()
            elif function == "budget":
                (budget,) = arguments
            elif function == "folder":
                (which,) = arguments
                memory = None if which is None else (first, second)[which]
            elif function == "threads":
                torch.set_num_threads(*arguments)
            else:
                asked = (function, *arguments)
                with config_context(memory_budget=budget):
                    found = function(*arguments, memory=memory)
                np.testing.assert_array_equal(found, expected(asked))


def tried(n_examples):
    return settings(
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=n_examples,
        phases=[Phase.generate],  # shrinking takes minutes
        suppress_health_check=[*HealthCheck],
    )


@tried(8)
@given(
    steps=st.lists(st.one_of(ASKED, ASKED, DONE), min_size=3, max_size=8),
    seed=st.integers(0, 99),
)
def test_a_few_sequences(steps, seed):
    check(steps, seed)


@pytest.mark.slow
@tried(150)
@given(
    steps=st.lists(
        st.one_of(
            ASKED,
            ASKED,
            ASKED,
            DONE,
            DONE,
            st.tuples(st.just(in_processes), NAME, DEPTHS),
        ),
        min_size=4,
        max_size=14,
    ),
    seed=st.integers(0, 999),
)
def test_many_sequences(steps, seed):
    check(steps, seed)
