"""What jobs do, by kind. Every task is idempotent and resumable; its files are whole or absent.

Specs (plain JSON) and what a finished job gives:

* ``train``: dictionary, recording, site, config (``TrainConfig`` as a dict) -> dictionary
* ``probe``: probe, recordings, dictionaries, holdout (optional), grid (optional) -> probe
* ``match``: match, a, b, probe (optional: the newest one that has both dictionaries, else their
  default probe is built), settings (optional, ``MatchSettings`` as a dict) -> match

Catalog bodies that they write (kind: fields):

* ``dictionary``: kind, features, width, k, recording, recording_uid, site, revision, provenance
  (``DictionaryProvenance`` as a dict), metrics (held-out ``fvu``, ``l0``, ``dead_fraction``)
* ``probe``: recordings (ids), revisions (by recording id), dictionaries (ids), grid, holdout,
  documents, segments
* ``codes`` (id: :func:`isogloss.service.values.json_fields.codes_id`):
  dictionary, dictionary_uid, probe, probe_uid
* ``atlas`` (id: that of its probe): probe, probe_uid, dictionaries
* ``match``: a, b, a_uid, b_uid, probe, settings, pairs, summary
"""

from collections.abc import Mapping
from types import MappingProxyType

from isogloss.service.tasks.heart import Task
from isogloss.service.tasks.match import match_task
from isogloss.service.tasks.probe import probe_task
from isogloss.service.tasks.train import train_task

TASKS: Mapping[str, Task] = MappingProxyType(
    {"train": train_task, "probe": probe_task, "match": match_task}
)
"""The task of each kind of job."""

__all__ = ["TASKS"]
