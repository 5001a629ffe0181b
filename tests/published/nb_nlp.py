"""A few training logs in the format of NAS-Bench-NLP, in a zip file and unzipped."""

import json
import math
import zipfile

import numpy as np

RECIPE = "nb_nlp"
RNN = {
    "f": {"op": "linear", "input": ["x", "h_prev_0"]},
    "h_new_0": {"op": "activation_tanh", "input": ["f"]},
}
TWO_STATES = {
    "node_0": {"op": "linear", "input": ["h_prev_1", "x", "h_prev_0"]},
    "node_1": {"op": "activation_sigm", "input": ["node_0"]},
    "node_4": {"op": "blend", "input": ["node_1", "h_prev_1", "node_0"]},
    "node_6": {"op": "elementwise_prod", "input": ["h_new_1", "node_4"]},
    "h_new_0": {"op": "elementwise_sum", "input": ["node_6", "node_1"]},
    "h_new_1": {"op": "activation_leaky_relu", "input": ["node_0"]},
}
SAME_TWO_STATES = {  # other names, another order, the sum the other way round
    "h_new_0": {"op": "elementwise_sum", "input": ["gate", "both"]},
    "in": {"op": "linear", "input": ["x", "h_prev_0", "h_prev_1"]},
    "gate": {"op": "activation_sigm", "input": ["in"]},
    "mix": {"op": "blend", "input": ["gate", "h_prev_1", "in"]},
    "h_new_1": {"op": "activation_leaky_relu", "input": ["in"]},
    "both": {"op": "elementwise_prod", "input": ["mix", "h_new_1"]},
}
UNFIT = {
    "node_0": {"op": "linear", "input": ["x", "h_prev_0"]},
    "node_2": {"op": "elementwise_prod", "input": ["node_0", "h_prev_0"]},
    "h_new_0": {"op": "elementwise_sum", "input": ["node_2", "node_0"]},
}


def log(recipe, number, *, data="data/ptb", epochs=50, status="OK", experiment=None, **changes):
    """What `main_one_model_train.py` writes, with random losses and seconds."""
    rng = np.random.default_rng([number, epochs, len(data)])
    curves = {
        name: (lowest + 3 * np.exp(-np.arange(epochs) / 9) + rng.uniform(0, 0.1, epochs)).tolist()
        for name, lowest in (("train_losses", 4.1), ("val_losses", 4.6), ("test_losses", 4.5))
    }
    if status == "loss is nan!":
        curves["val_losses"][-1] = curves["test_losses"][-1] = math.nan
    return {
        "data": data,
        "recepie_id": number,
        "recepies_list_path": "data/recepies.json",
        "cuda": True,
        "batch_size": 20,
        "model": "CustomRNN",
        "emsize": 400,
        "nhid": 600,
        "nlayers": 3,
        "dropout": 0.4,
        "lr": 0.001,
        "epochs": 50,
        "recepie": json.dumps(recipe),
        "experiment_id": 999_999_000 - number if experiment is None else experiment,
        "init_time": "2020-03-05_12-41-07",
        "num_params": 5_000_000 + 1000 * number,
        "wall_times": rng.uniform(30, 40, epochs).tolist(),
        **curves,
        "status": status,
    } | changes


LOGS = (
    log(RNN, 1_000_000),
    log(TWO_STATES, 17, experiment=300),
    log(SAME_TWO_STATES, 17, experiment=20),
    log(UNFIT, 5, epochs=7, status="loss is nan!"),
    log(RNN, 1_000_000, data="data/wikitext-2"),
)


def name_of(one):
    return f"log_stats_model_{one['recepie_id']}_{one['init_time']}_{one['experiment_id']}.json"


def write(folder, logs=LOGS):
    """A folder like a clone of the repository: some logs in zip files, some unzipped."""
    root = folder / "nas-bench-nlp-release"
    for part, some in (
        ("train_logs_single_run", logs[:2]),
        ("train_logs_multi_runs", logs[1:4]),  # the second is in both
        ("train_logs_wikitext-2", logs[4:]),
    ):
        (root / part).mkdir(parents=True)
        with zipfile.ZipFile(root / part / "logs.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for one in some:
                file.writestr(name_of(one), json.dumps(one))
    for one in logs[3:4]:
        (root / "train_logs_multi_runs" / name_of(one)).write_text(json.dumps(one))
    (root / "data").mkdir()
    (root / "data/recepies_example.json").write_text(json.dumps([RNN]))
    return root
