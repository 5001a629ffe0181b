"""Trainings of a fraction of a second, for tests: signals that a network can tell apart."""

import numpy as np

SETTINGS = ("dataset.load.train=200", "dataset.load.valid=100", "dataset.load.test=100")
WORDS = (
    *("space=chain", "dataset=mnist1d", *SETTINGS),
    *("recipe.epochs=2", "recipe.batch_size=50", "recipe.network.width=4"),
)


def write_signals(folder, length=56):
    """Put what the loader of MNIST-1D would have generated for `SETTINGS` into a data folder."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 10
    places = np.linspace(0, 2 * np.pi, length)
    waves = np.sin(places * (1 + labels[:, None])) + 0.3 * rng.standard_normal((400, length))
    path = folder / f"mnist1d/mnist1d-400-{length}-0-4-4-0.25-0.15-42.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=waves, y=labels)
