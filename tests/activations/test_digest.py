import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Dataset

from sktransfer.activations import digest_samples
from sktransfer.inputs import (
    ImagePreprocessing,
    UnreadableSampleError,
    as_samples,
)
from sktransfer.inputs.images._files import file_content

PREPROCESSING = ImagePreprocessing(
    size=(8, 8), resize=8, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)


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
