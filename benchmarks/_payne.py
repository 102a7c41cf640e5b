"""The method of The Payne (Ting et al. 2019): a small network from labels to fluxes. For `compare.py`.

Two hidden layers of 300 neurons, labels scaled to [-0.5, 0.5]. The last layer gives the amplitudes of all principal
components of the training spectra: with as many components as spectra that is the same function, and with a squared
loss the same training, as an output for every pixel, but thousands of times cheaper. Activation and number of steps
are chosen on held-out nodes; then all nodes are trained on.
"""

import numpy as np
import torch

WIDTH = 300
CHECKS = (2000, 4000, 8000, 16000, 32000)
ACTIVATIONS = {"leaky ReLU": torch.nn.LeakyReLU, "sigmoid": torch.nn.Sigmoid}


def make_network(activation, n_labels, n_out, seed):
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(n_labels, WIDTH), ACTIVATIONS[activation](), torch.nn.Linear(WIDTH, WIDTH)]
    return torch.nn.Sequential(*layers, ACTIVATIONS[activation](), torch.nn.Linear(WIDTH, n_out))


def train(activation, x, y, n_steps, *, held=None, seed=0):
    """Trained network, and the errors of held-out spectra at `CHECKS`."""
    network = make_network(activation, x.shape[1], y.shape[1], seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    # every check is a schedule of its own, so that its rate has gone down to nothing there
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps, eta_min=1e-6)
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = ((network(x) - y) ** 2).sum(dim=1).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        miss = None if held is None else float(((network(held[0]) - held[1]) ** 2).sum(dim=1).mean() ** 0.5)
    return network, miss


def fit_payne(labels, flux, *, seed=0, store=None, checks=CHECKS, at_most=None):
    """Components, mean spectrum, function from labels to amplitudes, what was chosen, errors of all that was tried.

    With a path as `store` the network is kept there, and read the next time. The number of steps is one of `checks`;
    `at_most` so many components are learnt.
    """
    low, high = labels.min(axis=0), labels.max(axis=0)
    mean = flux.mean(axis=0)
    centered = flux - mean
    if store is not None and store.is_file():
        saved = torch.load(store, weights_only=False)
    else:
        saved = learn(labels, (labels - low) / (high - low) - 0.5, centered, seed, checks, at_most)
        if store is not None:
            torch.save(saved, store)
    vectors, values, chosen = saved["vectors"], saved["values"], saved["chosen"]
    basis = ((vectors / np.sqrt(values)).T @ centered).astype(np.float32)
    network = make_network(chosen[0], labels.shape[1], len(values), seed)
    network.load_state_dict(saved["state"])

    @torch.inference_mode()
    def weights(row):
        scaled = torch.tensor((np.asarray(row) - low) / (high - low) - 0.5, dtype=torch.float32)
        return network(scaled[None])[0].numpy() * np.float32(saved["unit"])

    rms = {
        f"{name}, {n} steps": miss * saved["unit"] / np.sqrt(flux.shape[1])
        for (name, n), miss in saved["tried"].items()
    }
    return basis, mean, weights, f"{chosen[0]}, {chosen[1]} steps", rms


def learn(labels, scaled, centered, seed, checks, at_most):
    """Components of the training spectra, and a network for their amplitudes."""
    # components by the small matrix of products: there are far fewer spectra than pixels
    values, vectors = np.linalg.eigh(centered.astype(np.float64) @ centered.T.astype(np.float64))
    kept = values > values[-1] * 1e-12
    kept[: -at_most if at_most else 0] = False
    values, vectors = values[kept], vectors[:, kept]
    amplitude = vectors * np.sqrt(values)
    unit = float(np.sqrt((amplitude**2).sum(axis=1).mean()))
    x, y = (torch.tensor(part, dtype=torch.float32) for part in (scaled, amplitude / unit))
    inside = np.flatnonzero((labels[:, 0] > labels[:, 0].min()) & (labels[:, 0] < labels[:, 0].max()))
    held = np.random.default_rng(seed).choice(inside, size=len(labels) // 8, replace=False)
    rest = np.setdiff1d(np.arange(len(labels)), held)
    tried = {}
    for activation in ACTIVATIONS:
        for n_steps in checks:
            tried[activation, n_steps] = train(activation, x[rest], y[rest], n_steps, held=(x[held], y[held]))[1]
    chosen = min(tried, key=tried.get)
    network, _ = train(chosen[0], x, y, chosen[1], seed=seed)
    state = network.state_dict()
    return {"vectors": vectors, "values": values, "unit": unit, "chosen": chosen, "tried": tried, "state": state}
