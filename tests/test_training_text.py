"""Texts from a plain folder, as signals that recurrent networks read."""

import shutil
from random import Random

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from bench.parts import build  # noqa: E402
from bench.training.data import carve  # noqa: E402
from bench.training.loop import train  # noqa: E402
from bench.training.recipe import Recipe  # noqa: E402
from bench.training.text import codes, text_folder  # noqa: E402
from bench.training.trainer import network_builder  # noqa: E402

ABOUT = {
    "cooking": ["pan", "flour", "oven", "butter", "salt"],
    "sailing": ["mast", "harbour", "wind", "anchor", "tide"],
}
ANY = ["the", "a", "of", "in", "and", "to", "it", "is", "on", "with"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """60 and 20 short texts about two things, told apart by a word or two."""
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    rng = Random(0)
    for part, count in ("train", 30), ("test", 10):
        for name, words in ABOUT.items():
            (tmp_path / "text" / part / name).mkdir(parents=True)
            for number in range(count):
                said = [*rng.choices(ANY, k=rng.randint(3, 12)), *rng.choices(words, k=2)]
                rng.shuffle(said)
                path = tmp_path / "text" / part / name / f"{number:02d}.txt"
                path.write_text(" ".join(said), encoding="utf-8")
    return tmp_path / "text"


def test_texts_are_read(folder):
    data = text_folder(length=12, channels=16)
    assert data.classes == 2
    assert data.inputs == (16, 12)
    assert data.train[0].dtype == torch.int8
    assert [len(part[1]) for part in (data.train, data.valid, data.test)] == [48, 12, 20]
    assert data.test[1].tolist() == [0] * 10 + [1] * 10
    (folder / "test/cooking/00.txt").write_text("Salt, flour", encoding="utf-8")
    signal = text_folder(length=12, channels=16).test[0][0]
    assert torch.equal(signal[:, 9:], codes(["salt", ",", "flour"], 16))
    assert not signal[:, :9].any()
    (folder / "test/cooking/00.txt").write_text("salt " * 12 + "flour", encoding="utf-8")
    signal = text_folder(length=12, channels=16).test[0][0]
    assert torch.equal(signal, codes(["salt"] * 12, 16))  # the first words
    (folder / "test/cooking/00.txt").write_text("", encoding="utf-8")
    assert not text_folder(length=12, channels=16).test[0][0].any()


def test_validation_is_carved_from_training(folder):
    whole = text_folder(length=12, channels=16)
    texts = sorted((folder / "train").rglob("*.txt"))
    first = [path.read_text().split()[:12] for path in texts]
    labels = torch.tensor([0] * 30 + [1] * 30)
    (_, kept), (_, held) = carve(torch.arange(60), labels, 0.2)
    assert torch.equal(whole.train[1], kept)
    assert torch.equal(whole.valid[1], held)
    numbers = carve(torch.arange(60), labels, 0.2)[1][0]
    words = first[int(numbers[0])]
    assert torch.equal(whole.valid[0][0][:, -len(words) :], codes(words, 16))


def test_a_code_depends_on_the_word_alone():
    both = codes(["salt", "tide"], 8)
    assert both.shape == (8, 2)
    assert set(both.flatten().tolist()) == {-1, 1}
    assert torch.equal(codes(["tide", "salt"], 16)[:8].flip(1), both)
    assert both[:, 0].tolist() == SALT
    many = codes([str(number) for number in range(2000)], 32).float()
    assert many.mean().abs() < 0.02
    assert (many.T @ many).fill_diagonal_(0).abs().mean() < 6  # nearly orthogonal: sqrt(2/pi 32)


# SHA-256 of "salt" begins with 63; the lowest bit of its first byte comes first
SALT = [1, 1, -1, -1, -1, 1, 1, -1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: (f / "test/cooking/0.txt").write_bytes(b"\xff\xfe\x00"), "0.txt is no text in"),
        (lambda f: (f / "train/sailing").rename(f / "train/x"), "class sailing is in one of train"),
        (lambda f: (f / "test/empty").mkdir(), "test/empty holds no .txt file"),
        (lambda f: (f / "train/cooking").rename(f / "gone"), "train holds fewer than two folders"),
    ],
)
def test_a_folder_of_something_else_is_refused(change, sentence, folder):
    change(folder)
    with pytest.raises(ValueError, match=sentence):
        text_folder()


def test_it_is_looked_for(folder, tmp_path, monkeypatch):
    there = text_folder()
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match=r"is in none of .*other/text; expected"):
        text_folder()
    assert text_folder(folder=str(folder)).digest == there.digest
    shutil.copytree(folder, tmp_path / "other/text")
    assert text_folder().digest == there.digest
    with pytest.raises(FileNotFoundError, match="is in none of /absent; expected there: train, te"):
        text_folder(folder="/absent")  # never another one
    with pytest.raises(ValueError, match="length is 0 and channels 32"):
        text_folder(length=0)


@pytest.mark.parametrize("name", ["gru-32-1-forward-last", "lstm-32-1-both-attention"])
def test_a_recurrent_network_learns_from_them(name, folder):
    torch.set_num_threads(1)
    data, space = text_folder(length=16, channels=32), build("space", "recurrent")
    recipe = Recipe(name="x", epochs=15, batch_size=16, learning_rate=0.01, optimizer="adamw")

    def network():
        return network_builder(space)(space, space.from_string(name), data.inputs, data.classes)

    _, outcome = train(network, data, recipe, seed=0, final=("test",))
    assert outcome.errors["train"][-1] < 0.05
    assert outcome.errors["test"][0] < 0.2
