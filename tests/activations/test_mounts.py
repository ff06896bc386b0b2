import os
import warnings

import numpy as np
import pytest

from sktransfer.activations import _mounts
from sktransfer.activations._disk_store import open_disk_store

TABLE = r"""proc /proc proc rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/home /home autofs rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
//server/data /mnt/our\040data cifs rw 0 0
/dev/sdb1 /home/me/scratch xfs rw 0 0
server:/projects {folder} lustre rw 0 0
"""


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Return a folder, which the table of mounts says is shared."""
    folder, table = tmp_path / "shared", tmp_path / "mounts"
    table.write_text(TABLE.format(folder=folder))
    monkeypatch.setattr(_mounts, "_TABLE", str(table))
    return folder


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/cache", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/activations", "nfs4"),
        ("/home/me/scratch/activations", "xfs"),
        ("/homestead", "ext4"),
        ("/mnt/our data/activations", "cifs"),
    ],
)
@pytest.mark.usefixtures("shared")
def test_a_folder_belongs_to_the_innermost_mount(folder, kind):
    assert _mounts.file_system_of(folder) == kind


def test_without_a_table_of_mounts_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(_mounts, "_TABLE", str(tmp_path / "none"))
    assert _mounts.file_system_of("/") is None
    _mounts.warn_if_shared("/")


@pytest.mark.skipif(not os.path.exists("/proc/mounts"), reason="needs Linux")
def test_the_table_of_this_machine_is_read():
    assert _mounts.file_system_of("/proc/self") == "proc"


def test_a_store_on_a_network_file_system_warns_once_and_works(shared):
    folder = shared / "activations"
    with pytest.warns(UserWarning, match=r"network file system \(lustre\)"):
        store = open_disk_store(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = open_disk_store(folder)
        again.put({b"key": np.ones(3, np.float32)})
    assert store.contains([b"key"]) == {b"key"}
