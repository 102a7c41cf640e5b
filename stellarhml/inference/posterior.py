"""Posterior: draws by Markov chains or nested sampling, where a Gaussian is not good enough."""

from numbers import Integral

import numpy as np

_WALKERS = 32
_CHUNK = 200  # steps between estimates of the autocorrelation time
_MAX_STEPS = 4000
_LONG = 50  # minimum length of chains, in autocorrelation times
_START = 0.3  # scatter of the walkers' starting points about the best fit, in standard deviations


def check_sampling(posterior, n_draws):
    """Raise ValueError, before any fit, if the sampler is unknown or there are fewer than two draws."""
    if posterior not in ("laplace", "emcee", "dynesty"):
        raise ValueError(f"`posterior` is {posterior!r}; it needs 'laplace', 'emcee' or 'dynesty'.")
    if not isinstance(n_draws, Integral) or isinstance(n_draws, bool) or n_draws < 2:
        raise ValueError(f"`n_draws` is {n_draws!r}; it needs a number of draws, at least 2.")


def sample_posterior(fit, result, *, method, n_draws, random_state):
    """Sample the posterior of a StarFit that has run, with `method` "emcee" or "dynesty".

    Writes draws, errors and diagnostics into `result`. ImportError if the sampler is not installed.
    """
    from sklearn.utils import check_random_state

    samplers = {"emcee": _by_emcee, "dynesty": _by_dynesty}
    seed = check_random_state(random_state).randint(2**31 - 1)
    parameters = fit.parameters
    noise = np.array([result.noise_errors.get(name, parameters.prior_std(name)) for name in parameters.free])
    width = np.clip(noise / parameters.slopes(fit.values), 1e-6, None)
    limits = parameters.limits
    # widen the likelihood to its inflated errors, and keep the width of the priors
    parameters.prior_scale = np.full(len(parameters.prior_names), fit.inflation)

    def log_density(variables):
        if np.any(variables < limits[:, 0]) or np.any(variables > limits[:, 1]):
            return -np.inf
        # priors are flat in the parameters, not in the variables of the fit: add the Jacobian
        slopes = np.log(parameters.slopes(parameters.values(variables))).sum()
        return fit.likelihood.log_likelihood(variables) / fit.inflation**2 + slopes

    at = parameters.variables(fit.values)
    chains, diagnostics = samplers[method](log_density, at, width, limits, n_draws, seed)
    rng = np.random.default_rng(seed)
    chosen = chains[rng.integers(len(chains), size=n_draws)] if len(chains) != n_draws else chains
    draws = np.stack([[parameters.values(row)[name] for name in result.names] for row in chosen])
    of_model = result.generator_covariance + result.covariances.get("calibration", 0.0)
    if of_model.any():
        nothing, bounds = np.zeros(len(result.names)), np.array([result.bounds[name] for name in result.names])
        draws = np.clip(draws + rng.multivariate_normal(nothing, of_model, size=n_draws), *bounds.T)
    result.draws, result.diagnostics = draws, {"method": method, **diagnostics}
    # exactly zero for fixed parameters: rounding would leave 1e-13, as if they were free
    free = np.isin(result.names, parameters.free)
    result.set_covariance(np.where(np.outer(free, free), np.cov(draws.T), 0.0))


def _by_emcee(log_density, at, width, limits, n_draws, seed):
    """Draws by an ensemble of walkers, run until the chains are 50 autocorrelation times long."""
    try:
        import emcee
    except ImportError as error:
        raise ImportError(
            'posterior="emcee" needs the package emcee. Install it with: pip install "stellarhml[samplers]".'
        ) from error
    from stellarhml._parallel import progress

    rng = np.random.default_rng(seed)
    n_walkers = max(_WALKERS, 2 * len(at) + 2)
    begin = at + _START * width * rng.normal(size=(n_walkers, len(at)))
    begin = np.clip(begin, limits[:, 0] + 1e-9, limits[:, 1] - 1e-9)
    # differential evolution needs half as many steps as the stretch move for a posterior near a Gaussian
    moves = [(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)]
    sampler = emcee.EnsembleSampler(n_walkers, len(at), log_density, moves=moves)
    sampler.random_state = np.random.RandomState(seed).get_state()
    state, tau = begin, np.full(len(at), np.inf)
    for n_steps in progress(range(_CHUNK, _MAX_STEPS + 1, _CHUNK), description="Sampling the posterior"):
        state = sampler.run_mcmc(state, _CHUNK)
        tau = sampler.get_autocorr_time(tol=0)
        if np.isfinite(tau).all() and n_steps > _LONG * tau.max():
            break
    longest = float(np.nanmax(tau)) if np.isfinite(tau).any() else np.inf
    burn = int(min(5 * longest, n_steps // 2)) if np.isfinite(longest) else n_steps // 2
    chains = sampler.get_chain(discard=burn, flat=True)
    halves = sampler.get_chain(discard=burn)
    return chains, {
        "acceptance": float(np.mean(sampler.acceptance_fraction)),
        "autocorrelation_time": tau.tolist(),
        "n_steps": n_steps,
        "n_effective": float(len(chains) / longest) if np.isfinite(longest) else 0.0,
        "split_r_hat": _r_hat(halves),
        "converged": bool(np.isfinite(longest) and n_steps > _LONG * longest),
    }


def _r_hat(chain):
    """Largest split R-hat of the parameters (Gelman and Rubin): scatter of all half-chains over that within them."""
    half = len(chain) // 2
    parts = np.concatenate([chain[:half], chain[half : 2 * half]], axis=1)
    within = parts.var(axis=0, ddof=1).mean(axis=0)
    between = parts.mean(axis=0).var(axis=0, ddof=1)
    return float(np.sqrt((within * (half - 1) / half + between) / within).max())


def _by_dynesty(log_density, at, width, limits, n_draws, seed):
    """Draws by nested sampling, within eight standard deviations of the best fit."""
    try:
        import dynesty
    except ImportError as error:
        raise ImportError(
            'posterior="dynesty" needs the package dynesty. Install it with: pip install "stellarhml[samplers]".'
        ) from error
    low = np.maximum(limits[:, 0], at - 8 * width)
    high = np.minimum(limits[:, 1], at + 8 * width)
    sampler = dynesty.NestedSampler(
        lambda x: max(log_density(x), -1e300),
        lambda u: low + u * (high - low),
        len(at),
        rstate=np.random.default_rng(seed),
    )
    sampler.run_nested(print_progress=False)
    found = sampler.results
    return found.samples_equal(rstate=np.random.default_rng(seed)), {
        "log_evidence": float(found.logz[-1]),
        "log_evidence_error": float(found.logzerr[-1]),
        "n_evaluations": int(np.sum(found.ncall)),
        "efficiency": float(found.eff),
        "converged": True,
    }
