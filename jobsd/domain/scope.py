"""What a caller may do: four scopes, each with all that those before it have."""

from enum import StrEnum


class Scope(StrEnum):
    READ = "read"  # see everything
    TRIGGER = "trigger"  # ask for runs, and report on those that another program does
    OPERATE = "operate"  # retry, cancel, delete, enable, disable
    ADMIN = "admin"  # tokens, reload, emergency stop

    def reaches(self, needed: "Scope") -> bool:
        """Whether whoever has this one may do what takes `needed`."""
        ladder = list(Scope)
        return ladder.index(self) >= ladder.index(needed)
