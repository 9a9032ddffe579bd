"""The rotate job: a dictionary that reads rotated activations, as a floor for matches."""

from isogloss.dictionaries import load_dictionary, load_provenance, rotated, save_dictionary
from isogloss.errors import AlreadyExists
from isogloss.service.tasks.heart import Heart
from isogloss.service.values.job_specs import RotateSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.json_fields import object_of
from isogloss.store import Store


def rotate_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Rotate what a dictionary reads and writes, and register the result as one of its own."""
    spec = RotateSpec.from_dict(record.spec)
    source = store.catalog.get("dictionary", spec.source)
    made_of = {"floor": "rotated", "rotated_from": source.uid, "rotation_seed": spec.seed}
    found = store.catalog.find("dictionary", spec.dictionary)
    if found is not None:
        known = object_of(found.body, "provenance")
        if any(known.get(name) != value for name, value in made_of.items()):
            raise AlreadyExists(
                f"dictionary {found.id!r} exists and is another one: choose another id"
            )
        return {"dictionary": spec.dictionary}
    uid = str(heart.pin("uid", store.catalog.new_uid))
    directory = store.artifact("dictionary", uid)
    save_dictionary(
        rotated(load_dictionary(store.artifact("dictionary", source.uid)), spec.seed), directory
    )
    heart.check()
    body = {
        **source.body,
        "provenance": {**load_provenance(directory).to_dict(), **made_of},
        "metrics": {},
    }
    store.catalog.put("dictionary", spec.dictionary, uid, body)
    return {"dictionary": spec.dictionary}
