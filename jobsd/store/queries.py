"""Every query that jobsd runs, by name: for the DBA who asks, and for the test that prepares them all."""

import re
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

import jobsd.store
from jobsd.store.db import in_schema

_STATEMENT = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|CREATE|LISTEN|NOTIFY|SET|COPY|LOCK)\b")


def queries(schema: str = "jobsd") -> Mapping[str, str]:
    """Name ("runs.CLAIM") to text, in the order of modules and lines: the upper-case constants of `store`."""
    found: dict[str, str] = {}
    for module in iter_modules(jobsd.store.__path__):
        for name, value in vars(import_module(f"jobsd.store.{module.name}")).items():
            if name.isupper() and isinstance(value, str) and _STATEMENT.match(value):
                found[f"{module.name}.{name}"] = in_schema(value, schema)
    return found
