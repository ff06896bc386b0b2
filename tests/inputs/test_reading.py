"""The modality of X, samples of X, keys of preprocessings, and batches."""

import threading
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.utils import Tags, TargetTags
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from sktransfer.inputs import (
    MODALITIES,
    ImagePreprocessing,
    UnreadableSampleError,
    VectorPreprocessing,
    _reading,
    as_samples,
    find_unreadable,
    iter_batches,
    modality_of,
)
from tests._preprocessings import GIVEN


def test_preprocessing_decides_the_modality_of_any_x():
    images = modality_of(backbone=ImagePreprocessing(**GIVEN))
    vectors = modality_of(backbone=VectorPreprocessing(3))
    assert (images.noun, vectors.noun) == ("images", "vectors")
    holder = nn.Linear(1, 1)
    holder.kind = "image"  # of something else
    assert modality_of(backbone=holder) is vectors
    assert modality_of(["a.png"], VectorPreprocessing(3)) is vectors
    assert modality_of(np.eye(3), nn.Sequential(nn.Conv2d(3, 3, 1))) is images
    assert modality_of(np.eye(9), nn.Flatten(), {"image_shape": (3, 3)}) is images
    for X in (np.eye(9), np.zeros((2, 4, 4, 3))):  # with a function of no arguments
        assert modality_of(X, nn.Flatten, {"image_size": 4}) is images
    assert modality_of(np.eye(9), nn.Flatten(), {"image_shape": None}) is vectors
    assert modality_of() is vectors


def test_modality_that_x_looks_like():
    images = [
        ["a.png"],
        [(Image.new("L", (2, 2)), 1)],
        np.array(["a.png"]),
        np.array([["a.png"]], dtype=object),
        pd.Series(["a.png"], index=[7]),
        np.zeros((2, 4, 4)),
        [np.zeros((4, 4))],
        TensorDataset(torch.zeros(2, 4, 4)),
    ]
    vectors = [np.zeros((2, 4)), [[1, 2], [3, 4]], np.zeros((0, 4)), sparse.eye(3), 3]
    assert [modality_of(X).noun for X in images] == ["images"] * 8
    assert [modality_of(X).noun for X in vectors] == ["vectors"] * 5


def test_kind_that_nobody_registered():
    class Sounds:
        kind = "sound"

    message = r"a registered modality, one of \['audio', 'image', .*Got 'sound'"
    with pytest.raises(ValueError, match=message):
        as_samples([1], Sounds())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (1, 2)}, r"`image_shape` must be None .* vectors. Got "),
        (
            {"value_range": (0, 1)},
            r"`value_range` must be 'auto' .* vectors. Got ",
        ),
    ],
)
def test_options_of_images_for_vectors(options, message):
    with pytest.raises(ValueError, match=message):
        as_samples(np.zeros((3, 2)), VectorPreprocessing(2), **options)


def test_tags_and_checks_of_images():
    images = MODALITIES["image"]
    for image_shape in (None, (8, 8)):
        tags = Tags(estimator_type=None, target_tags=TargetTags(required=False))
        images.set_tags(tags, {"image_shape": image_shape})
        assert tags.input_tags.three_d_array and tags.input_tags.string
        assert tags.input_tags.two_d_array == (image_shape is not None)
    X, y = images.validate_with_y(None, torch.zeros(2, 4, 4), torch.tensor([1, 0]))
    assert isinstance(X, np.ndarray) and y.tolist() == [1, 0]
    estimator = Estimator()
    rows = images.validate(estimator, np.zeros((2, 16)), reset=True)
    assert rows.shape == (2, 16) and estimator.n_features_in_ == 16
    with pytest.raises(ValueError, match="X has 15 features, but Estimator is expect"):
        images.validate(estimator, np.zeros((2, 15)), reset=False)


class Estimator(BaseEstimator):
    """An estimator without parameters."""


def test_checks_of_vectors():
    vectors, estimator = modality_of(), Estimator()
    X, y = vectors.validate_with_y(estimator, torch.eye(2), torch.tensor([1, 0]))
    assert X.dtype == np.float32 and y.tolist() == [1, 0]
    with pytest.raises(ValueError, match="contains NaN"):
        vectors.validate(estimator, [[np.nan, 0]], reset=False)


def test_augmentations():
    preprocessing = ImagePreprocessing(**GIVEN)
    images = modality_of(backbone=preprocessing)
    assert images.augmentation(len, preprocessing).augment is len
    view = images.augmentation("crop", preprocessing)(Image.new("L", (9, 9)))
    assert view.size == (8, 8)
    with pytest.raises(ValueError, match="`augment` must be None .*Got 'crop'"):
        modality_of().augmentation("crop", VectorPreprocessing(2))


PATIENCE = 60  # seconds, for threads that wait for each other
PREPROCESSING = ImagePreprocessing((8, 6), 10, "bilinear", (0.5,) * 3, (0.5,) * 3)


class Counting:
    """Samples that record their reads, and the number of threads that read.

    In their first reads, `meet` threads wait for each other.
    """

    def __init__(self, samples, meet=0):
        self.samples, self.changed = samples, threading.Condition()
        self.read, self.threads = [], set()
        self.barrier = threading.Barrier(meet, timeout=PATIENCE) if meet else None

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        is_new = threading.get_ident() not in self.threads
        with self.changed:
            self.threads.add(threading.get_ident())
            self.read.append(i)
            self.changed.notify_all()
        if is_new and self.barrier is not None:
            self.barrier.wait()
        return self.samples[i]

    def wait_for(self, n):
        """Wait until a number of samples were read."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.read) >= n, PATIENCE)


def digits(n=50):
    return as_samples(load_digits().images[:n], PREPROCESSING, value_range=(0, 16))


def only_batches(*args, **settings):
    """Yield batches without the positions of their samples."""
    with closing(iter_batches(*args, **settings)) as batches:
        for _, batch in batches:
            yield batch


def loader_threads():
    return [t for t in threading.enumerate() if "sktransfer-inputs" in t.name]


@pytest.mark.parametrize("n_threads", [None, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_batches_equal_prepared_samples(batch_size, n_threads):
    samples = digits()
    batches = list(
        only_batches(samples, PREPROCESSING, batch_size, n_threads=n_threads)
    )
    assert [len(b) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    pixels = torch.cat(batches)
    assert pixels.dtype == torch.uint8
    expected = np.stack([PREPROCESSING.prepare(samples[i]) for i in range(50)])
    np.testing.assert_array_equal(pixels.numpy(), expected)
    assert not loader_threads()


def test_batches_are_not_reused():
    first, second, *_ = only_batches(digits(), PREPROCESSING, 8)
    assert first.data_ptr() != second.data_ptr()
    assert not torch.equal(first, second)


def test_reads_at_most_two_batches_ahead():
    samples = Counting(digits())
    batches = only_batches(samples, PREPROCESSING, 5, n_threads=2)
    for used in range(1, 4):
        next(batches)
        samples.wait_for(5 * (used + 2))
        assert sorted(samples.read) == list(range(5 * (used + 2)))
    batches.close()
    assert len(samples.read) == 25


def test_uses_no_more_threads_than_asked():
    samples = Counting(digits(), meet=3)
    list(only_batches(samples, PREPROCESSING, 25, n_threads=3))
    assert len(samples.threads) == 3
    assert threading.get_ident() not in samples.threads


def test_close_ends_threads():
    samples = Counting(digits())
    batches = only_batches(samples, PREPROCESSING, 4, n_threads=2)
    next(batches)
    assert loader_threads()
    batches.close()
    assert not loader_threads()
    assert len(samples.read) <= 12


def test_abandoned_generator_ends_threads():
    batches = only_batches(digits(), PREPROCESSING, 4, n_threads=2)
    next(batches)
    del batches
    assert not loader_threads()


def test_error_in_consumer_ends_threads():
    def consume():
        for _ in only_batches(digits(), PREPROCESSING, 4):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop") as error:
        consume()
    del error
    assert not loader_threads()


def test_decode_error_names_first_bad_sample(tmp_path):
    paths = []
    for i, image in enumerate(digits(30)):
        paths.append(tmp_path / f"{i}.png")
        image.save(paths[-1])
    for bad in (29, 17, 18):
        paths[bad].write_bytes(b"no image")
    samples = as_samples(paths, PREPROCESSING)
    batches = only_batches(samples, PREPROCESSING, 8, n_threads=3)
    assert len(next(batches)) == len(next(batches)) == 8
    with pytest.raises(ValueError, match=r"sample 17 \('.*17\.png'\)") as info:
        next(batches)
    assert isinstance(info.value.__cause__, OSError)
    assert not loader_threads()


def broken_files(tmp_path, bad):
    paths = []
    for i, image in enumerate(digits(30)):
        paths.append(tmp_path / f"{i}.png")
        image.save(paths[-1])
    for i in bad:
        paths[i].write_bytes(b"no image")
    return as_samples(paths, PREPROCESSING)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_failed_samples_are_left_out_of_their_batch(tmp_path, batch_size, n_threads):
    bad = [0, 17, *range(20, 24), 29]
    samples, failed = broken_files(tmp_path, bad), {}
    batches = only_batches(
        samples, PREPROCESSING, batch_size, n_threads=n_threads, failed=failed
    )
    pixels = list(batches)
    assert sorted(failed) == bad
    assert {reason[:17] for reason in failed.values()} == {"it is no image th"}
    good = np.setdiff1d(np.arange(30), bad)
    assert len(pixels) == len({*(good // batch_size)})
    expected = np.stack([PREPROCESSING.prepare(samples[i]) for i in good])
    np.testing.assert_array_equal(torch.cat(pixels).numpy(), expected)


def test_find_unreadable_reads_all(tmp_path):
    samples = broken_files(tmp_path, [29, 3])
    reasons = find_unreadable(samples, PREPROCESSING)
    assert [*reasons] == [3, 29]
    assert reasons[3].endswith("it begins with b'no image'")
    assert find_unreadable(digits(5), PREPROCESSING) == {}
    assert not loader_threads()


def test_vectors_come_as_slices_without_threads():
    X = load_digits().data[:10]
    preprocessing = VectorPreprocessing(64)
    batches = only_batches(as_samples(X, preprocessing), preprocessing, 4)
    first = next(batches)
    assert not loader_threads()
    rows = torch.cat([first, *batches])
    assert len(first) == 4 and rows.dtype == torch.float32
    np.testing.assert_array_equal(rows.numpy(), X)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "8"])
def test_counts_invalid(value):
    with pytest.raises(ValueError, match="`batch_size` must be a positive int. Got"):
        iter_batches(digits(3), PREPROCESSING, value)
    with pytest.raises(ValueError, match="`n_threads` must be a positive int. Got"):
        iter_batches(digits(3), PREPROCESSING, 2, n_threads=value)


def test_threads_are_those_of_torch(monkeypatch):
    seen, pool = [], _reading.ThreadPoolExecutor

    def spy(n_threads, **settings):
        seen.append(n_threads)
        return pool(n_threads, **settings)

    monkeypatch.setattr(_reading, "ThreadPoolExecutor", spy)
    monkeypatch.setattr(_reading, "available_cpus", lambda: 16)
    for n_threads in (1, 4, 12):
        monkeypatch.setattr(_reading.torch, "get_num_threads", lambda n=n_threads: n)
        list(only_batches(digits(3), PREPROCESSING, 2))
    assert seen == [1, 4, 8]


def test_pinned_batches_hold_the_same(monkeypatch):
    # A machine without a GPU cannot pin: what is asked for is seen, then done without.
    asked, empty = [], torch.empty

    def spy(*args, pin_memory=False, **settings):
        asked.append(pin_memory)
        return empty(*args, **settings)

    plain = list(only_batches(digits(5), PREPROCESSING, 2))
    monkeypatch.setattr(_reading.torch, "empty", spy)
    pinned = list(only_batches(digits(5), PREPROCESSING, 2, pin_memory=True))
    assert asked == [True] * 3
    assert all(torch.equal(a, b) for a, b in zip(plain, pinned, strict=True))


class Fickle(Dataset):
    """A dataset that returns another image in each read of an odd item."""

    n_reads = 0

    def __len__(self):
        return 6

    def __getitem__(self, i):
        self.n_reads += 1
        return Image.new("RGB", (9, 9), (self.n_reads if i % 2 else 0, 0, 0))


WARNED = (
    "^The dataset returns sample 1 differently each time, .* are not stored, and "
    "`random_state` does not fix them. .* pass them as `augment=`.$"
)


def test_samples_that_are_not_what_was_expected_warn_once():
    samples, changed = as_samples(Fickle(), PREPROCESSING), set()
    expected = [samples.digest(i) for i in range(6)]
    batches = only_batches(
        samples, PREPROCESSING, 2, expected=expected, changed=changed, n_threads=1
    )
    with pytest.warns(UserWarning, match=WARNED):
        next(batches)
    assert changed >= {1}
    assert len(list(batches)) == 2 and changed == {1, 3, 5}
    list(only_batches(samples.take([3]), PREPROCESSING, 2, expected=expected[3:]))


def test_digests_are_what_is_expected():
    samples = as_samples(Fickle(), PREPROCESSING)
    list(only_batches(samples, PREPROCESSING, 2))  # nothing is known yet
    samples.digests = [samples.digest(i) for i in range(6)]
    with pytest.warns(UserWarning, match=WARNED):
        list(only_batches(samples, PREPROCESSING, 8))


def test_file_that_changes_between_its_hash_and_its_reading(tmp_path):
    path, changed = tmp_path / "a.png", set()
    Image.new("RGB", (9, 9), "red").save(path)
    samples = as_samples([path], PREPROCESSING)
    expected = [samples.digest(0)]
    Image.new("RGB", (9, 9), "blue").save(path)
    with pytest.warns(UserWarning, match="^Sample 0 .*a.png'.* changed while samples"):
        (batch,) = only_batches(
            samples, PREPROCESSING, 1, expected=expected, changed=changed
        )
    assert changed == {0} and batch[0, 0, 0].tolist() == [0, 0, 255]


def test_what_cannot_change_is_not_hashed_again(monkeypatch):
    samples, changed = digits(5), set()
    monkeypatch.setattr(type(samples), "read", None)
    expected = [b"other"] * 5
    list(only_batches(samples, PREPROCESSING, 2, expected=expected, changed=changed))
    assert changed == set()


@dataclass(frozen=True)
class Tokens:
    """A preprocessing of texts: character codes, padded to a multiple of four."""

    kind = "text"

    def prepare(self, text):
        n = -4 * (-len(text) // 4)
        codes, mask = np.zeros(n, np.int64), np.arange(n) < len(text)
        codes[: len(text)] = [*text.encode()]
        return {"codes": codes, "mask": mask}


class Texts(list):
    """Texts as samples; an empty one cannot be read."""

    def __getitem__(self, i):
        text = super().__getitem__(i)
        if not text:
            raise UnreadableSampleError(i, None, "it is empty")
        return text


def test_samples_of_several_shapes_come_with_their_positions():
    rng = np.random.default_rng(0)
    texts = Texts("x" * n for n in rng.integers(1, 13, 50))
    seen = []
    for positions, batch in iter_batches(texts, Tokens(), 4):
        assert {*batch} == {"codes", "mask"} and 1 <= len(positions) <= 4
        assert batch["codes"].dtype == torch.int64 and batch["mask"].dtype == torch.bool
        for i, codes, mask in zip(positions, *batch.values(), strict=True):
            alone = Tokens().prepare(texts[i])
            np.testing.assert_array_equal(codes, alone["codes"])
            np.testing.assert_array_equal(mask, alone["mask"])
        seen += positions
    assert sorted(seen) == list(range(50)) and seen != sorted(seen)
    assert not loader_threads()


def test_few_bytes_wait_for_others_of_their_shape(monkeypatch):
    texts = Texts("x" * (1 + 4 * min(i, 40 - i)) for i in range(40))
    sizes = [sum(p.nbytes for p in Tokens().prepare(t).values()) for t in texts]
    whole = [p for p, _ in iter_batches(texts, Tokens(), 2)]
    monkeypatch.setattr(_reading, "_MOST_WAITING", most := 8 * max(sizes))
    batches = [p for p, _ in iter_batches(texts, Tokens(), 2)]
    assert sorted(i for positions in batches for i in positions) == list(range(40))
    assert len(whole) < len(batches)
    seen = set()
    for positions in batches:
        waiting = {i for i in range(positions[-1]) if i not in seen}
        held = sum(sizes[i] for i in waiting - {*positions})
        assert held <= most + 2 * max(sizes)  # of a span that was just read
        seen |= {*positions}


def test_samples_of_one_shape_come_as_they_are_read():
    texts = Texts(["abc", "", "abcd", "", "", "a"])
    failed = {}
    batches = [*iter_batches(texts, Tokens(), 2, failed=failed)]
    assert [positions for positions, _ in batches] == [[0], [2], [5]]
    assert sorted(failed) == [1, 3, 4]


def test_positions_of_vectors_and_images():
    preprocessing = VectorPreprocessing(2)
    rows = as_samples(np.eye(2), preprocessing)
    ((positions, batch),) = iter_batches(rows, preprocessing, 9)
    assert [*positions] == [0, 1] and batch.tolist() == [[1, 0], [0, 1]]
    positions = [p for p, _ in iter_batches(digits(5), PREPROCESSING, 2)]
    assert positions == [[0, 1], [2, 3], [4]]
