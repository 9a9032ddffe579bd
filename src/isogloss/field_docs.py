"""What ``help()`` says of the fields of our dataclasses: the docstring under each.

Python drops a string under an annotation. ``help()`` shows for each slot of a class what
``__slots__`` holds for its name, if that is a dict (data model, "__slots__"). Classes without slots
get the texts at the end of their docstring. A room does this for a class when its name is first
looked up; sources are read only when somebody asks for help.
"""

import ast
import inspect
import textwrap
from dataclasses import fields, is_dataclass
from itertools import pairwise


def show_fields(public: object) -> None:
    """Let ``help()`` show the docstrings of the fields of a dataclass; other things stay as is.

    Args:
        public: what a room offers under a name.
    """
    if not (isinstance(public, type) and is_dataclass(public)):
        return
    own = vars(public)
    if isinstance(own.get("__slots__"), tuple):
        type.__setattr__(public, "__slots__", _SlotDocs(public))
    elif "__slots__" not in own and "\n\nFields:\n" not in (public.__doc__ or ""):
        texts = field_docs(public)
        listed = "".join(f"    {f.name}: {texts.get(f.name, '')}\n" for f in fields(public))
        public.__doc__ = f"{inspect.cleandoc(public.__doc__ or '')}\n\nFields:\n{listed}"


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring under each field, inherited fields included; none without source."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        except (OSError, TypeError, SyntaxError):
            continue
        for body in (node.body for node in tree.body if isinstance(node, ast.ClassDef)):
            for field, text in pairwise(body):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                    and isinstance(text.value.value, str)
                ):
                    found[field.target.id] = " ".join(text.value.value.split())
    return found


class _SlotDocs(dict[str, str]):
    """The slots of a class; each one's docstring is read from the source when it is asked for."""

    def __init__(self, owner: type) -> None:
        super().__init__(dict.fromkeys(vars(owner)["__slots__"], ""))
        self._owner = owner

    def __getitem__(self, name: str) -> str:
        return field_docs(self._owner).get(name, "")


__all__ = ["field_docs", "show_fields"]
