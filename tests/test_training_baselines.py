"""The published baselines of MNIST-1D, through our own loop: a check of the trainer.

Networks and settings are those of the authors' notebook (greydanus/mnist1d, notebooks/models.py,
train.py and mnist1d-classification.ipynb): Adam at a constant rate of 0.01 without weight decay,
batches of 100, 6,000 steps, the last network counts. Ours differs in that inputs are standardised
and that every epoch has an order of its own; published accuracies are from the paper (Greydanus &
Kobak, 2024, figure 1).
"""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("mnist1d", reason="mnist1d is not installed")

from torch import nn  # noqa: E402

from bench.training.data import Data  # noqa: E402
from bench.training.loop import train  # noqa: E402
from bench.training.recipe import Recipe  # noqa: E402
from bench.training.signals import mnist1d  # noqa: E402

RECIPE = Recipe(
    name="mnist1d",
    epochs=150,  # of 40 steps
    batch_size=100,
    learning_rate=0.01,
    optimizer="adamw",
    weight_decay=0.0,  # without which AdamW is Adam
    schedule="constant",
)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(40, 100), nn.Linear(100, 100)
        self.last = nn.Linear(100, 10)

    def forward(self, x):
        x = self.first(x.flatten(1)).relu()
        return self.last(x + self.second(x).relu())


class Gru(nn.Module):
    """It classifies the outputs of all steps, side by side."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 6, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * 6 * 40, 10)

    def forward(self, x):
        return self.last(self.gru(x.transpose(1, 2))[0].flatten(1))


def logistic():
    return nn.Sequential(nn.Flatten(), nn.Linear(40, 10))


def cnn():
    layers = []
    for channels, kernel in (1, 5), (25, 3), (25, 3):
        layers += [nn.Conv1d(channels, 25, kernel, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(125, 10))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The paper's 4,000 signals for training and 1,000 for testing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_ARENA_DATA", str(tmp_path_factory.mktemp("data")))
        made = mnist1d(
            train=4000,
            valid=500,
            test=500,
            length=40,
            padding=(36, 60),
            max_translation=48,
            noise=0.02,
        )
    whole = tuple(torch.cat(both) for both in zip(made.valid, made.test, strict=True))
    return Data(made.train, made.valid, whole, made.classes)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "parameters", "accuracy"),
    [(logistic, 410, 0.32), (Mlp, 15_210, 0.68), (Gru, 5_134, 0.91), (cnn, 5_210, 0.94)],
)
def test_a_published_baseline_is_reproduced(build, parameters, accuracy, published):
    assert sum(some.numel() for some in build().parameters()) == parameters
    errors = []
    for seed in range(3):  # at a constant rate one training is a matter of luck
        _, outcome = train(build, published, RECIPE, seed=seed, splits=(), final=("test",))
        assert outcome.status == "ok"
        errors += outcome.errors["test"]
    assert 1 - sum(errors) / 3 == pytest.approx(accuracy, abs=0.03)
