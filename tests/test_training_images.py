"""Data sets of images: read as published, refused otherwise, found where they should lie."""

import gzip
import hashlib
import importlib.util
import inspect
import io
import json
import os
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
if importlib.util.find_spec("torchvision") is None:  # which may not be importable by itself
    pytest.skip("torchvision is not installed", allow_module_level=True)

from hydra.utils import get_object  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from PIL import Image  # noqa: E402

from bench import catalogue  # noqa: E402
from bench.compose import ConfigError, plan  # noqa: E402
from bench.fetch import FetchError  # noqa: E402
from bench.parts import conf_folder  # noqa: E402
from bench.store import read_trials, sealed  # noqa: E402
from bench.table import TableError  # noqa: E402
from bench.training import fill, images, published  # noqa: E402
from bench.training.data import carve  # noqa: E402
from bench.training.loop import train  # noqa: E402
from bench.training.recipe import Recipe  # noqa: E402
from bench.training.vision import torchvision  # noqa: E402

REAL = {name: os.environ[name] for name in ("NAS_ARENA_DATA", "TORCH_HOME") if name in os.environ}
DEBIAN = published.DEBIAN
EACH = 20  # images of a batch
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """The data folder and `$TORCH_HOME`, both empty; Debian's, absent."""
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(published, "DEBIAN", tmp_path / "debian")
    return tmp_path


def made(part, count=EACH, classes=10):
    """Random pixels `[n, 32, 32, 3]` and labels of one batch."""
    rng = np.random.default_rng(hash_of(part))
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), [
        int(label) for label in rng.permutation(count) % classes
    ]


def hash_of(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def rows(pixels):
    """As the published batches have them: a row an image, all of red first."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)


def write_cifar10(place, protocol=2, **changes):
    """The standard folder of CIFAR-10 in a place, with small batches; returns the folder."""
    home = place / "cifar-10-batches-py"
    home.mkdir(parents=True)
    for name in *BATCHES, "test_batch":
        pixels, labels = made(name)
        batch = {"batch_label": name, "labels": labels, "data": rows(pixels), "filenames": ["a"]}
        (home / name).write_bytes(pickle.dumps(batch | changes, protocol=protocol))
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": fill.NAMES}))
    return home


def digests():
    """What `published.CIFAR10` would be for the small batches."""
    found = {}
    for part, names in ("train", BATCHES), ("test", ["test_batch"]):
        batches = [made(name) for name in names]
        pixels = b"".join(pixels.tobytes() for pixels, _ in batches)
        labels = b"".join(bytes(labels) for _, labels in batches)
        found[part] = (hashlib.sha256(pixels).hexdigest(), hashlib.sha256(labels).hexdigest())
    return found


@pytest.fixture
def small(monkeypatch):
    """Let the small batches count as CIFAR-10."""
    monkeypatch.setattr(published, "CIFAR10", digests())


def publish(monkeypatch, kind, home):
    """Let the files of a folder count as the published ones of a class of torchvision."""
    for listed in "train_list", "test_list":
        files = [[name, md5(home / name)] for name, _ in getattr(kind, listed)]
        monkeypatch.setattr(kind, listed, files)
    meta = home / kind.meta["filename"]
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(meta)})


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def check_cifar10(data):
    expected = np.concatenate([made(name)[0] for name in BATCHES])
    labels = [label for name in BATCHES for label in made(name)[1]]
    inputs = torch.from_numpy(expected.transpose(0, 3, 1, 2))
    kept, held = carve(inputs, torch.tensor(labels), 0.5)
    for got, wanted in (data.train, kept), (data.valid, held):
        assert torch.equal(got[0], wanted[0])
        assert torch.equal(got[1], wanted[1])
        assert got[0].dtype == torch.uint8
        assert got[1].dtype == torch.int64
    assert torch.equal(data.test[0], torch.from_numpy(made("test_batch")[0]).permute(0, 3, 1, 2))
    assert data.test[1].tolist() == made("test_batch")[1]
    assert (len(data.train[1]), len(data.valid[1]), data.classes) == (50, 50, 10)
    assert data.inputs == (3, 32, 32)


# ----------------------------------------------------------------------------------------- CIFAR


def test_published_files_are_read_by_torchvision(places, monkeypatch):
    home = write_cifar10(places / "data")
    publish(monkeypatch, torchvision().datasets.CIFAR10, home)
    monkeypatch.setattr(published, "restricted_load", None)
    check_cifar10(images.cifar10())


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_converted_files_count_by_their_pixels(protocol, places, small, monkeypatch):
    write_cifar10(places / "data", protocol)
    monkeypatch.setattr(pickle, "load", None)
    check_cifar10(images.cifar10())


def test_cifar100_is_read_as_published_only(places, monkeypatch):
    home = places / "data/cifar-100-python"
    home.mkdir(parents=True)
    for name in "train", "test":
        pixels, labels = made(name, 200, 100)
        coarse = [label // 5 for label in labels]
        batch = {"fine_labels": labels, "coarse_labels": coarse, "data": rows(pixels)}
        (home / name).write_bytes(pickle.dumps(batch))
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a"] * 100}))
    with pytest.raises(ValueError, match=r"holds other files than published: their MD5 differs"):
        images.cifar100()
    publish(monkeypatch, torchvision().datasets.CIFAR100, home)
    data = images.cifar100(held_out=0.25)
    assert (len(data.train[1]), len(data.valid[1]), len(data.test[1])) == (150, 50, 200)
    assert data.test[1].tolist() == made("test", 200, 100)[1]
    assert data.classes == 100


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": rows(made("other")[0])}, "is not CIFAR-10: neither its files nor the pixels"),
        ({"labels": [0] * EACH}, "is not CIFAR-10: neither its files nor the pixels"),
        ({"labels": [10] * EACH}, "is no batch of CIFAR-10"),
        ({"labels": [True] * EACH}, "is no batch of CIFAR-10"),
        ({"labels": [0]}, "is no batch of CIFAR-10"),
        ({"data": "text"}, "is no batch of CIFAR-10"),
        ({"data": np.zeros((EACH, 3072))}, "an array of something else than bytes"),
        ({"data": np.zeros((3072, EACH), np.uint8).T}, "an array of something else than bytes"),
    ],
)
def test_batches_of_something_else_are_refused(changes, sentence, places, small):
    write_cifar10(places / "data", 2, **changes)
    with pytest.raises(ValueError, match=sentence) as raised:
        images.cifar10()
    assert "\n" not in str(raised.value)


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("hostile-was-here"),)


def damaged(data):
    return data[: len(data) // 2]


def lying(data):
    return data.replace(b"M\x00\x0c", b"M\x00\x0d", 1)  # 3,072 columns


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda _: pickle.dumps({"data": Hostile()}, protocol=2), "refused: the file asks for"),
        (lambda _: pickle.dumps([1]), "is no batch of CIFAR-10"),
        (lambda _: b"", "damaged pickle: it ends early"),
        (damaged, "damaged pickle: it ends early"),
        (lying, "an array of another size than it says"),
    ],
)
def test_hostile_and_damaged_batches_are_refused(change, sentence, places, small, monkeypatch):
    monkeypatch.chdir(places)
    batch = write_cifar10(places / "data") / "data_batch_3"
    batch.write_bytes(change(batch.read_bytes()))
    with pytest.raises(ValueError, match=sentence) as raised:
        images.cifar10()
    assert str(batch) in str(raised.value)
    assert not (places / "hostile-was-here").exists()


def test_it_is_looked_for_in_order(places, small):
    with pytest.raises(FileNotFoundError) as raised:
        images.cifar10(folder=str(places / "mine"))
    looked = ", ".join(
        str(places / name / "cifar-10-batches-py") for name in ("mine", "data", "torch")
    )
    assert str(raised.value) == (
        f"CIFAR10 is in none of {looked}; expected there: {', '.join(BATCHES)}, test_batch; "
        "`nas-arena data get cifar10` brings them"
    )
    write_cifar10(places / "torch")
    check_cifar10(images.cifar10(folder=str(places / "mine")))
    (write_cifar10(places / "data") / "test_batch").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="data/cifar-10-batches-py/test_batch"):
        images.cifar10()
    write_cifar10(places / "mine")
    check_cifar10(images.cifar10(folder=str(places / "mine")))


def test_a_part_can_be_taken(places, small):
    write_cifar10(places / "data")
    whole, data = images.cifar10(), images.cifar10(train=10, valid=25, test=1)
    assert [len(split[1]) for split in (data.train, data.valid, data.test)] == [10, 25, 1]
    assert torch.equal(data.train[0], whole.train[0][::5])  # evenly spaced
    with pytest.raises(ValueError, match="valid is 51; allowed: 1 to 50 examples, or null"):
        images.cifar10(valid=51)
    with pytest.raises(ValueError, match="train is 0"):
        images.cifar10(train=0)
    with pytest.raises(ValueError, match="held_out is 1"):
        images.cifar10(held_out=1.0)


# ------------------------------------------------------------------------------- what fills it


@pytest.fixture
def package(places, monkeypatch):
    """A package of strips of 20 images, where downloads are kept."""
    monkeypatch.setattr(fill, "STRIP", EACH)
    path = places / "data/downloads" / fill.PACKAGE["file"]
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:

        def add(name, data):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        for name in *BATCHES, "test_batch":
            strip = io.BytesIO()
            Image.fromarray(made(name)[0].reshape(EACH, 1024, 3)).save(strip, "PNG")
            add(f"{name}.png", strip.getvalue())
        labels = [label for name in BATCHES for label in made(name)[1]]
        add("train_lables.json", json.dumps(labels).encode())
        add("test_lables.json", json.dumps(made("test_batch")[1]).encode())
    known = {"source_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(fill, "PACKAGE", fill.PACKAGE | known)
    return path


def test_the_package_is_converted(package, small, places):
    text, done = catalogue.get("cifar10")
    assert done
    assert text == f"CIFAR10 is in {places / 'data'} now, and whole"
    check_cifar10(images.cifar10())
    assert catalogue.get("cifar10") == ("CIFAR10 is here already, and whole", True)
    assert sorted(path.name for path in (places / "data/cifar-10-batches-py").iterdir()) == [
        "batches.meta",
        *BATCHES,
        "test_batch",
    ]


def test_what_is_written_is_what_torchvision_reads(package, small, places, monkeypatch):
    home = places / "cifar-10-batches-py"
    fill.convert(package, home)
    kind = torchvision().datasets.CIFAR10
    with pytest.raises(RuntimeError, match="corrupted"):  # as the MD5 of the files is another
        kind(places)
    publish(monkeypatch, kind, home)
    found = kind(places, train=False)
    assert np.array_equal(found.data, made("test_batch")[0])
    assert found.targets == made("test_batch")[1]
    assert found.classes == fill.NAMES


def test_another_package_is_refused_and_writes_nothing(package, small, places, monkeypatch):
    monkeypatch.setattr(published, "CIFAR10", published.CIFAR10 | {"test": ("", "")})
    with pytest.raises(TableError, match="does not hold CIFAR-10: its test part is another"):
        catalogue.get("cifar10")
    package.write_bytes(package.read_bytes()[:-100])
    with pytest.raises(TableError, match="SHA-256"):
        catalogue.get("cifar10")
    known = {"source_sha256": hashlib.sha256(package.read_bytes()).hexdigest()}
    monkeypatch.setattr(fill, "PACKAGE", fill.PACKAGE | known)
    with pytest.raises(TableError, match="cannot be read"):
        catalogue.get("cifar10")
    assert not (places / "data/cifar-10-batches-py").exists()


def offline(self):
    raise OSError("no route\nto host")


def test_torchvision_downloads_first_then_the_package(package, small, places, monkeypatch):
    kind = torchvision().datasets.CIFAR10
    found = package.rename(places / "elsewhere.tgz")
    monkeypatch.setattr(fill, "fetch", lambda recipe, progress: found)
    monkeypatch.setattr(kind, "download", lambda self: write_cifar10(Path(self.root)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "convert", None)
        patch.setattr(kind, "_check_integrity", lambda self: True)
        patch.setattr(kind, "_load_meta", lambda self: None)
        assert catalogue.get("cifar10")[1]
    for path in (places / "data/cifar-10-batches-py").iterdir():
        path.unlink()
    monkeypatch.setattr(kind, "download", offline)
    assert catalogue.get("cifar10")[1]
    check_cifar10(images.cifar10())


@pytest.mark.parametrize("name", ["CIFAR100", "FashionMNIST"])
def test_without_a_connection_it_says_what_to_do(name, places, monkeypatch):
    monkeypatch.setattr(getattr(torchvision().datasets, name), "download", offline)
    with pytest.raises(FetchError) as raised:
        catalogue.get({"CIFAR100": "cifar100", "FashionMNIST": "fashion_mnist"}[name])
    assert str(raised.value) == (
        f"{name} cannot be downloaded (no route to host); with a connection, "
        f"torchvision.datasets.{name}(FOLDER, download=True) makes the folder that belongs into "
        f"{places / 'data'}"
    )


def test_only_what_can_be_filled_is_brought():
    with pytest.raises(TableError, match="data set 'digits' needs no download"):
        catalogue.get("digits")


def test_what_needs_torch_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "bench.training.fill")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        TableError, match=r"cifar10 needs PyTorch: pip install 'nas-arena\[train\]'"
    ):
        catalogue.get("cifar10")


# --------------------------------------------------------------------------------- Fashion-MNIST


def idx(array):
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def write_fashion_mnist(home, compressed=False):
    """Small files of the official form; returns their digests."""
    home.mkdir(parents=True)
    rng, found = np.random.default_rng(0), {}
    for name, count in ("train", 50), ("t10k", 20):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.permutation(count).astype(np.uint8) % 10
        for kind, array in ("images-idx3", pixels), ("labels-idx1", labels):
            data = idx(array)
            found[f"{name}-{kind}-ubyte"] = hashlib.sha256(data).hexdigest()
            if compressed:
                (home / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(data))
            else:
                (home / f"{name}-{kind}-ubyte").write_bytes(data)
    return found


@pytest.mark.parametrize(
    ("home", "compressed"),
    [("data/FashionMNIST/raw", False), ("torch/FashionMNIST/raw", True), ("debian", True)],
)
def test_fashion_mnist_is_read(home, compressed, places, monkeypatch):
    found = write_fashion_mnist(places / home, compressed)
    monkeypatch.setattr(published, "FASHION_MNIST", found)
    data = images.fashion_mnist()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    labels = torch.from_numpy(rng.permutation(50) % 10)
    kept, held = carve(torch.from_numpy(pixels)[:, None], labels, 0.1)
    assert torch.equal(data.train[0], kept[0])
    assert torch.equal(data.valid[1], held[1])
    assert data.inputs == (1, 28, 28)
    assert data.train[0].dtype == torch.uint8
    assert len(data.test[1]) == 20


def test_another_set_of_that_form_is_refused(places, monkeypatch):
    """MNIST has files of the same names and sizes."""
    write_fashion_mnist(places / "debian", compressed=True)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz is not of Fashion-MNIST"):
        images.fashion_mnist()
    (places / "debian/train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"a" * 99)[:-9])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        images.fashion_mnist()


def test_fashion_mnist_names_every_place(places):
    with pytest.raises(FileNotFoundError) as raised:
        images.fashion_mnist()
    for name in "data/FashionMNIST/raw", "torch/FashionMNIST/raw", "debian":
        assert str(places / name) in str(raised.value)
    assert "t10k-labels-idx1-ubyte; `nas-arena data get fashion_mnist`" in str(raised.value)


# --------------------------------------------------------------------------- digits, own folders


def test_the_digits():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    data = images.digits()
    assert [tuple(part[0].shape) for part in (data.train, data.valid, data.test)] == [
        (1150, 1, 8, 8),
        (288, 1, 8, 8),
        (359, 1, 8, 8),
    ]
    assert int(data.train[0].max()) == 16
    assert data.train[1].unique().tolist() == list(range(10))


def test_the_digits_name_what_installs_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    with pytest.raises(ImportError, match="the digits need scikit-learn: pip install"):
        images.digits()


def paint(path, colour, size=(40, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def write_folder(root):
    for part, count in ("train", 10), ("test", 3):
        for number in range(count):
            paint(root / part / "red" / f"{number}.png", (200, 10, 0))
            paint(root / part / "blue" / f"{number}.jpg", (0, 10, 200), (9, 30 + number))
    return root


def test_a_folder_of_images(places):
    write_folder(places / "data/images")
    data = images.image_folder(size=16)
    assert data.classes == 2
    assert data.inputs == (3, 16, 16)
    assert [len(part[1]) for part in (data.train, data.valid, data.test)] == [16, 4, 6]
    inputs, labels = data.test
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]  # blue comes before red
    assert inputs[-1, :, 3, 3].tolist() == [200, 10, 0]
    other = write_folder(places / "other")
    assert torch.equal(images.image_folder(size=16, folder=str(other)).test[0], inputs)


def test_a_folder_of_something_else_is_refused(places):
    with pytest.raises(FileNotFoundError, match="expected there: train, test; in each of them"):
        images.image_folder()
    root = write_folder(places / "data/images")
    with pytest.raises(FileNotFoundError, match="is in none of /absent; expected"):
        images.image_folder(folder="/absent")  # never another one
    with pytest.raises(ValueError, match="size is 0"):
        images.image_folder(size=0)
    (root / "train/red/3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"train/red/3.png cannot be read"):
        images.image_folder()
    paint(root / "train/red/3.png", (0, 0, 0))
    paint(root / "test/green/3.png", (0, 0, 0))
    with pytest.raises(ValueError, match="class green is in one of train and test only"):
        images.image_folder()
    (root / "test/green/3.png").unlink()
    with pytest.raises(FileNotFoundError, match="green"):
        images.image_folder()


# ------------------------------------------------------------------------- in a comparison


LOADABLE = {
    path.stem: node
    for path in sorted((conf_folder() / "dataset").glob("*.yaml"))
    if "load" in (node := OmegaConf.to_container(OmegaConf.load(path)))
}


@pytest.mark.parametrize("name", LOADABLE)
def test_the_yaml_states_the_defaults(name):
    load = LOADABLE[name]["load"]
    parameters = inspect.signature(get_object(load["_target_"])).parameters
    stated = {key: value for key, value in load.items() if not key.startswith("_")}
    defaults = {key: parameter.default for key, parameter in parameters.items()}
    assert stated == OmegaConf.to_container(OmegaConf.create(defaults))


def test_what_can_be_filled_can_be_loaded():
    filled = {
        path.stem
        for path in (conf_folder() / "dataset").glob("*.yaml")
        if "fill" in OmegaConf.load(path)
    }
    assert filled == {"cifar10", "cifar100", "fashion_mnist"}
    assert filled <= LOADABLE.keys()
    assert all(callable(get_object(LOADABLE[name]["fill"])) for name in filled)


WORDS = ["strategy=random_search", "budget.limit=1"]
TRAIN = [*WORDS, "objective=train", "space=chain", "dataset=cifar10"]


def test_how_a_set_is_loaded_is_of_no_matter_to_a_table():
    half = "dataset.load.held_out=0.25"
    assert plan([*WORDS, half]).cells[0].key == plan(WORDS).cells[0].key
    assert plan([*TRAIN, half]).cells[0].key != plan(TRAIN).cells[0].key


def test_wrong_settings_are_named():
    with pytest.raises(ConfigError, match=r"load.train is 'many'; allowed: whole number or null"):
        plan([*TRAIN, "dataset.load.train=many"])


def test_images_train(places, small):
    write_cifar10(places / "data")
    data = images.cifar10()
    recipe = Recipe(name="x", epochs=2, batch_size=25, learning_rate=0.1, augmentation="crop_flip")

    def build():
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, 4),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(256, 10),
        )

    _, outcome = train(build, data.to(torch.device("cpu")), recipe, seed=0, final=("test",))
    assert outcome.status == "ok"
    assert [len(outcome.errors[part]) for part in ("train", "valid", "test")] == [2, 2, 1]


def real(name, monkeypatch):
    """The data set as it lies on this machine; skips where it does not."""
    for variable in "NAS_ARENA_DATA", "TORCH_HOME":
        if variable in REAL:
            monkeypatch.setenv(variable, REAL[variable])
        else:
            monkeypatch.delenv(variable)
    monkeypatch.setattr(published, "DEBIAN", DEBIAN)
    try:
        return getattr(images, name)()
    except FileNotFoundError as error:
        pytest.skip(f"{name} is absent: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_the_real_one_is_as_published(name, monkeypatch):
    data = real(name, monkeypatch)
    count = {"cifar10": 50_000, "cifar100": 50_000, "fashion_mnist": 60_000}[name]
    labels = torch.cat([data.train[1], data.valid[1]])
    assert labels.bincount().tolist() == [count // data.classes] * data.classes
    assert data.test[1].bincount().tolist() == [10_000 // data.classes] * data.classes
    if name == "cifar10":  # as is widely published
        pixels = torch.cat([data.train[0], data.valid[0]])
        means = pixels.double().mean((0, 2, 3)) / 255
        assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)


@pytest.mark.slow
def test_nb201_trains_on_the_real_cifar10(monkeypatch, call, tmp_path):
    """Two epochs, smaller: one cell a stage, of 16 channels, on some of the images."""
    real("cifar10", monkeypatch)
    sizes = [f"dataset.load.{part}={size}" for part, size in SIZES.items()]
    words = ["objective=train", "space=nb201", "dataset=cifar10", "strategy=random_search"]
    words += ["budget.limit=2", "seeds=1", "recipe.epochs=2", "recipe.network.cells=1", *sizes]
    words += ["protocol.schedule='2'", "protocol.report_schedule='2'", "protocol.fidelities=[2]"]
    status, out, err = call("run", *words)
    assert status == 0, err
    (folder,) = (tmp_path / "results/runs").iterdir()
    assert json.loads((folder / "cell.json").read_text())["config"]["dataset"]["name"] == "cifar10"
    (shard,) = sealed(folder)
    errors = read_trials(shard)["error"]
    assert len(errors) == 2
    assert ((errors > 0) & (errors < 1)).all()
    assert "random_search" in out


SIZES = {"train": 2048, "valid": 512, "test": 512}
