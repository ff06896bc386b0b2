import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyarrow import parquet

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import forward_passes, process_store
from sktransfer.model import _parquet

N = 10


def _save_images(folder, seed=0):
    rng, paths = np.random.RandomState(seed), []
    for i in range(N):
        paths.append(str(folder / f"{i}.png"))
        Image.fromarray(rng.randint(0, 256, (40, 50, 3), np.uint8)).save(paths[-1])
    return paths


@pytest.fixture
def paths(tmp_path):
    return _save_images(tmp_path)


@pytest.fixture
def extractor(paths):
    return PretrainedFeatureExtractor(image_size=32, stage=["blocks.1", 2]).fit(paths)


def n_computed():
    return sum(n for (_, start, _), n in forward_passes().items() if start == "input")


def test_file_holds_what_transform_returns(extractor, paths, tmp_path):
    file = tmp_path / "features.parquet"
    assert extractor.transform_to(paths, file, chunk_size=4) == file
    found = pd.read_parquet(file)
    assert found.columns.tolist() == extractor.get_feature_names_out().tolist()
    assert found.index.tolist() == paths and found.index.name == "sample"
    assert np.array_equal(found.to_numpy(), extractor.transform(paths))
    left = {str(path) for path in tmp_path.iterdir()} - {*paths}
    assert left == {str(file)}


def test_arrays_have_no_index_of_paths(tmp_path):
    X = np.random.RandomState(0).rand(3, 20, 20)
    extractor = PretrainedFeatureExtractor(image_size=32).fit(X)
    found = pd.read_parquet(extractor.transform_to(X, tmp_path / "a.parquet"))
    assert found.index.tolist() == [0, 1, 2] and found.index.name is None


def test_paths_may_be_mixed_with_contents(extractor, paths, tmp_path):
    with open(paths[3], "rb") as file:
        X = [*paths[:2], file.read()]
    found = pd.read_parquet(extractor.transform_to(X, tmp_path / "a", chunk_size=1))
    assert found.index[:2].tolist() == paths[:2] and pd.isna(found.index[2])
    assert np.array_equal(found.to_numpy(), extractor.transform(X))


def test_only_one_part_is_computed_at_a_time(extractor, paths, tmp_path, monkeypatch):
    sizes, features = [], type(extractor.model_).features

    def counted(model, samples, **settings):
        sizes.append(len(samples))
        return features(model, samples, **settings)

    monkeypatch.setattr(type(extractor.model_), "features", counted)
    extractor.transform_to(paths, tmp_path / "a.parquet", chunk_size=4)
    assert sizes == [4, 4, 2]


KILLED = """
    import os, signal, sys
    from sktransfer import PretrainedFeatureExtractor
    from sktransfer.model import _parquet

    write, written = _parquet._write_whole, []

    def write_two(*args):
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(write(*args))

    _parquet._write_whole = write_two
    target, *paths = sys.argv[1:]
    extractor = PretrainedFeatureExtractor(image_size=32, stage=["blocks.1", 2])
    extractor.fit(paths).transform_to(paths, target, chunk_size=4)
"""


@pytest.fixture
def killed(paths, tmp_path):
    """Kill a process that has written two of three parts; return the path."""
    file = tmp_path / "features.parquet"
    code = textwrap.dedent(KILLED)
    done = subprocess.run([sys.executable, "-c", code, str(file), *paths], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not file.exists()
    process_store().clear()
    forward_passes().clear()
    return file


def test_killed_process_is_resumed(killed, extractor, paths):
    extractor.transform_to(paths, killed, chunk_size=4)
    assert n_computed() == 2  # the last part
    found = pd.read_parquet(killed).to_numpy()
    assert np.array_equal(found, extractor.transform(paths))
    assert not list(killed.parent.glob(".features*"))


def test_parts_of_other_samples_and_parameters_are_not_taken(killed, paths):
    _save_images(killed.parent, seed=1)
    other = PretrainedFeatureExtractor(image_size=32, stage=["blocks.1", 2]).fit(paths)
    other.transform_to(paths, killed, chunk_size=4)
    assert n_computed() == N
    assert np.array_equal(pd.read_parquet(killed), other.transform(paths))


def test_resumed_call_warns_of_unreadable_images_of_earlier_parts(
    extractor, paths, tmp_path, monkeypatch
):
    (tmp_path / "0.png").write_bytes(b"no image")
    extractor.set_params(on_error="warn")
    file, write, written = tmp_path / "a.parquet", _parquet._write_whole, []

    def write_two(*args):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write(*args))

    with monkeypatch.context() as patched:
        patched.setattr(_parquet, "_write_whole", write_two)
        with pytest.raises(KeyboardInterrupt):
            extractor.transform_to(paths, file, chunk_size=4)
    with pytest.warns(UserWarning, match=r"0\.png"):
        extractor.transform_to(paths, file, chunk_size=4)
    schema = parquet.read_schema(file)
    assert not [key for key in schema.metadata if key.startswith(b"sktransfer")]


def test_broken_part_is_computed_again(killed, extractor, paths):
    first, *_ = sorted((killed.parent / ".features.parquet.parts").iterdir())
    first.write_bytes(first.read_bytes()[:-100])
    extractor.transform_to(paths, killed, chunk_size=4)
    assert np.array_equal(pd.read_parquet(killed), extractor.transform(paths))


def test_unreadable_images_are_rows_of_nan(extractor, paths, tmp_path):
    for name in ("0.png", "5.png"):  # in two of three parts
        (tmp_path / name).write_bytes(b"no image")
    extractor.set_params(on_error="warn")
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        file = extractor.transform_to(paths, tmp_path / "a.parquet", chunk_size=4)
    (text,) = (str(w.message) for w in caught)  # one for all parts
    assert text.startswith("2 of 10 samples cannot be read: their features are NaN. ")
    assert f"sample 0 ({paths[0]!r}): " in text and f"sample 5 ({paths[5]!r}): " in text
    found = pd.read_parquet(file)
    assert found.isna().all(axis=1).to_numpy().nonzero()[0].tolist() == [0, 5]


OTHER = """
    import sys
    from sktransfer import PretrainedFeatureExtractor

    target, *paths = sys.argv[1:]
    extractor = PretrainedFeatureExtractor(image_size=32, stage=["blocks.1", 2])
    extractor.fit(paths).transform_to(paths, target, chunk_size=4)
"""


def test_one_process_writes_a_file_at_a_time(extractor, paths, tmp_path, monkeypatch):
    file = tmp_path / "a.parquet"
    features, done = type(extractor.model_).features, []

    def start_another(model, samples, **settings):
        if not done:
            command = [sys.executable, "-c", textwrap.dedent(OTHER), str(file), *paths]
            done.append(subprocess.run(command, capture_output=True, text=True))
        return features(model, samples, **settings)

    monkeypatch.setattr(type(extractor.model_), "features", start_another)
    extractor.transform_to(paths, file, chunk_size=4)
    assert done[0].returncode == 1
    text = (
        f"RuntimeError: Another call of `transform_to` is writing {str(file)!r}. Wait"
    )
    assert text in done[0].stderr
    assert np.array_equal(pd.read_parquet(file), extractor.transform(paths))
    assert {*tmp_path.iterdir()} == {file, *map(Path, paths)}


def test_failed_call_leaves_an_older_file_as_it_was(extractor, paths, tmp_path):
    file = tmp_path / "a.parquet"
    extractor.transform_to(paths[:2], file)
    before = file.read_bytes()
    (tmp_path / "9.png").unlink()
    with pytest.raises(ValueError, match=r"9\.png"):
        extractor.transform_to(paths, file, chunk_size=4)
    assert file.read_bytes() == before


@pytest.mark.parametrize("chunk_size", [0, 2.5, True, "all"])
def test_chunk_size_is_checked(extractor, paths, tmp_path, chunk_size):
    with pytest.raises(ValueError, match="`chunk_size` must be a number of samples"):
        extractor.transform_to(paths, tmp_path / "a.parquet", chunk_size=chunk_size)


def test_folder_must_exist(extractor, paths, tmp_path):
    with pytest.raises(ValueError, match="must be that of a file in a folder that"):
        extractor.transform_to(paths, tmp_path / "none" / "a.parquet")


def test_missing_pyarrow_is_named(extractor, paths, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'sktransfer\[parquet\]'"):
        extractor.transform_to(paths, tmp_path / "a.parquet")


def test_every_sample_is_hashed_once(extractor, paths, tmp_path, monkeypatch):
    samples = extractor.model_.read([Image.open(path).copy() for path in paths])
    hashed, digest = [], type(samples).digest

    def counted(samples, i):
        hashed.append(i)
        return digest(samples, i)

    monkeypatch.setattr(type(samples), "digest", counted)
    extractor.transform_to(samples, tmp_path / "a.parquet", chunk_size=4)
    assert len(hashed) == N
