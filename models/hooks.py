"""Read and replace activations of a live module: context managers over forward hooks."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import cast

from torch import Tensor, nn

from isogloss.errors import Conflict, InvalidInput, ShapeError
from isogloss.models.execution import hooked_execution
from isogloss.models.sites import Site, site_names, submodule, unknown_site
from isogloss.models.wrappers import unwrapped

Replacement = Callable[[Tensor], Tensor]


class _Stop(BaseException):
    """Ends a forward pass; not an Exception, so that a model's own handlers let it through."""


class Capture:
    """Activations at the sites in the last forward pass; made by :func:`capture`.

    ``capture[name]`` is a copy, detached from the autograd graph, on the model's device and in its
    dtype. A capture may be entered again after it was left.
    """

    def __init__(
        self, module: nn.Module, sites: Sequence[str | Site], *, stop_early: bool = False
    ) -> None:
        self._module = unwrapped(module)
        self._modules = {name: submodule(self._module, name) for name in site_names(sites)}
        self._stop_early = stop_early
        self._tensors: dict[str, Tensor] = {}
        self._context: ExitStack | None = None
        self._calls = 0
        self._calls_to_stop_at: int | None = None
        self._may_stop = False

    @property
    def names(self) -> tuple[str, ...]:
        """The sites, in the order given."""
        return tuple(self._modules)

    def __enter__(self) -> "Capture":
        if self._context is not None:
            raise Conflict("this capture is active already; make a second one with capture(...)")
        with ExitStack() as stack:
            stack.enter_context(hooked_execution(self._module))
            stack.callback(self._module.register_forward_pre_hook(self._begin).remove)
            for name, module in self._modules.items():
                stack.callback(module.register_forward_hook(self._reader(name)).remove)
            self._context = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        context, self._context = self._context, None
        if context is not None:
            context.close()

    def __getitem__(self, name: str) -> Tensor:
        """Return the output at a site in the last forward pass.

        Raises:
            UnknownSite: the capture has no such site.
            InvalidInput: no forward pass reached it.
        """
        if name not in self._modules:
            raise unknown_site(name, self.names)
        if name not in self._tensors:
            raise InvalidInput(f"site {name!r} was not reached by the last forward pass; run one")
        return self._tensors[name]

    def run(self, *args: object, **inputs: object) -> None:
        """Run the module's forward pass; the captured activations are then in this object.

        Without ``stop_early`` the pass is always complete. With it, the first pass is complete and
        counts how often the sites are reached (layers may share a module); each later pass is
        broken off as soon as the sites were reached that often. The module's own output is not
        returned.

        Args:
            *args: given to the module.
            **inputs: given to the module.

        Raises:
            Conflict: the capture was not entered with ``with``, or was left.
        """
        if self._context is None:
            raise Conflict("the capture is not active; write `with capture(...) as c: c.run(...)`")
        self._may_stop = self._calls_to_stop_at is not None
        try:
            self._module(*args, **inputs)
        except _Stop:
            return
        finally:
            self._may_stop = False
        if self._stop_early:
            self._calls_to_stop_at = self._calls or None

    def _begin(self, module: nn.Module, args: tuple[object, ...]) -> None:
        self._tensors.clear()
        self._calls = 0

    def _reader(self, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def read(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            # a copy: the layers behind may write into the tensor in place (residual adds do)
            self._tensors[name] = first_tensor(output, name).detach().clone()
            self._calls += 1
            if self._may_stop and self._calls == self._calls_to_stop_at:
                raise _Stop

        return read


def capture(module: nn.Module, sites: Sequence[str | Site], *, stop_early: bool = False) -> Capture:
    """Read the output of submodules while the module runs.

    ``with capture(model, ["encoder.layer.3"]) as seen: model(**inputs)``, then
    ``seen["encoder.layer.3"]``. Where a submodule returns a tuple or a mapping, its first element
    is read. Contexts nest; one sees what those opened before it at the same site have made of it.

    Args:
        module: any ``torch.nn.Module``.
        sites: paths of submodules (see :func:`isogloss.models.resolve_sites` for globs).
        stop_early: end passes started with :meth:`Capture.run` behind the last site.

    Raises:
        UnknownSite: a name is not a submodule's path; the message lists the nearest.
    """
    return Capture(module, sites, stop_early=stop_early)


@contextmanager
def splice(module: nn.Module, replacements: Mapping[str, Replacement]) -> Generator[None]:
    """Replace the output of submodules while the module runs: reconstruct, ablate, steer.

    Args:
        module: any ``torch.nn.Module``.
        replacements: for each site's name a function from its output to what takes its place, of
            the same shape, dtype and device. Where a submodule returns a tuple or a mapping, the
            first element is given and replaced. Gradients flow through.

    Raises:
        UnknownSite: a name is not a submodule's path.
        ShapeError: in the forward pass, when a replacement differs in shape, dtype or device.
    """
    root = unwrapped(module)
    modules = {name: submodule(root, name) for name in site_names(tuple(replacements))}
    with ExitStack() as stack:
        stack.enter_context(hooked_execution(root))
        for name, target in modules.items():
            handle = target.register_forward_hook(_replacer(name, replacements[name]))
            stack.callback(handle.remove)
        yield


def _replacer(
    name: str, replacement: Replacement
) -> Callable[[nn.Module, tuple[object, ...], object], object]:
    def replace(module: nn.Module, args: tuple[object, ...], output: object) -> object:
        old = first_tensor(output, name)
        new = replacement(old)
        if (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
            raise ShapeError(
                f"the replacement at {name!r} is {_describe(new)}, the output is {_describe(old)}; "
                "return a tensor of the same shape, dtype and device"
            )
        return _with_first(output, new)

    return replace


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"


def first_tensor(output: object, name: str) -> Tensor:
    """Return the tensor in a module's output.

    Where the output is a tuple, list or mapping its first element is taken, and again the first
    element of that, until a tensor is found.

    Args:
        output: what the module returned.
        name: name of the site, for the error message.

    Returns:
        The tensor.

    Raises:
        InvalidInput: there is no tensor, or a container on the way is empty.
    """
    found = output
    while not isinstance(found, Tensor):
        if isinstance(found, Mapping) and found:
            found = next(iter(cast("Mapping[str, object]", found).values()))
        elif isinstance(found, tuple | list) and found:
            found = cast("Sequence[object]", found)[0]
        else:
            raise InvalidInput(
                f"site {name!r} gives {type(found).__name__}, not a tensor; choose a submodule "
                "that returns activations"
            )
    return found


def _with_first(output: object, new: Tensor) -> object:
    """Return a copy of a module's output with another first element."""
    if isinstance(output, Tensor):
        return new
    if isinstance(output, Mapping):
        items = dict(cast("Mapping[str, object]", output))
        key = next(iter(items))
        make_mapping = cast("Callable[..., object]", type(cast("object", output)))
        return make_mapping({**items, key: _with_first(items[key], new)})
    items = list(cast("Sequence[object]", output))
    items[0] = _with_first(items[0], new)
    make = getattr(output, "_make", None) or type(cast("Sequence[object]", output))
    return cast("Callable[[list[object]], object]", make)(items)


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """Hold every submodule in evaluation mode (no dropout), then give each its own mode back."""
    training = [child for child in module.modules() if child.training]
    for child in training:
        child.training = False
    try:
        yield
    finally:
        for child in training:
            child.training = True
