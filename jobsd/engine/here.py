"""This node: what every loop of the engine needs and none of them owns."""

from dataclasses import dataclass

from jobsd.domain.events import Observe
from jobsd.engine.keeper import Keeper
from jobsd.engine.masking import Mask
from jobsd.engine.pulse import Pulse
from jobsd.store.db import Db
from jobsd.store.nodes import Identity


@dataclass(frozen=True, slots=True)
class Here:
    db: Db
    keeper: Keeper
    pulse: Pulse
    observe: Observe
    who: Identity
    mask: Mask = str  # a job's words, without the secrets that are known

    @property
    def actor(self) -> str:
        """Who acts in the audit when the machine does."""
        return f"node:{self.who.name}"
