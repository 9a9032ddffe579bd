"""A dictionary of a store as a module of torch. Importing this module imports torch."""

from collections.abc import Mapping

from torch import Tensor

from isogloss.dictionaries import (
    ArrivingWeights,
    DictionaryModule,
    DictionaryProvenance,
    Kind,
    Passport,
    SparseDictionary,
    TrainConfig,
    kind_of,
)
from isogloss.errors import CorruptData, InvalidInput, UnsupportedVersion
from isogloss.service.values.results import DictionaryInfo, FeatureRef


class HeldDictionary(DictionaryModule):
    """A trained dictionary of a store, ready to use; made by :meth:`Client.dictionary`."""

    def __init__(
        self, dictionary: SparseDictionary, info: DictionaryInfo, passport: Passport | None = None
    ) -> None:
        """Take over the tensors of a dictionary.

        Args:
            dictionary: the weights.
            info: what describes it in the store.
            passport: what it was trained on; None: not known.

        Raises:
            PassportRefused: the weights are other than the passport says.
        """
        super().__init__(dictionary, passport)
        self._info = info

    @property
    def info(self) -> DictionaryInfo:
        """What describes it in the store: sources, metrics, etag, when it was made."""
        return self._info

    @property
    def id(self) -> str:
        """Resource id, with which calls name it."""
        return self._info.id

    def feature(self, feature: int) -> FeatureRef:
        """Return a reference to one feature, as :meth:`Client.nearest` and others take it.

        Args:
            feature: number of the feature, from 0.

        Raises:
            InvalidInput: there is no such feature.
        """
        return self._info.feature(feature)

    def extra_repr(self) -> str:
        """Name the dictionary, as ``print`` shows a module."""
        return f"{self.id!r}, {super().extra_repr()}"

    def _repr_html_(self) -> str:
        return self.info._repr_html_()


def arriving(info: DictionaryInfo, shapes: Mapping[str, tuple[int, ...]]) -> ArrivingWeights:
    """Check what was told of the weights of a dictionary, and take memory for them.

    Args:
        info: what describes the dictionary.
        shapes: of the tensors that will come, in their order.

    Raises:
        UnsupportedVersion: the kind or wiring is not installed here.
        InvalidInput: the tensors are not those of the dictionary.
    """
    settings = _settings(info)
    return ArrivingWeights(settings, shapes, features=info.features, width=info.width)


def held(
    info: DictionaryInfo, tensors: Mapping[str, Tensor], passport: Mapping[str, object]
) -> HeldDictionary:
    """Make a module of weights that have come.

    Args:
        info: what describes the dictionary.
        tensors: its weights.
        passport: what it was trained on, as JSON values.

    Raises:
        CorruptData: what is told of its making cannot be read.
        PassportRefused: the weights are other than the passport says.
    """
    try:
        provenance = DictionaryProvenance.from_dict(info.provenance)
    except InvalidInput as error:
        raise CorruptData(f"the provenance of {info.id!r} cannot be read: {error}") from error
    made = SparseDictionary(
        kind=info.kind,
        settings=_settings(info),
        wiring=info.wiring,
        tensors=dict(tensors),
        provenance=provenance,
    )
    known = Passport.from_dict(passport) if passport else None
    return HeldDictionary(made, info, known).eval()


def _settings(info: DictionaryInfo) -> Kind:
    try:
        run = TrainConfig(kind=info.kind, wiring=info.wiring, settings=info.settings)
        return kind_of(run)
    except InvalidInput as error:
        raise UnsupportedVersion(
            f"{info.id!r} is of kind {info.kind!r} and wiring {info.wiring!r}: {error}; install "
            "the package that brings it, or upgrade isogloss"
        ) from error
