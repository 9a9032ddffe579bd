"""The identity of a training run, so that it never resumes another run's checkpoint."""

import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.provenance import TrainedSite
from isogloss.dictionaries.training.plan import TrainPlan, complete_config
from isogloss.dictionaries.training.recipe import RECIPE
from isogloss.errors import Conflict

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunIdentity:
    """Config, recording, revision and sites of a run.

    Only a checkpoint with the same ones is resumed.
    """

    config: TrainConfig
    """Settings, complete; ``checkpoint_every`` may differ."""
    sites: tuple[TrainedSite, ...]
    """Sites read, each with the pinned revision of its recording."""

    @classmethod
    def of(cls, plan: TrainPlan) -> "RunIdentity":
        """Identify a planned run."""
        return cls(
            config=plan.config,
            sites=tuple(
                TrainedSite(
                    recording=source.reader.spec.recording,
                    recording_uid=source.reader.revision.recording,
                    site=source.site,
                    revision=source.reader.revision.to_dict(),
                    steps=steps,
                )
                for source, steps in zip(plan.joined.sources, plan.joined.steps, strict=True)
            ),
        )

    def to_dict(self) -> dict[str, object]:
        """Return what a checkpoint keeps; of one recording as before there could be several."""
        first = self.sites[0]
        kept: dict[str, object] = {
            "config": self.config.to_dict(),
            "recording_uid": first.recording_uid,
            "revision": dict(first.revision),
            "sites": [site.site for site in self.sites],
            "libraries": _libraries(),
            "recipe": RECIPE,
        }
        if any(site.revision != first.revision for site in self.sites):
            kept["revisions"] = [dict(site.revision) for site in self.sites]
        return kept

    def require(self, found: Mapping[str, object]) -> None:
        """Raise Conflict for the checkpoint of another run.

        Checkpoints with a flat config and one ``site`` are read too.

        Raises:
            Conflict: config, recording, revision or sites differ; the message names them.
            InvalidInput: the checkpoint's config cannot be read.
            KeyError: the checkpoint lacks a part.
        """
        config = TrainConfig.from_dict(cast("Mapping[str, object]", found["config"]))
        differing = [f"config.{name}" for name in self.config.differences(complete_config(config))]
        mine = self.to_dict()
        differing += [name for name in ("recording_uid", "revision") if found[name] != mine[name]]
        if found.get("revisions") != mine.get("revisions"):
            differing.append("revisions")
        if (found["sites"] if "sites" in found else [found["site"]]) != mine["sites"]:
            differing.append("sites")
        if (recipe := found.get("recipe", 1)) != RECIPE:
            raise Conflict(
                f"the checkpoint was made by a release of recipe {recipe!r}, this one trains by "
                f"recipe {RECIPE} (other defaults and another optimiser): finish the run with that "
                "release, or delete the directory to start anew"
            )
        if differing:
            raise Conflict(
                f"the directory holds a run that differs in {', '.join(differing)}; train into "
                "another directory, or delete this one to start anew"
            )
        if found["libraries"] != mine["libraries"]:
            _LOG.warning(
                "the checkpoint was made with %s, this process has %s: the result may differ in "
                "its last bits from an uninterrupted run",
                found["libraries"],
                mine["libraries"],
            )


def _libraries() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("isogloss", "numba", "torch")}
