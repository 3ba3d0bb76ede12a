"""The CIFAR-10 workload: how its images are found, read, cached and refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qx_plugins.datasets import cifar10 as cifar10_data
from qx_plugins.datasets.cifar10 import BATCHES, CLASSES, FILES
from qx_plugins.workloads import cifar10_cnn

from qx import Context, Data, DataError, UsageError

PER_CLASS = 4


def pixels_of(split: str, label: int, number: int) -> np.ndarray:
    """Return the image ``[32, 32, 3]`` that the tree has at this place."""
    generator = np.random.default_rng([("train", "test").index(split), label, number])
    return generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def write_tree(root: Path, *, suffix: str = "png", classes: tuple[str, ...] = CLASSES) -> Path:
    for split in ("train", "test"):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for number in range(PER_CLASS):
                image = Image.fromarray(pixels_of(split, label, number))
                image.save(root / split / name / f"{number:04}.{suffix}")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "images")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(data: Path | None, cache: Path | None, split: str = "test") -> Data:
    return cifar10_cnn.load_data(split, Context(data=data, cache=cache, offline=True))


def refusal(data: Path | None, cache: Path | None, split: str = "test") -> str:
    """Return the message with which the data are refused, which is one line."""
    with pytest.raises(DataError) as caught:
        load(data, cache, split)
    message = str(caught.value)
    assert "\n" not in message
    return message


def reference(pixels: np.ndarray) -> np.ndarray:
    """Return the preprocessed images ``[n, 3, 32, 32]`` that the committed weights were trained on."""
    mean = np.array([0.4914, 0.4822, 0.4465], np.float32)
    std = np.array([0.2470, 0.2435, 0.2616], np.float32)
    return ((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)


# Model --------------------------------------------------------------------------------------------


def test_both_forms_of_the_model_share_a_state_dict_and_give_the_same_logits() -> None:
    """The quantizable form takes the plain form's state dict, strictly, and computes the same."""
    import torch

    plain = cifar10_cnn.make_model(Context()).eval()
    stubbed = cifar10_cnn.make_model(Context(quantizable=True)).eval()
    stubbed.load_state_dict(plain.state_dict(), strict=True)
    (images,) = cifar10_cnn.example_inputs(2, Context())

    with torch.inference_mode():
        assert torch.equal(plain(images), stubbed(images))
    assert type(stubbed.quant).__name__ == "QuantStub"
    assert type(plain.quant).__name__ == "Identity"


def test_example_inputs_are_the_same_every_time_for_a_seed() -> None:
    """Example inputs are float32 ``[batch, 3, 32, 32]`` and depend on nothing but the seed."""
    import torch

    (first,) = cifar10_cnn.example_inputs(3, Context(seed=7))
    torch.randn(5)
    (second,) = cifar10_cnn.example_inputs(3, Context(seed=7))
    (other,) = cifar10_cnn.example_inputs(3, Context(seed=8))

    assert first.shape == (3, 3, 32, 32)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_listing_the_workloads_imports_nothing_heavy() -> None:
    """Importing a workload and asking what it is imports neither numpy nor torch, PIL nor scikit-learn."""
    code = (
        "import sys; from qx_plugins.workloads import cifar10_cnn, digits_cnn;"
        "cifar10_cnn.describe(); digits_cnn.describe();"
        "print([name for name in ('numpy', 'torch', 'PIL', 'sklearn') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_it_is_the_default_and_names_its_fallback() -> None:
    """The record makes it the workload of a plain ``qx run``, and the digits its stand-in without data."""
    record = cifar10_cnn.describe()
    assert (record.name, record.default, record.fallback) == ("cifar10_cnn", True, "digits_cnn")


# A tree of images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_tree_gives_its_images_by_class_and_name(tree: Path, cache: Path, split: str) -> None:
    """Images come class by class in alphabetical order, by name within a class, normalised bit for bit."""
    data = load(tree, cache, split)

    expected = np.stack(
        [pixels_of(split, label, number) for label in range(10) for number in range(PER_CLASS)]
    )
    images = np.asarray(data.inputs["image"])
    assert images.dtype == np.float32
    assert np.array_equal(images.view(np.int32), np.ascontiguousarray(reference(expected)).view(np.int32))
    assert np.array_equal(data.targets["labels"], np.repeat(np.arange(10), PER_CLASS))
    assert data.targets["labels"].dtype == np.int64
    assert data.classes == CLASSES


def test_images_are_normalised_as_they_are_indexed(tree: Path, cache: Path) -> None:
    """The lazy images are indexed by an integer, a slice or an array, and agree with the whole array."""
    images = load(tree, cache).inputs["image"]
    whole = np.asarray(images)

    assert images.shape == whole.shape == (10 * PER_CLASS, 3, 32, 32)
    assert images.dtype == whole.dtype
    assert len(images) == 10 * PER_CLASS
    chosen = np.array([7, 0, -1])
    for key in (
        3,
        np.int64(3),
        -1,
        slice(2, 9, 3),
        slice(0, 0),
        chosen,
        chosen.tolist(),
        whole[:, 0, 0, 0] > 0,
    ):
        assert np.array_equal(images[key], whole[key])
    with pytest.raises(IndexError):
        images[10 * PER_CLASS]
    with pytest.raises(IndexError, match="first axis only"):
        images[0, 0]


def test_lazy_images_obey_numpy_when_it_asks_for_an_array(tree: Path, cache: Path) -> None:
    """``__array__`` heeds a dtype, and refuses to promise that it makes no copy."""
    images = load(tree, cache).inputs["image"]

    assert images.__array__().dtype == np.float32
    assert np.array_equal(np.asarray(images, dtype=np.float64), np.asarray(images).astype(np.float64))
    assert np.array_equal(images.__array__(np.float32, copy=True), np.asarray(images))
    with pytest.raises(ValueError, match="no array to share"):
        images.__array__(copy=False)


@pytest.mark.parametrize(
    ("suffix", "classes", "source"),
    [
        ("jpg", CLASSES, "CIFAR-10, JPEG copy"),
        ("JPEG", CLASSES, "CIFAR-10, JPEG copy"),
        ("png", CLASSES, "CIFAR-10, my images"),
        ("jpg", tuple(f"kind{number}" for number in range(10)), "my images"),
    ],
)
def test_the_source_says_what_data_were_used(
    tmp_path: Path, suffix: str, classes: tuple[str, ...], source: str
) -> None:
    """The name of the data tells a JPEG copy from another tree of CIFAR-10, and that from other images."""
    root = write_tree(tmp_path / "my images", suffix=suffix, classes=classes)
    assert load(root, tmp_path / "cache").source == source


def test_grey_and_palette_images_are_read_as_rgb(tree: Path, cache: Path) -> None:
    """An image of any mode that PIL reads becomes one of three channels."""
    grey = np.arange(1024, dtype=np.uint32).reshape(32, 32).astype(np.uint8)
    Image.fromarray(grey).save(tree / "test" / "airplane" / "0000.png")
    Image.fromarray(grey).convert("P").save(tree / "test" / "airplane" / "0001.png")

    images = load(tree, cache).inputs["image"]
    expected = reference(np.repeat(grey[np.newaxis, :, :, np.newaxis], 3, axis=3))[0]
    assert np.array_equal(images[0], expected)
    assert np.array_equal(images[1], expected)


def test_files_beside_the_images_that_are_not_for_us_are_passed_over(tree: Path, cache: Path) -> None:
    """Hidden files, and files among the folders, change nothing."""
    before = np.asarray(load(tree, None).inputs["image"])
    (tree / "README.md").write_text("what this is")
    (tree / "test" / "labels.txt").write_text("airplane")
    (tree / "test" / ".hidden").mkdir()
    (tree / "test" / "cat" / ".DS_Store").write_bytes(b"\0")
    assert np.array_equal(np.asarray(load(tree, cache).inputs["image"]), before)


# Keeping what was decoded -------------------------------------------------------------------------


def test_images_are_decoded_once(tree: Path, cache: Path) -> None:
    """A second loading opens no image, and maps the pixels that were kept."""
    first = np.asarray(load(tree, cache).inputs["image"])
    (kept,) = cache.iterdir()
    written = kept.stat().st_mtime_ns
    messages: list[str] = []
    context = Context(data=tree, cache=cache, progress=lambda done, text: messages.append(text))

    second = np.asarray(cifar10_cnn.load_data("test", context).inputs["image"])
    assert np.array_equal(first, second)
    assert messages == []
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [written]


def test_only_the_split_that_is_asked_for_is_decoded(tree: Path, cache: Path) -> None:
    """Loading the test split reads no training image, and the train split is kept beside it later."""
    (tree / "train" / "cat" / "0000.png").write_bytes(b"no image")
    load(tree, cache, "test")
    assert len(list(cache.iterdir())) == 1
    assert "cat" in refusal(tree, cache, "train")


def test_a_changed_tree_is_decoded_again(tree: Path, cache: Path) -> None:
    """A changed image with the same size and modification time is noticed, and the old pixels are removed."""
    path = tree / "test" / "dog" / "0002.bmp"
    (tree / "test" / "dog" / "0002.png").unlink()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    before = path.stat()
    old = load(tree, cache).inputs["image"][5 * PER_CLASS + 2]

    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(path)
    # The clock of a file system may be coarse.
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    new = load(tree, cache).inputs["image"][5 * PER_CLASS + 2]
    assert not np.array_equal(old, new)
    assert np.array_equal(new, reference(np.full((1, 32, 32, 3), 200, np.uint8))[0])
    assert len(list(cache.iterdir())) == 1


def test_two_trees_do_not_take_each_others_place(tmp_path: Path, cache: Path) -> None:
    """The pixels of a second tree are kept beside those of the first."""
    load(write_tree(tmp_path / "one"), cache)
    load(write_tree(tmp_path / "two"), cache)
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_cache_is_made_anew(tree: Path, cache: Path) -> None:
    """Kept pixels that were cut short are decoded again, not used."""
    first = np.asarray(load(tree, cache).inputs["image"])
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert np.array_equal(np.asarray(load(tree, cache).inputs["image"]), first)


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tree: Path, cache: Path) -> None:
    """When the pixels cannot be written whole, one line says so, and the cache holds no part of them."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        message = refusal(tree, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(cache) in message
    assert "File too large" in message
    assert "make room" in message
    assert list(cache.iterdir()) == []


def test_progress_is_told_while_decoding(tree: Path, cache: Path) -> None:
    """Decoding reports a fraction that ends at 1."""
    shares: list[float] = []
    cifar10_cnn.load_data(
        "test", Context(data=tree, cache=cache, progress=lambda done, text: shares.append(done))
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# Trees that cannot be used ------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, cache: Path) -> None:
    """A missing folder is refused by name, with the two layouts that would do."""
    message = refusal(tmp_path / "nowhere", cache)
    assert f"{tmp_path / 'nowhere'} cannot be read: No such file or directory" in message
    assert BATCHES in message
    assert "{train,test}/<class>/<image>" in message


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path, cache: Path) -> None:
    """A file of a kind that is not taken is refused by name."""
    (tmp_path / "images.zip").write_bytes(b"PK")
    message = refusal(tmp_path / "images.zip", cache)
    assert f"{tmp_path / 'images.zip'}: a file of this kind is not taken; expected a folder" in message


def test_an_empty_folder_is_refused(tmp_path: Path, cache: Path) -> None:
    """An empty folder is said to be empty."""
    (tmp_path / "images").mkdir()
    assert f"{tmp_path / 'images'} is empty" in refusal(tmp_path / "images", cache)


def test_a_folder_of_neither_layout_is_refused(tmp_path: Path, cache: Path) -> None:
    """A folder of other things is refused, with the two layouts that would do."""
    (tmp_path / "images" / "cats").mkdir(parents=True)
    message = refusal(tmp_path / "images", cache)
    assert f"{tmp_path / 'images'} holds no CIFAR-10" in message
    assert BATCHES in message
    assert "{train,test}/<class>/<image>" in message


def test_a_folder_of_both_layouts_is_refused(tree: Path, cache: Path) -> None:
    """Where both layouts are, neither is taken in silence."""
    (tree / BATCHES).mkdir()
    assert "holds both" in refusal(tree, cache)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_tree_without_one_split_is_refused(tree: Path, cache: Path, split: str) -> None:
    """A tree of one split is refused whichever is asked for, with the missing one named."""
    shutil.rmtree(tree / split)
    for asked in ("train", "test"):
        assert f"{tree} has no folder '{split}'" in refusal(tree, cache, asked)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_that_one_split_lacks_is_named(tree: Path, cache: Path, split: str) -> None:
    """A class that is in one split only is named, with the split that lacks it."""
    shutil.rmtree(tree / split / "frog")
    for asked in ("train", "test"):
        assert f"{tree / split} lacks class folder 'frog'" in refusal(tree, cache, asked)


@pytest.mark.parametrize("count", [9, 11])
def test_another_number_of_classes_is_refused(tmp_path: Path, cache: Path, count: int) -> None:
    """A tree with fewer or more classes than the model has is refused, with both numbers."""
    root = write_tree(tmp_path / "images", classes=tuple(f"kind{number:02}" for number in range(count)))
    assert f"{root / 'train'} has {count} class folders, the model has 10 classes" in refusal(root, cache)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_folder_without_images_is_named(tree: Path, cache: Path, split: str) -> None:
    """An empty class folder is named, whichever split is asked for."""
    for path in (tree / split / "deer").iterdir():
        path.unlink()
    for asked in ("train", "test"):
        assert f"{tree / split} has no images in class folder 'deer'" in refusal(tree, cache, asked)


def test_images_that_cannot_be_read_are_named_and_counted(tree: Path, cache: Path) -> None:
    """The first three damaged images are named with what is wrong with them, and all are counted."""
    cut = tree / "test" / "airplane" / "0001.png"
    cut.write_bytes(cut.read_bytes()[:1500])
    (tree / "test" / "bird" / "0000.png").write_text("no image")
    (tree / "test" / "cat" / "0003.png").write_bytes(b"")
    (tree / "test" / "ship" / "0000.png").write_bytes(b"\xff\xd8\xff")
    (tree / "test" / "truck" / "folder.png").mkdir()

    message = refusal(tree, cache)
    assert f"5 images of {10 * PER_CLASS + 1} cannot be used" in message
    assert f"{cut} cannot be read (" in message
    assert f"{tree / 'test' / 'bird' / '0000.png'} is not an image" in message
    assert f"{tree / 'test' / 'cat' / '0003.png'} is not an image" in message
    assert message.endswith("and 2 more")
    assert not cache.exists()


def test_a_truncated_jpeg_is_refused(tmp_path: Path, cache: Path) -> None:
    """A JPEG of which the end is missing is not filled up with grey."""
    root = write_tree(tmp_path / "images", suffix="jpg")
    path = root / "test" / "horse" / "0000.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert f"1 image of {10 * PER_CLASS} cannot be used: {path} cannot be read" in refusal(root, cache)


def test_an_image_of_another_size_is_named(tree: Path, cache: Path) -> None:
    """An image that is not 32x32 is refused with its size, not scaled in silence."""
    path = tree / "test" / "dog" / "0001.png"
    Image.fromarray(np.zeros((48, 32, 3), np.uint8)).save(path)
    assert f"{path} is 32x48 pixels, not 32x32" in refusal(tree, cache)


def test_a_link_to_nowhere_is_named(tree: Path, cache: Path) -> None:
    """An image that is a link to a file that is gone is named."""
    path = tree / "test" / "dog" / "0009.png"
    path.symlink_to(tree / "gone.png")
    assert f"{path} cannot be read: No such file" in refusal(tree, cache)


# No folder named ----------------------------------------------------------------------------------


def test_without_a_folder_the_cache_is_looked_at(tmp_path: Path, cache: Path) -> None:
    """Data in ``cifar10`` in the cache folder are used when no folder was named."""
    write_tree(cache / "cifar10")
    assert len(load(None, cache).targets["labels"]) == 10 * PER_CLASS


def test_a_named_folder_is_not_replaced_by_the_cache(tmp_path: Path, cache: Path) -> None:
    """A folder that the user named is an error when it is missing, also where the cache would do."""
    write_tree(cache / "cifar10")
    assert "nowhere cannot be read" in refusal(tmp_path / "nowhere", cache)


def test_offline_nothing_is_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, missing data are an error of one line that says how to provide them, without a connection."""

    def connected(*arguments: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", connected)
    monkeypatch.setattr(socket, "getaddrinfo", connected)
    message = refusal(None, cache)
    assert str(cache / "cifar10") in message
    assert "downloads are turned off" in message
    assert "--data DIR or QX_DATA" in message
    assert not cache.exists()


def test_a_download_that_fails_gives_the_reason(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that refuses is an error of one line, with the reason and what to do; nothing is printed."""
    with socket.socket() as silent:  # Bound and not listening: connections to it are refused.
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setattr(cifar10_data, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/cifar")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(DataError) as caught:
            cifar10_cnn.load_data("test", Context(cache=cache))
    message = str(caught.value)
    assert "download failed (Connection refused)" in message
    assert "--data DIR or QX_DATA" in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    assert not cache.exists()


def test_the_address_is_that_of_torchvision() -> None:
    """The address that is tried before torchvision downloads is the one that it downloads from."""
    from torchvision.datasets import CIFAR10

    assert CIFAR10.url == cifar10_data.URL
    assert CIFAR10.base_folder == BATCHES
    assert [name for name, _ in CIFAR10.train_list + CIFAR10.test_list] == list(FILES[:-1])


# torchvision's layout -----------------------------------------------------------------------------


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder in torchvision's layout, 20 images a batch, with the checksums that it expects."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "data" / BATCHES
    folder.mkdir(parents=True)
    sums = {}
    for number, name in enumerate(FILES):
        generator = np.random.default_rng(number)
        content: dict[str, Any] = {"label_names": list(CLASSES)}
        if name != "batches.meta":
            pixels = generator.integers(0, 256, (20, 3072), dtype=np.uint8)
            content = {"data": pixels, "labels": generator.integers(0, 10, 20).tolist()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in FILES[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    return folder.parent


def batch_content(root: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = pickle.loads((root / BATCHES / name).read_bytes())
    return content


def test_torchvisions_layout_is_read(batches: Path, cache: Path) -> None:
    """The batches give the images and labels that torchvision gives, under the name of the original data."""
    for split, names in (("train", FILES[:5]), ("test", ("test_batch",))):
        data = load(batches, cache, split)
        contents = [batch_content(batches, name) for name in names]
        pixels = np.concatenate([content["data"] for content in contents]).reshape(-1, 3, 32, 32)
        expected = reference(pixels.transpose(0, 2, 3, 1))
        assert np.array_equal(np.asarray(data.inputs["image"]), expected)
        assert data.targets["labels"].tolist() == [
            label for content in contents for label in content["labels"]
        ]
        assert data.targets["labels"].dtype == np.int64
        assert data.classes == CLASSES
        assert data.source == "CIFAR-10"


def test_torchvisions_layout_is_unpickled_once(
    batches: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second loading takes images and labels from the cache without unpickling anything."""
    first = load(batches, cache)

    def unpickled(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a batch was unpickled")

    monkeypatch.setattr(pickle, "load", unpickled)
    second = load(batches, cache)
    assert np.array_equal(np.asarray(first.inputs["image"]), np.asarray(second.inputs["image"]))
    assert np.array_equal(first.targets["labels"], second.targets["labels"])


def test_missing_batches_are_named(batches: Path, cache: Path) -> None:
    """Batch files that are not there are named, all of them."""
    (batches / BATCHES / "data_batch_2").unlink()
    (batches / BATCHES / "batches.meta").unlink()
    message = refusal(batches, cache)
    assert f"{batches / BATCHES} lacks data_batch_2, batches.meta" in message


def test_damaged_batches_are_named_and_not_unpickled(batches: Path, cache: Path) -> None:
    """A batch with another sum is named, and the code that its pickle would run does not run."""
    trace = batches / "ran"
    (batches / BATCHES / "data_batch_3").write_bytes(f"cos\nmkdir\n(V{trace}\ntR.".encode())
    for split in ("train", "test"):
        assert f"{batches / BATCHES}: data_batch_3 damaged" in refusal(batches, cache, split)
    assert not trace.exists()


def test_the_archive_is_unpacked_into_the_cache(
    batches: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that holds torchvision's archive alone is read, and stays as it is."""
    from torchvision.datasets import CIFAR10

    expected = np.asarray(load(batches, None).inputs["image"])
    packed = tmp_path / "packed"
    packed.mkdir()
    archive = shutil.make_archive(str(packed / "cifar-10-python"), "gztar", batches, BATCHES)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(Path(archive).read_bytes()).hexdigest())

    assert np.array_equal(np.asarray(load(packed, cache).inputs["image"]), expected)
    assert [path.name for path in packed.iterdir()] == [Path(archive).name]
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_archive_is_named(tmp_path: Path, cache: Path) -> None:
    """An archive with another sum is named, and not unpacked."""
    (tmp_path / cifar10_data.ARCHIVE).write_bytes(b"half an archive")
    assert f"{tmp_path / cifar10_data.ARCHIVE} is damaged" in refusal(tmp_path, cache)
    assert not cache.exists()


# Training -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_is_decided_by_the_seed(tree: Path, cache: Path) -> None:
    """Two trainings with one seed give the same weights, in eval mode; another seed gives others."""
    import torch

    def trained(seed: int) -> dict[str, torch.Tensor]:
        context = Context(data=tree, cache=cache, offline=True, seed=seed, options={"epochs": 2})
        torch.manual_seed(0)
        model = cifar10_cnn.train(cifar10_cnn.make_model(context), context)
        assert not model.training
        return dict(model.state_dict())

    first, again, other = trained(1), trained(1), trained(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_training_for_no_epochs_is_refused(tree: Path, cache: Path) -> None:
    """Fewer than one epoch is a mistake of the user, shown with the number."""
    context = Context(data=tree, cache=cache, offline=True, options={"epochs": 0})
    with pytest.raises(UsageError, match="epochs must be at least 1, not 0"):
        cifar10_cnn.train(cifar10_cnn.make_model(context), context)
