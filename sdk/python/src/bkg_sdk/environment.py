"""What the host tells a launch through its environment.

Not the settings: those come over the bus. The invariant: an `Environment` names a host and a plugin,
everything else may be absent and says who sets it when it is asked for.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from .error import MissingEnvironment, WrongEnvironment
from .protocol.name import problem_of_plugin_name


class Environment:
    """What the host tells a launch: where it listens, and who the plugin is.

    >>> Environment("ws://127.0.0.1:7", "greeter", "secret")
    Environment('ws://127.0.0.1:7', 'greeter')
    """

    def __init__(
        self,
        bus_url: str,
        name: str,
        token: str,
        *,
        instance: str | None = None,
        config_path: Path | None = None,
        data_dir: Path | None = None,
    ) -> None:
        problem = problem_of_plugin_name(name)
        if problem is not None:
            raise WrongEnvironment(_NAME, problem)
        self.bus_url = bus_url
        """`BKG_PLUGIN_BUS_URL`: where to dial."""
        self.name = name
        """`BKG_PLUGIN_NAME`: the plugin's name, as in its entry."""
        self.token = token
        """`BKG_PLUGIN_TOKEN`: proves the first registration of this launch; not for logs."""
        self._instance = instance
        self._config_path = config_path
        self._data_dir = data_dir

    def __repr__(self) -> str:
        return f"Environment({self.bus_url!r}, {self.name!r})"

    @classmethod
    def of_process(cls, variables: Mapping[str, str] = os.environ) -> Environment:
        """Reads the variables of this process.

        Raises `MissingEnvironment` or `WrongEnvironment` for the first one that is absent or wrong.

        >>> try:
        ...     Environment.of_process({"BKG_PLUGIN_BUS_URL": "ws://127.0.0.1:7"})
        ... except MissingEnvironment as problem:
        ...     print(problem.variable)
        BKG_PLUGIN_NAME
        """

        def needed(variable: str) -> str:
            if variable not in variables:
                raise MissingEnvironment(variable)
            return variables[variable]

        def path(variable: str) -> Path | None:
            return Path(variables[variable]) if variable in variables else None

        instance = variables.get(_INSTANCE)
        if instance is not None:
            try:
                uuid.UUID(instance)
            except ValueError:
                raise WrongEnvironment(
                    _INSTANCE, f"`{instance[:96]}` is not an instance id: it is a UUID"
                ) from None
        return cls(
            bus_url=needed(_BUS_URL),
            name=needed(_NAME),
            token=needed(_TOKEN),
            instance=instance,
            config_path=path(_CONFIG_PATH),
            data_dir=path(_DATA_DIR),
        )

    @property
    def instance(self) -> str:
        """`BKG_PLUGIN_INSTANCE`: the id of this launch. Raises where the variable is not set."""
        return _present(self._instance, _INSTANCE)

    @property
    def config_path(self) -> Path:
        """`BKG_PLUGIN_CONFIG_PATH`: the file with the whole effective entry. Raises where it is not set."""
        return _present(self._config_path, _CONFIG_PATH)

    @property
    def data_dir(self) -> Path:
        """`BKG_PLUGIN_DATA_DIR`: the private directory, which persists. Raises where it is not set."""
        return _present(self._data_dir, _DATA_DIR)


_BUS_URL = "BKG_PLUGIN_BUS_URL"
_NAME = "BKG_PLUGIN_NAME"
_INSTANCE = "BKG_PLUGIN_INSTANCE"
_TOKEN = "BKG_PLUGIN_TOKEN"
_CONFIG_PATH = "BKG_PLUGIN_CONFIG_PATH"
_DATA_DIR = "BKG_PLUGIN_DATA_DIR"


T = TypeVar("T")


def _present(value: T | None, variable: str) -> T:
    if value is None:
        raise MissingEnvironment(variable)
    return value
