"""Read and replace activations of a live module: context managers over forward hooks."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType

from torch import Tensor, nn

from isogloss.errors import Conflict, InvalidInput, ShapeError
from isogloss.models.elements.eager import eager_attention
from isogloss.models.elements.place import SitePlace, locate
from isogloss.models.execution import hooked_execution
from isogloss.models.sites import Site, site_names, unknown_site
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
        self._places = {name: locate(self._module, name) for name in site_names(sites)}
        self._stop_early = stop_early
        self._tensors: dict[str, Tensor] = {}
        self._context: ExitStack | None = None
        self._calls = 0
        self._calls_to_stop_at: int | None = None
        self._may_stop = False

    @property
    def names(self) -> tuple[str, ...]:
        """The sites, in the order given."""
        return tuple(self._places)

    def __enter__(self) -> "Capture":
        if self._context is not None:
            raise Conflict("this capture is active already; make a second one with capture(...)")
        with ExitStack() as stack:
            stack.enter_context(_execution(self._module, self._places.values()))
            stack.callback(self._module.register_forward_pre_hook(self._begin).remove)
            for name, place in self._places.items():
                stack.enter_context(place.hooked(self._reader(name)))
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
        if name not in self._places:
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

    def _reader(self, name: str) -> Callable[[Tensor], None]:
        def read(found: Tensor) -> None:
            # a copy: the layers behind may write into the tensor in place (residual adds do)
            self._tensors[name] = found.detach().clone()
            self._calls += 1
            if self._may_stop and self._calls == self._calls_to_stop_at:
                raise _Stop

        return read


def capture(module: nn.Module, sites: Sequence[str | Site], *, stop_early: bool = False) -> Capture:
    """Read what passes sites while the module runs.

    ``with capture(model, ["encoder.layer.3"]) as seen: model(**inputs)``, then
    ``seen["encoder.layer.3"]``. Where a submodule returns a tuple or a mapping, its first element
    is read. Contexts nest; one sees what those opened before it at the same site have made of it.

    Attention is computed eagerly meanwhile where its patterns are read.

    Args:
        module: any ``torch.nn.Module``.
        sites: paths of submodules, or what ``models/elements/README.md`` lists: ``attn:1`` (an
            element), ``o_proj.input``, ``layers.3.attn.heads.q`` (``k``, ``v``, ``z``,
            ``pattern``), ``layers.3.attn.head.6``.
        stop_early: end passes started with :meth:`Capture.run` behind the last site.

    Raises:
        UnknownSite: a name is not a submodule's path; the message lists the nearest.
        InvalidInput: a submodule has no such heads.
    """
    return Capture(module, sites, stop_early=stop_early)


@contextmanager
def splice(module: nn.Module, replacements: Mapping[str, Replacement]) -> Generator[None]:
    """Replace what passes sites while the module runs: reconstruct, ablate, steer.

    Args:
        module: any ``torch.nn.Module``.
        replacements: for each site's name (as :func:`capture` takes them) a function from what is
            there to what takes its place, of the same shape, dtype and device. Where a submodule
            returns a tuple or a mapping, the first element is given and replaced. Gradients flow
            through.

    Raises:
        UnknownSite: a name is not a submodule's path.
        InvalidInput: a submodule has no such heads.
        ShapeError: in the forward pass, when a replacement differs in shape, dtype or device.
    """
    root = unwrapped(module)
    places = {name: locate(root, name) for name in site_names(tuple(replacements))}
    with ExitStack() as stack:
        stack.enter_context(_execution(root, places.values()))
        for name, place in places.items():
            stack.enter_context(place.hooked(_replacer(name, replacements[name])))
        yield


@contextmanager
def _execution(root: nn.Module, places: Iterable[SitePlace]) -> Generator[None]:
    """Let a module run so that the places are seen; as before when this is left."""
    with ExitStack() as stack:
        stack.enter_context(hooked_execution(root))
        if any(place.needs_eager for place in places):
            stack.enter_context(eager_attention(root))
        yield


def _replacer(name: str, replacement: Replacement) -> Callable[[Tensor], Tensor]:
    def replace(old: Tensor) -> Tensor:
        new = replacement(old)
        if (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
            raise ShapeError(
                f"the replacement at {name!r} is {_describe(new)}, what is there is "
                f"{_describe(old)}; return a tensor of the same shape, dtype and device"
            )
        return new

    return replace


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"


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
