"""Batches of prepared samples."""

import threading
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

from sktransfer.inputs import (
    ImagePreprocessing,
    UnreadableSampleError,
    VectorPreprocessing,
    _batches,
    as_samples,
    find_unreadable,
    iter_batches,
)

PATIENCE = 60  # seconds, for threads that wait for each other
PREPROCESSING = ImagePreprocessing((8, 6), 10, "bilinear", (0.5,) * 3, (0.5,) * 3)


class Counting:
    """Samples that record which of them were read, and by how many threads.

    As many threads as are to `meet` wait for each other in their first reads.
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
        """Wait until so many samples were read."""
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
    seen, pool = [], _batches.ThreadPoolExecutor

    def spy(n_threads, **settings):
        seen.append(n_threads)
        return pool(n_threads, **settings)

    monkeypatch.setattr(_batches, "ThreadPoolExecutor", spy)
    monkeypatch.setattr(_batches, "available_cpus", lambda: 16)
    for n_threads in (1, 4, 12):
        monkeypatch.setattr(_batches.torch, "get_num_threads", lambda n=n_threads: n)
        list(only_batches(digits(3), PREPROCESSING, 2))
    assert seen == [1, 4, 8]


def test_pinned_batches_hold_the_same(monkeypatch):
    # A machine without a GPU cannot pin: what is asked for is seen, then done without.
    asked, empty = [], torch.empty

    def spy(*args, pin_memory=False, **settings):
        asked.append(pin_memory)
        return empty(*args, **settings)

    plain = list(only_batches(digits(5), PREPROCESSING, 2))
    monkeypatch.setattr(_batches.torch, "empty", spy)
    pinned = list(only_batches(digits(5), PREPROCESSING, 2, pin_memory=True))
    assert asked == [True] * 3
    assert all(torch.equal(a, b) for a, b in zip(plain, pinned, strict=True))


class Fickle(Dataset):
    """A dataset whose odd items are another image whenever they are read."""

    n_reads = 0

    def __len__(self):
        return 6

    def __getitem__(self, i):
        self.n_reads += 1
        return Image.new("RGB", (9, 9), (self.n_reads if i % 2 else 0, 0, 0))


TOLD = (
    "^The dataset gives sample 1 differently each time, .* is not stored, and "
    "`random_state` does not fix it. .* pass them as `augment=`.$"
)


def test_samples_that_are_not_what_was_expected_are_told_once():
    samples, changed = as_samples(Fickle(), PREPROCESSING), set()
    expected = [samples.digest(i) for i in range(6)]
    batches = only_batches(
        samples, PREPROCESSING, 2, expected=expected, changed=changed, n_threads=1
    )
    with pytest.warns(UserWarning, match=TOLD):
        next(batches)
    assert changed >= {1}
    assert len(list(batches)) == 2 and changed == {1, 3, 5}
    list(only_batches(samples.take([3]), PREPROCESSING, 2, expected=expected[3:]))


def test_digests_are_what_is_expected():
    samples = as_samples(Fickle(), PREPROCESSING)
    list(only_batches(samples, PREPROCESSING, 2))  # nothing is known yet
    samples.digests = [samples.digest(i) for i in range(6)]
    with pytest.warns(UserWarning, match=TOLD):
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
    """Texts as samples; what is empty cannot be read."""

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


def test_few_samples_wait_for_others_of_their_shape():
    texts = Texts("x" * (1 + 4 * min(i, 40 - i)) for i in range(40))
    batches = [p for p, _ in iter_batches(texts, Tokens(), 2)]
    assert sorted(i for positions in batches for i in positions) == list(range(40))
    seen = set()
    for positions in batches:
        waiting = {i for i in range(positions[-1]) if i not in seen}
        assert len(waiting - {*positions}) <= 4 * 2 + 2
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
