"""A pipeline of weighted steps: how far a run is when one of its steps is so far. Pure."""

from collections.abc import Sequence

Steps = Sequence[tuple[str, float]]  # names and weights, in the order in which they are done
MOST_STEPS = 100


def fraction_of(steps: Steps, step: str, done: float) -> float:
    """How far the whole is, 0 to 1, when the steps before `step` are over and it is `done` of its own way, 0 to 1.

    Raises `ValueError` for a step that is not there, worded for whoever reported it.
    """
    names = [name for name, _ in steps]
    if step not in names:
        there = ", ".join(names) or "none are declared"
        raise ValueError(f'there is no step "{step}"; the steps are: {there}')
    index = names.index(step)
    before = sum(weight for _, weight in steps[:index])
    return min(1.0, (before + steps[index][1] * done) / sum(weight for _, weight in steps))
