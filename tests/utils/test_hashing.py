import os
import time

import pytest

from sktransfer.utils import FileCache, _hashing, content_stamp


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def write(path, content, seconds=10**9):
    path.write_bytes(content)
    os.utime(path, (seconds, seconds))


def test_content_stamp_depends_on_content_only(path, tmp_path):
    write(path, b"one")
    first = content_stamp(path)
    assert len(first) == 32 and int(first, 16)
    write(path, b"two")
    assert content_stamp(path) != first
    write(path, b"one", 10)
    assert content_stamp(str(path)) == first
    (tmp_path / "link").symlink_to(path)
    assert content_stamp(tmp_path / "link") == first


@pytest.mark.parametrize(("age", "n_reads"), [(3, 1), (1, 2), (-5, 2)])
def test_recently_written_file_is_hashed_again(path, monkeypatch, age, n_reads):
    write(path, b"one")
    ctime, reads = os.stat(path).st_ctime_ns, []
    monkeypatch.setattr(time, "time_ns", lambda: ctime + age * 10**9)
    real = _hashing.hashlib.file_digest
    monkeypatch.setattr(
        _hashing.hashlib, "file_digest", lambda *args: reads.append(args) or real(*args)
    )
    assert content_stamp(path) == content_stamp(path)
    assert len(reads) == n_reads


def test_files_read_longest_ago_are_discarded(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 2**62)  # all files are old
    monkeypatch.setattr(_hashing, "_MOST", 2)
    reads = []
    memory = FileCache(lambda file: reads.append(file.read()))
    for name in "abc":
        write(tmp_path / name, name.encode())
    for name in "abab":
        memory(tmp_path / name)
    assert reads == [b"a", b"b"]
    write(tmp_path / "a", b"A", 10)
    for name in "acab":
        memory(tmp_path / name)
    assert reads == [b"a", b"b", b"A", b"c", b"b"]


def test_missing_file(path):
    with pytest.raises(FileNotFoundError):
        content_stamp(path)
