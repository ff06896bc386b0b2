"""Datasets of PyTorch and torchvision."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import FakeData, ImageFolder

from sktransfer.inputs import ImagePreprocessing, as_samples

PREPROCESSING = ImagePreprocessing((8, 8), 8, "bilinear", (0.5,) * 3, (0.5,) * 3)
COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


def samples_of(X, **options):
    return as_samples(X, PREPROCESSING, **options)


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image)


def colours(samples):
    return [image.getpixel((0, 0)) for image in samples]


class Pairs(Dataset):
    """A dataset of given items, that counts its reads."""

    def __init__(self, items):
        self.items, self.n_reads = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.n_reads += 1
        return self.items[i]


def test_image_folder_gives_paths_and_class_names(folder):
    samples = samples_of(ImageFolder(folder))
    assert len(samples) == 6
    names = ["blue", "blue", "green", "green", "red", "red"]
    assert samples.labels.tolist() == names
    assert colours(samples) == [COLOURS[name] for name in names]
    assert samples.content(0) == str(folder / "blue" / "0.png")
    part = samples.take([5, 0])
    assert part.labels.tolist() == ["red", "blue"]


def test_image_folder_with_transform(folder):
    gray = transforms.Grayscale()
    samples = samples_of(ImageFolder(folder, transform=gray))
    assert colours(samples)[0] == (29, 29, 29)
    assert samples.labels[-1] == "red"
    assert samples.describe(5) == f"sample 5 ({str(folder / 'red' / '1.png')!r})"
    assert samples.content(0) == b"RGB 5 x 3:" + bytes([29]) * 45


def test_image_folder_to_tensor(folder):
    dataset = ImageFolder(folder, transform=transforms.ToTensor())
    samples = samples_of(dataset)
    assert samples.value_range == (0, 1)
    assert colours(samples)[0] == COLOURS["blue"]
    dataset.transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )
    with pytest.raises(ValueError, match="look normalised already"):
        samples_of(dataset)
    samples = samples_of(dataset, value_range=(-1, 1))
    assert colours(samples)[0] == COLOURS["blue"]
    samples = samples_of(dataset, value_range=(0, 1))
    with pytest.raises(ValueError, match=r"sample 0 \('.*within .*\(0, 1\). Got -1"):
        samples[0]


def test_image_folder_with_target_transform(folder):
    dataset = ImageFolder(folder, target_transform=lambda index: 10 * index)
    assert samples_of(dataset).labels.tolist() == [0, 0, 10, 10, 20, 20]


def test_image_folder_missing_file(folder):
    dataset = ImageFolder(folder)
    (folder / "green" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"sample 3 \(.*1.png'\), .*does not exist"):
        samples_of(dataset)
    with pytest.raises(ValueError, match=r"sample 1 \(.*1.png'\), .*does not exist"):
        samples_of(Subset(dataset, [0, 3]))


def test_subsets(folder):
    dataset = Subset(Subset(ImageFolder(folder), [5, 3, 0]), [2, 0])
    samples = samples_of(dataset)
    assert samples.labels.tolist() == ["blue", "red"]
    assert colours(samples) == [COLOURS["blue"], COLOURS["red"]]
    assert samples.describe(1).startswith("sample 1 (")


def test_subset_decides_value_range_on_its_own():
    X = torch.tensor([0.0, 300.0, 1.0, torch.nan]).reshape(4, 1, 1)
    samples = samples_of(Subset(TensorDataset(X), [2, 0]))
    assert samples.value_range == (0, 1)
    assert colours(samples) == [(255, 255, 255), (0, 0, 0)]
    with pytest.raises(ValueError, match="NaN or infinity. Got one in sample 1;"):
        samples_of(Subset(TensorDataset(X), [0, 3]))


def test_fake_data_is_read_lazily():
    dataset = FakeData(size=9, image_size=(3, 10, 12), num_classes=4)
    samples = samples_of(dataset)
    assert samples.labels.tolist() == [int(dataset[i][1]) for i in range(9)]
    np.testing.assert_array_equal(pixels(samples[4]), np.asarray(dataset[4][0]))
    assert samples.describe(4) == "sample 4"


def test_tensor_dataset():
    X = torch.arange(2 * 3 * 8 * 9).reshape(2, 3, 8, 9).remainder(256).byte()
    samples = samples_of(TensorDataset(X, torch.tensor([7, 5])))
    np.testing.assert_array_equal(samples.labels, [7, 5])
    np.testing.assert_array_equal(pixels(samples[1]), X[1].permute(1, 2, 0))
    assert samples_of(TensorDataset(X)).labels is None


def test_dataset_of_images_is_read_once_to_find_its_kind():
    dataset = Pairs([(Image.new("RGB", (4, 3), name), name) for name in COLOURS])
    samples = samples_of(dataset)
    assert dataset.n_reads == 1
    assert colours(samples.take([1])) == [COLOURS["green"]]
    assert dataset.n_reads == 2
    assert samples.take([2, 0]).labels.tolist() == ["blue", "red"]


def test_dataset_targets_are_used():
    dataset = Pairs([(Image.new("RGB", (4, 3)), 0)] * 3)
    dataset.targets = torch.tensor([4, 5, 6])
    assert samples_of(dataset).labels.tolist() == [4, 5, 6]
    assert dataset.n_reads == 1
    dataset.target_transform = lambda target: -int(target)
    assert samples_of(dataset).labels.tolist() == [-4, -5, -6]


def test_dataset_of_bare_images_and_paths(paths):
    samples = samples_of(Pairs(paths))
    assert samples.labels is None
    assert colours(samples) == list(COLOURS.values())
    labelled = Pairs([(np.zeros((2, 2), np.uint8), torch.tensor(3))])
    assert samples_of(labelled).labels.tolist() == [3]


def test_dataset_with_wrong_items():
    with pytest.raises(TypeError, match=r"\(image, label\). Got 3 values in item 0"):
        samples_of(Pairs([(1, 2, 3)]))
    with pytest.raises(TypeError, match="Got dict as the image of item 0"):
        samples_of(Pairs([{"image": 1}]))
    with pytest.raises(TypeError, match="or images and labels. Got 3 tensors"):
        samples_of(TensorDataset(*[torch.zeros(2, 4, 4)] * 3))


def test_dataset_without_length():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(TypeError, match="A dataset must have a length. Got Stream"):
        samples_of(Stream())
