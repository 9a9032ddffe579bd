"""A table of named classes: built-in rows, and rows that installed packages bring."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Registry:
    """Finds a class by the name that users write.

    A name is only ever looked up: first among the built-in rows, then among the entry points of the
    installed packages. It is never imported as the path of a module, so a name that comes over the
    network can load nothing that the owner of this environment did not install.
    """

    noun: str
    """Name of one entry in error messages: ``kind`` or ``wiring``."""
    group: str
    """Entry point group in which packages offer rows of their own."""
    built_in: Mapping[str, str]
    """Name -> ``module:class``, one row each."""

    def names(self) -> list[str]:
        """Return every name that :meth:`find` knows, sorted. Imports none of the classes."""
        return sorted({*self.built_in, *(entry.name for entry in entry_points(group=self.group))})

    def find(self, name: str) -> object:
        """Import what a name stands for. A built-in row comes before an entry point of its name.

        Raises:
            InvalidInput: there is no such name, two packages offer it, or its package does not
                import.
        """
        row = self.built_in.get(name)
        if row is not None:
            module, _, attribute = row.partition(":")
            return getattr(import_module(module), attribute)
        offered = entry_points(group=self.group, name=name)
        if not offered:
            raise InvalidInput(
                f"no {self.noun} {name!r} is installed; there are: {', '.join(self.names())}"
            )
        if len({entry.value for entry in offered}) > 1:
            raise InvalidInput(
                f"{self.noun} {name!r} is offered by {' and '.join(sorted(map(_origin, offered)))};"
                " uninstall all of these packages but one"
            )
        (entry, *_) = offered
        try:
            return entry.load()
        except (Exception, SystemExit) as error:  # a package may do anything while it is imported
            found = f"{type(error).__name__}: {error}"
            raise InvalidInput(
                f"{self.noun} {name!r} of {_origin(entry)} does not import: {found}; "
                "reinstall that package"
            ) from error


def _origin(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist is not None else "an unnamed package"
    return f"{package} ({entry.value})"
