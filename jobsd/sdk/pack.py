"""A pack: a folder of shipped jobs for one field. Found by its entry point in the group `jobsd.packs`."""

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import iscoroutinefunction

from jobsd.sdk.action import Action
from jobsd.sdk.view import View, misnamed, twice


@dataclass(frozen=True, slots=True)
class Pack:
    """`name` is also the name of its folder in `sql/`, where its migrations and its own schema are.

    Raises `ValueError` when its parts do not fit together.
    """

    name: str
    title: str
    views: tuple[View, ...] = ()
    actions: tuple[Action, ...] = ()

    def __post_init__(self) -> None:
        if wrong := next(self._mistakes(), None):
            raise ValueError(f'pack "{self.name}": {wrong}')

    def _mistakes(self) -> Iterator[str]:
        actions = {action.name: action for action in self.actions}
        for names in ([view.name for view in self.views], [action.name for action in self.actions]):
            yield from misnamed([self.name, *names])
            yield from (f'"{name}" is there twice' for name in twice(names))
        for action in self.actions:
            if not iscoroutinefunction(action.handler):
                yield f'the handler of action "{action.name}" is not an async function'
        for view in self.views:
            for fit in view.actions:
                if (meant := actions.get(fit.action)) is None:
                    yield f'view "{view.name}" names the action "{fit.action}", which it does not have'
                elif unknown := sorted(fit.params.keys() - meant.params.model_fields):
                    yield f'view "{view.name}" fills in "{unknown[0]}", which action "{fit.action}" does not take'
