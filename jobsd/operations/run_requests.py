"""What may be said of runs that are asked for: one, or up to 10,000 of one job."""

import re
from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from jobsd.domain.job import Priority
from jobsd.operations.runs import Instant, Words

MOST = 10_000
MOST_TAGS = 20
KEY_CHARS = 200
TAG = re.compile(r"[a-z_][a-z0-9_.-]{0,62}")


def _tag_name(name: str) -> str:
    if not TAG.fullmatch(name):
        raise ValueError('expected a name like "language": a-z, 0-9, "_", ".", "-", at most 63')
    return name


TagName = Annotated[str, AfterValidator(_tag_name)]
TagText = Annotated[str, Field(strict=True, max_length=200)]


class RunRequest(BaseModel):
    """One run among many."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: dict[str, Any] = Field({}, description="laid over the job's own")
    due_at: Instant | None = Field(None, description="not before; absent: at once")
    priority: Priority | None = Field(None, description="absent: the job's own")
    dry_run: StrictBool = Field(False, description="recorded, but no work is done")
    tags: Annotated[dict[TagName, TagText], Field(max_length=MOST_TAGS)] = Field(
        {}, description='names and texts to find it by: {"language": "fr"}'
    )
    key: Annotated[str, Field(strict=True, min_length=1, max_length=KEY_CHARS)] | None = Field(
        None, description="idempotency key: for a day, and until that run is over, it makes no second run of the job"
    )

    @property
    def asked(self) -> Mapping[str, Any]:
        """What must be equal for a key to stand for the same request. `jobsd.enqueue` puts it together likewise."""
        due_at = self.due_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if self.due_at else None
        return {
            "params": self.params,
            "priority": self.priority,
            "due_at": due_at,
            "tags": self.tags,
            "dry_run": self.dry_run,
        }


class TriggerRequest(RunRequest):
    """A run that is asked for; with `runs`, many at once, all of them or none."""

    reason: Words | None = Field(None, description="why, for the audit")
    start: StrictBool = Field(False, description="an external job's: begin it at once, and answer its fence")
    runs: Annotated[tuple[RunRequest, ...], Field(min_length=1, max_length=MOST)] | None = Field(
        None, description="many; then nothing but `reason` may stand beside them"
    )

    @model_validator(mode="after")
    def _one_or_many(self) -> "TriggerRequest":
        beside = sorted(self.model_fields_set - {"runs", "reason"}) if self.runs is not None else []
        if beside:
            raise ValueError(f"{', '.join(beside)}: belongs into each of the runs, not beside them")
        return self
