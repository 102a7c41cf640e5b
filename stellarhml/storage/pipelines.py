"""The state of scikit-learn's Pipeline, a class that cannot carry `to_state` itself."""

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from stellarhml._state import StateError, check_keys, take, take_list
from stellarhml.exceptions import PersistenceError


class PipelineState:
    """Reads and writes the state of a pipeline: its steps and whether it reports them."""

    @staticmethod
    def to_state(pipeline) -> dict:
        """State of a pipeline.

        Parameters
        ----------
        pipeline : Pipeline
            Pipeline of estimators that can be stored.

        Returns
        -------
        state : dict
            "names", "steps", "verbose".

        Raises
        ------
        PersistenceError
            If it has a cache or routes its input, which a file cannot hold.
        """
        for name in ("memory", "transform_input"):
            if getattr(pipeline, name, None) is not None:
                raise PersistenceError(
                    f"The pipeline has `{name}`, which an ASDF file cannot hold. Set it to None, or save to a name "
                    "that ends in .joblib."
                )
        names, steps = zip(*pipeline.steps, strict=True)
        return {"names": list(names), "steps": list(steps), "verbose": bool(pipeline.verbose)}

    @staticmethod
    def from_state(state):
        """Rebuild a pipeline from its state.

        Parameters
        ----------
        state : dict
            As `to_state` returns it.

        Returns
        -------
        pipeline : Pipeline
            The pipeline.

        Raises
        ------
        StateError
            If the state is invalid.
        """
        check_keys(state, ("names", "steps", "verbose"))
        names = take_list(state, "names", str, distinct=True)
        steps = take_list(state, "steps", (BaseEstimator, str, type(None)), length=len(names))
        wrong = [name for name in names if not name or "__" in name or name in ("steps", "verbose", "memory")]
        wrong += [step for step in steps if isinstance(step, str) and step != "passthrough"]
        wrong += [name for name, step in zip(names[:-1], steps[:-1], strict=True) if _blocks(step)]
        if not names or wrong:
            raise StateError(f"A pipeline has {len(names)} steps, of which {wrong!r:.200} are not valid.")
        return Pipeline(list(zip(names, steps, strict=True)), verbose=take(state, "verbose", bool))


def _blocks(step):
    """Whether a step cannot stand before another."""
    return isinstance(step, BaseEstimator) and not hasattr(step, "transform")
