"""Datasets of PyTorch and torchvision."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.utils.data import (
    ConcatDataset,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)
from torchvision import transforms
from torchvision.datasets import MNIST, DatasetFolder, FakeData, ImageFolder

from sktransfer.inputs import ImagePreprocessing, as_samples
from sktransfer.inputs.images._datasets import DatasetItems, Unreadable, explain
from sktransfer.utils import digest

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


def test_image_folder_gives_paths_and_the_labels_of_its_items(folder):
    samples = samples_of(ImageFolder(folder))
    assert len(samples) == 6
    names = ["blue", "blue", "green", "green", "red", "red"]
    assert samples.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert colours(samples) == [COLOURS[name] for name in names]
    assert samples.encoded(0) == str(folder / "blue" / "0.png")
    part = samples.take([5, 0])
    assert part.labels.tolist() == [2, 0]


def test_image_folder_with_transform(folder):
    gray = transforms.Grayscale()
    samples = samples_of(ImageFolder(folder, transform=gray))
    assert colours(samples)[0] == (29, 29, 29)
    assert samples.labels[-1] == 2
    assert samples.describe(5) == f"sample 5 ({str(folder / 'red' / '1.png')!r})"
    assert samples.encoded(0) is None
    assert samples.digest(0) == digest(b"RGB 5 x 3:" + bytes([29]) * 45)


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
    assert samples.labels.tolist() == [0, 2]
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


def test_labels_are_those_of_the_items_not_of_the_list():
    dataset = Pairs([(Image.new("RGB", (4, 3)), i % 2) for i in range(3)])
    dataset.targets = torch.tensor([4, 5, 6])
    dataset.target_transform = lambda target: -int(target)
    assert samples_of(dataset).labels.tolist() == [0, 1, 0]


def test_items_that_were_read_for_their_label_are_known():
    dataset = Pairs([(Image.new("RGB", (4, 3), name), name) for name in COLOURS])
    samples = samples_of(dataset)
    n_before = dataset.n_reads
    assert samples.labels.tolist() == list(COLOURS)
    known = [samples.digest(i) for i in range(3)]
    assert samples.take([2, 0]).labels.tolist() == ["blue", "red"]
    assert dataset.n_reads == n_before + 3
    assert known == [samples.read(i)[0] for i in range(3)]


class Mapped(ImageFolder):
    """Subclass whose items have other labels than its lists."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, 10 * label


def test_labels_of_subclasses_of_folders(folder):
    samples = samples_of(Mapped(folder))
    assert samples.labels.tolist() == [0, 0, 10, 10, 20, 20]
    stale = ImageFolder(folder)
    stale.targets = [7] * 6  # which its items do not come from
    assert samples_of(stale).labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_labels_of_a_folder_whose_reading_was_replaced(folder, monkeypatch):
    read = DatasetFolder.__getitem__
    monkeypatch.setattr(
        DatasetFolder, "__getitem__", lambda self, i: (read(self, i)[0], 5)
    )
    assert samples_of(ImageFolder(folder)).labels.tolist() == [5] * 6


def mnist(**transforms):
    """Return a small MNIST, which needs no file."""
    dataset = MNIST.__new__(MNIST)
    dataset.data = torch.arange(2 * 28 * 28).reshape(2, 28, 28).remainder(256).byte()
    dataset.targets = torch.tensor([3, 7])
    dataset.transform = dataset.target_transform = None
    vars(dataset).update(transforms)
    return dataset


def test_known_datasets_are_not_read_for_their_labels():
    def fail(image):
        raise AssertionError("read")

    samples = samples_of(mnist())
    samples._items.dataset.transform = fail
    assert samples.labels.tolist() == [3, 7]
    assert samples_of(mnist(target_transform=str)).labels.tolist() == ["3", "7"]


def test_concatenated_folders_give_paths_and_labels(folder):
    whole = ImageFolder(folder)
    parts = ConcatDataset([Subset(whole, [5, 0]), ConcatDataset([whole])])
    samples = samples_of(Subset(parts, [0, 1, 7]))
    assert samples.labels.tolist() == [parts[i][1] for i in (0, 1, 7)] == [2, 0, 2]
    assert [samples.encoded(i) for i in range(3)] == [
        whole.samples[i][0] for i in (5, 0, 5)
    ]


@pytest.mark.parametrize("transform", [None, transforms.Grayscale()])
def test_concatenated_folders_of_other_classes(folder, tmp_path, transform):
    (tmp_path / "eels" / "eel").mkdir(parents=True)
    Image.new("RGB", (4, 3)).save(tmp_path / "eels" / "eel" / "0.png")
    eels = ImageFolder(tmp_path / "eels", transform=transform)
    joined = ConcatDataset([ImageFolder(folder, transform=transform), eels])
    nested = ConcatDataset([Subset(joined, [0, 6])])
    for X in (joined, Subset(nested, [1])) if transform is None else (joined,):
        samples = samples_of(X)  # fine, where y is passed
        with pytest.raises(
            ValueError,
            match="Got the label 0 for both 'blue' and 'eel'; pass y",
        ):
            samples.labels  # noqa: B018
    eels.target_transform = lambda label: 3
    assert samples_of(joined).labels.tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_concatenated_datasets_of_other_kinds(folder):
    images = Pairs([(Image.new("RGB", (4, 3)), 2), (Image.new("RGB", (4, 3)), 0)])
    samples = samples_of(ConcatDataset([ImageFolder(folder), images]))
    assert samples.labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 0]


def test_folder_is_read_as_its_loader_leaves_images(folder):
    path = folder / "blue" / "0.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (5, 3), "blue").save(path, exif=exif)
    dataset = ImageFolder(folder)
    as_it_lies, upright = samples_of(dataset), samples_of([str(path)])
    assert as_it_lies[0].size == dataset[0][0].size == (5, 3)
    assert upright[0].size == (3, 5)
    assert as_it_lies.digest(0) == as_it_lies.read(0)[0] != upright.digest(0)
    untagged = dataset.samples[1][0]
    assert as_it_lies.digest(1) == samples_of([untagged]).digest(0)


def test_dataset_that_fills_one_array_again_and_again():
    class Reusing(Dataset):
        image = np.zeros((8, 8, 3), np.uint8)

        def __len__(self):
            return 3

        def __getitem__(self, i):
            self.image[:] = 100 * i
            return self.image

    items = DatasetItems(Reusing())
    first, second = items[0], items[1]
    assert (first.max(), second.min()) == (0, 100)


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


def test_unreadable_makes_the_error_of_its_row():
    cause = OSError("no")
    error = Unreadable("it is empty", "a.png", cause).error(7)
    assert (error.row, error.name, error.reason) == (7, "a.png", "it is empty")
    assert error.__cause__ is cause


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("cut off"), "cut off"),
        (ValueError("no shape"), "no shape"),
        (KeyError("page"), "KeyError: 'page'"),
        (ValueError(), "ValueError"),
    ],
)
def test_explain_adds_the_type_to_a_short_text(error, words):
    assert explain(error) == words
