import logging
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import sktransfer
from sktransfer.activations import (
    Pass,
    Pool,
    Target,
    _engine,
    digest_samples,
    gather,
)
from sktransfer.activations import _pass as _pass_module
from sktransfer.activations._batches import to_tensor
from sktransfer.activations._disk_store import open_disk_store
from sktransfer.activations._store import MemoryStore, Store
from sktransfer.activations._targets import Route
from sktransfer.backbones import load_backbone
from sktransfer.compute import Runtime, map_state
from sktransfer.inputs import (
    UnreadableSampleError,
    as_samples,
)
from sktransfer.inputs.images._files import file_content
from tests._sequences import SequenceNetwork, SequencePreprocessing, Sequences
from tests.activations.conftest import PREPROCESSING, small_network

pytestmark = pytest.mark.usefixtures("keeping_is_free")


def _pass(backbone, names, store, runtime):
    targets = [Target(name) for name in names]
    return Pass(backbone, targets, store=store, runtime=runtime)


def _expected(backbone, samples, name):
    images = [PREPROCESSING.prepare(samples[i]) for i in range(len(samples))]
    x = PREPROCESSING.to_input(torch.from_numpy(np.stack(images)))
    with torch.no_grad():
        return backbone.section("input", name)(x)


def _seen(passes, start):
    """Return the number of samples that went through the section from a boundary."""
    return sum(n for (_, begin, _), n in passes.items() if begin == start)


def test_rows_are_the_activations(backbone, samples, store, runtime):
    first, last = gather(_pass(backbone, ["0", "3"], store, runtime), samples)
    for rows, name in ((first, "0"), (last, "3")):
        expected = _expected(backbone, samples, name)
        actual = torch.from_numpy(np.stack(rows)).float()
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_without_a_store_the_rows_are_the_same(backbone, samples, store, runtime):
    kept = gather(_pass(backbone, ["3"], store, runtime), samples)
    fresh = gather(_pass(backbone, ["3"], None, runtime), samples)
    np.testing.assert_array_equal(kept, fresh)


@pytest.mark.parametrize("precision", ["float32", "folded", "bfloat16"])
@pytest.mark.parametrize("wanted", ["1", "2.1", "3", "features"])
def test_every_start_gives_the_same_bits(backbone, samples, store, wanted, precision):
    runtime = Runtime(torch.device("cpu"), 8, precision)
    (expected,) = gather(_pass(backbone, [wanted], None, runtime), samples)
    order = np.random.RandomState(0).permutation(len(samples))
    starts = Route(backbone, [wanted]).starts
    for start in starts:
        store.memory.clear()
        with _nothing_kept_before(start):
            gather(_pass(backbone, [start], store, runtime), samples.take(order[:13]))
        (rows,) = gather(_pass(backbone, [wanted], store, runtime), samples)
        _assert_same(rows, expected)
    assert len(starts) > 2


@contextmanager
def _nothing_kept_before(boundary):
    """Let passes store only the activations at one boundary."""

    def choose_one(measured, n_samples, budget):
        return [replace(cost, kept=cost.boundary == boundary) for cost in measured]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pass_module, "choose", choose_one)
        yield


@pytest.mark.parametrize("precision", ["float32", "folded", "bfloat16"])
def test_the_number_of_threads_changes_no_bit(backbone, samples, precision, threads):
    runtime = Runtime(torch.device("cpu"), 3, precision)
    found = []
    for n_threads in (1, 2, 5):
        torch.set_num_threads(n_threads)
        found.append(gather(_pass(backbone, ["1", "features"], None, runtime), samples))
        assert torch.get_num_threads() == n_threads
    for rows in found[1:]:
        for some, same in zip(rows, found[0], strict=True):
            _assert_same(some, same)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_what_is_kept_changes_no_bit(backbone, samples, store, runtime, monkeypatch):
    wanted = ["2.0", "3", "0"]
    expected = gather(_pass(backbone, wanted, None, runtime), samples)
    rng = np.random.RandomState(0)

    def choose_anything(measured, n_samples, budget):
        return [replace(cost, kept=bool(rng.randint(2))) for cost in measured]

    monkeypatch.setattr(_pass_module, "choose", choose_anything)
    for _ in range(12):
        names = rng.permutation([*wanted, "1", "features", "1.0"])[: rng.randint(1, 5)]
        some = samples.take(rng.permutation(20)[: rng.randint(1, 20)])
        gather(_pass(backbone, [*names], store, runtime), some)
        for rows, same in zip(
            gather(_pass(backbone, wanted, store, runtime), samples.take(range(9))),
            expected,
            strict=True,
        ):
            _assert_same(rows, same[:9])


def _assert_same(rows, expected):
    for row, same in zip(rows, expected, strict=True):
        assert row.dtype == same.dtype
        np.testing.assert_array_equal(row, same)


def test_each_sample_is_computed_once(backbone, samples, store, runtime, passes):
    first = gather(_pass(backbone, ["3"], store, runtime), samples)
    again = _pass(backbone, ["3"], store, runtime)
    order = np.random.RandomState(1).permutation(20)[:15]
    rows = gather(again, samples.take(order))
    assert _seen(passes, "input") == 20
    assert (again.n_stored, again.n_computed) == (15, 0)
    np.testing.assert_array_equal(rows[0], np.stack(first[0])[order])


def test_bar_says_between_which_boundaries_it_computes(
    backbone, samples, store, runtime, capsys
):
    loud, n = replace(runtime, verbose=1), len(samples)
    for name, way in (("1", "input to 1"), ("3", "1 to 3")):
        gather(_pass(backbone, [name], store, loud), samples)
        shown = capsys.readouterr().err
        assert f"{backbone.name}, {way}: 100%" in shown
        assert f"{n}/{n}" in shown
        assert "sample/s" in shown
    gather(_pass(backbone, ["3"], store, loud), samples)  # all are stored
    assert capsys.readouterr().err == ""


def test_equal_samples_are_computed_once(backbone, samples, store, runtime, passes):
    twice = samples.take([3, 3, 5, 3])
    (rows,) = gather(_pass(backbone, ["3"], store, runtime), twice)
    assert _seen(passes, "input") == 2
    np.testing.assert_array_equal(rows[0], rows[3])


def test_a_deeper_boundary_is_computed_from_a_shallower_one(
    backbone, samples, store, runtime, passes
):
    for name in ("0", "1", "2", "3"):
        gather(_pass(backbone, [name], store, runtime), samples)
    assert _seen(passes, "input") == 20
    assert sum(passes.values()) == 80  # four parts, each once


def test_a_deep_pass_fills_the_shallower_boundaries(
    backbone, samples, store, runtime, passes
):
    gather(_pass(backbone, ["3"], store, runtime), samples)
    for name in ("2", "1", "0"):
        shallow = _pass(backbone, [name], store, runtime)
        gather(shallow, samples)
        assert shallow.n_computed == 0
    assert _seen(passes, "input") == 20


def test_several_targets_take_one_pass(backbone, samples, store, runtime, passes):
    gather(_pass(backbone, ["3", "0", "2"], store, runtime), samples)
    assert _seen(passes, "input") == 20


def test_pooled_targets_are_kept_beside_plain_ones(backbone, samples, store, runtime):
    shape = backbone.activation_shape("2")
    pooled = Target("2", Pool("avg", 1, shape, (3, 32, 32)))
    plain = gather(_pass(backbone, ["2"], store, runtime), samples)[0]
    rows = gather(Pass(backbone, [pooled], store=store, runtime=runtime), samples)[0]
    np.testing.assert_allclose(rows, np.mean(plain, axis=(2, 3)), rtol=1e-2, atol=1e-3)


def test_a_second_backbone_with_equal_weights_finds_the_rows(
    backbone, samples, store, runtime, passes
):
    gather(_pass(backbone, ["3"], store, runtime), samples)
    twin = load_backbone(small_network(), preprocessing=PREPROCESSING)
    gather(_pass(twin, ["3"], store, runtime), samples)
    assert _seen(passes, "input") == 20


def test_one_weight_changes_the_key(backbone, samples, store, runtime, passes):
    gather(_pass(backbone, ["3"], store, runtime), samples)
    network = small_network()
    with torch.no_grad():
        network[0][0].weight[0, 0, 0, 0] += 1e-3
    other = load_backbone(network, preprocessing=PREPROCESSING)
    gather(_pass(other, ["3"], store, runtime), samples)
    assert _seen(passes, "input") == 40


@pytest.mark.parametrize(
    "change", [{"interpolation": "bicubic"}, {"size": (64, 64)}, {"mean": (0.1, 0, 0)}]
)
def test_the_preprocessing_changes_the_key(
    backbone, samples, store, runtime, passes, change
):
    gather(_pass(backbone, ["3"], store, runtime), samples)
    changed = replace(PREPROCESSING, **change)
    other = load_backbone(small_network(), preprocessing=changed)
    gather(_pass(other, ["3"], store, runtime), samples)
    assert _seen(passes, "input") == 40


def test_rows_that_do_not_fit_the_budget_are_computed_again(
    backbone, samples, store, runtime, passes
):
    with sktransfer.config_context(memory_budget=1_000):
        first = gather(_pass(backbone, ["3"], store, runtime), samples)
        again = _pass(backbone, ["3"], store, runtime)
        second = gather(again, samples)
    np.testing.assert_array_equal(first, second)
    assert _seen(passes, "input") == 40
    (cost,) = [c for c in again.costs if c.boundary == "3"]
    assert not cost.kept
    assert "exceed the budget of 1,000" in cost.reason


def test_rows_discarded_during_a_pass_are_computed_again(
    backbone, samples, store, runtime, monkeypatch
):
    expected = gather(_pass(backbone, ["3"], None, runtime), samples)
    gather(_pass(backbone, ["1"], store, runtime), samples)
    deeper = _pass(backbone, ["3"], store, runtime)
    contains = store.contains

    def forget_after_look_up(keys, **where):
        here = contains(keys, **where)
        if here:
            store.memory.clear()
        return here

    monkeypatch.setattr(store, "contains", forget_after_look_up)
    np.testing.assert_array_equal(gather(deeper, samples), expected)


def test_decisions_are_logged_once_per_pass(backbone, samples, store, runtime, caplog):
    with caplog.at_level(logging.INFO, "sktransfer"):
        gather(_pass(backbone, ["3"], store, runtime), samples)
    assert sum("'3'" in record.getMessage() for record in caplog.records) == 1


def test_report_counts_samples(backbone, samples, store, runtime):
    a_pass = _pass(backbone, ["3"], store, runtime)
    gather(a_pass, samples)
    row = a_pass.report()[-1]
    assert row["boundary"] == "3"
    assert (row["n_stored"], row["n_computed"], row["asked"]) == (0, 20, True)


def test_vectors_through_a_small_network_need_no_store(store, runtime):
    network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU())
    backbone = load_backbone(network)
    rows = as_samples(
        np.random.RandomState(0).rand(6, 5).astype(np.float32), backbone.preprocessing
    )
    gather(_pass(backbone, ["0"], store, runtime), rows)
    assert len(store.memory) == 0


def _short_of_memory(monkeypatch, most):
    """Simulate a memory for a number of samples at a time."""
    run = _engine._run

    def run_small(network, z, **how):
        if len(z) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(network, z, **how)

    monkeypatch.setattr(_engine, "_run", run_small)


def test_batches_are_halved_where_memory_is_short(
    backbone, samples, store, runtime, monkeypatch
):
    expected = gather(_pass(backbone, ["0", "3"], None, runtime), samples)
    _short_of_memory(monkeypatch, 3)
    with pytest.warns(UserWarning, match="memory of cpu is too small") as warned:
        rows = gather(_pass(backbone, ["0", "3"], store, runtime), samples)
    said = [str(w.message).partition("with ")[2].partition(".")[0] for w in warned]
    assert said == ["4", "2"]  # of 8
    for some, same in zip(rows, expected, strict=True):
        np.testing.assert_allclose(np.stack(some), np.stack(same), rtol=1e-3, atol=1e-5)


def test_memory_for_less_than_a_sample(backbone, samples, store, runtime, monkeypatch):
    _short_of_memory(monkeypatch, 0)
    with (
        pytest.warns(UserWarning, match="going on with"),
        pytest.raises(MemoryError, match="too small for one sample. Take"),
    ):
        gather(_pass(backbone, ["3"], store, runtime), samples)


def test_digest_samples_goes_by_content_not_by_container(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    as_array = digest_samples(as_samples(images, PREPROCESSING))
    shuffled = digest_samples(as_samples(images[[2, 0, 1]], PREPROCESSING))
    assert shuffled == [as_array[2], as_array[0], as_array[1]]
    assert len(set(as_array)) == 3


def test_digest_samples_of_files_is_that_of_their_bytes(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path in paths:
        Image.new("RGB", (9, 9), "red").save(path)
    first, second = digest_samples(as_samples(paths, PREPROCESSING))
    assert first == second == file_content(paths[0]).digest


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_digest_samples_of_flat_rows_differ_where_pixels_do(dtype):
    rows = np.arange(128, dtype=dtype).reshape(2, 64)
    samples = as_samples(rows, PREPROCESSING, image_shape=(8, 8), value_range=(0, 255))
    assert len(set(digest_samples(samples))) == 2


def test_digest_samples_that_cannot_be_read(tmp_path):
    good, gone = tmp_path / "0.png", tmp_path / "1.png"
    for path in (good, gone):
        Image.new("RGB", (4, 3)).save(path)
    samples = as_samples([good, gone], PREPROCESSING)
    gone.unlink()
    with pytest.raises(
        UnreadableSampleError, match=r"sample 1 .*No such file or direct"
    ):
        digest_samples(samples)
    failed = {}
    assert digest_samples(samples, failed) == [file_content(str(good)).digest, None]
    assert [*failed] == [1] and "No such file" in failed[1]


class Reads(Dataset):
    n_reads = 0

    def __len__(self):
        return 3

    def __getitem__(self, i):
        self.n_reads += 1
        return Image.new("RGB", (4, 3), (i, 0, 0)), i


def test_digest_samples_reads_items_once_for_label_and_digest():
    dataset = Reads()
    samples = as_samples(dataset, PREPROCESSING)
    assert samples.labels.tolist() == [0, 1, 2]
    assert len({*digest_samples(samples)}) == 3
    assert dataset.n_reads == 1 + 3  # the first tells the kind of all


@pytest.fixture
def sequences():
    """Return sequences of two padded lengths in mixed order."""
    rng = np.random.RandomState(0)
    lengths = (3, 12, 2, 9, 8, 16, 3)
    return Sequences([rng.randint(50, size=n).tolist() for n in lengths])


def sequence_backbone():
    return load_backbone(SequenceNetwork(), preprocessing=SequencePreprocessing())


def test_groups_of_several_lengths_equal_each_one_alone(sequences, runtime, tmp_path):
    toy, disk = sequence_backbone(), open_disk_store(tmp_path)
    preprocessing, stages = toy.preprocessing, toy.module.stages.values()
    shape = toy.activation_shape("block2")
    pool = Pool("avgmax", 1, shape, preprocessing.input_shape)
    targets = [Target("block2"), Target("block2", pool), Target("input")]
    expected = gather(Pass(toy, targets, store=None, runtime=runtime), sequences)
    for i, ids in enumerate(sequences):
        prepared = preprocessing.prepare(ids)
        state = map_state(lambda a: torch.from_numpy(a[None]), prepared)
        with torch.no_grad():
            for stage in stages:
                state = stage(state)
        np.testing.assert_allclose(
            expected[0][i]["hidden"], state["hidden"][0], rtol=2e-3, atol=2e-3
        )
        real = state["hidden"][0, : len(ids)]
        pooled = torch.cat([real.mean(0), real.amax(0)])
        np.testing.assert_allclose(expected[1][i], pooled, rtol=2e-3, atol=2e-3)
        assert expected[0][i]["mask"].dtype == bool
        assert expected[0][i]["hidden"].dtype == np.float16
        restored = to_tensor([expected[2][i]])
        for name, part in prepared.items():
            np.testing.assert_array_equal(restored[name][0], part)
    order = np.random.RandomState(1).permutation(7)
    store, first = Store(MemoryStore(), disk), [Target("block0")]
    gather(Pass(toy, first, store=store, runtime=runtime), sequences.take(order[:5]))
    for n_computed in (7, 0):  # the second takes all from disk
        a_pass = Pass(toy, targets, store=Store(MemoryStore(), disk), runtime=runtime)
        for rows, same in zip(gather(a_pass, sequences), expected, strict=True):
            np.testing.assert_equal(rows, same)
        assert a_pass.n_computed == n_computed


def test_rows_of_a_batch_are_of_one_length(sequences, store, runtime):
    a_pass = Pass(sequence_backbone(), [Target("block0")], store=store, runtime=runtime)
    for _ in range(2):
        for _, (rows,) in a_pass.iterate(sequences):
            assert len({len(row["mask"]) for row in rows}) == 1
    mixed = a_pass.as_input(
        [row for _, (rows,) in a_pass.iterate(sequences) for row in rows]
    )
    assert mixed["hidden"].shape == (7, 16, 16) and mixed["mask"].sum() == 53
