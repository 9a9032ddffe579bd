"""DictionaryService: messages in, engine, messages out."""

import numpy as np
from google.longrunning import operations_pb2 as operations

from isogloss import dictionaries  # names are looked up when used: complete_config loads torch
from isogloss.dictionaries import TrainConfig
from isogloss.errors import ShapeError
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.service.calls.table import Unary, unary
from isogloss.service.control.deleting import delete_dictionary
from isogloss.service.control.entries import dictionary_info
from isogloss.service.control.owner import Owner
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.wire import methods
from isogloss.service.wire.features import to_dictionary, to_job, to_operation
from isogloss.service.wire.recordings import from_dtype, from_name, page_of
from isogloss.service.wire.settings import set_fields
from isogloss.store import SiteSpec


class DictionaryHandlers:
    """Answers every call of DictionaryService."""

    def __init__(self, engine: Owner) -> None:
        self._engine = engine

    def unary(self) -> list[Unary]:
        """Return the calls with one answer."""
        return [
            unary(methods.TRAIN_DICTIONARY, self._train, self._check),
            unary(methods.GET_DICTIONARY, self._get),
            unary(methods.LIST_DICTIONARIES, self._list),
            unary(methods.DELETE_DICTIONARY, self._delete),
            unary(methods.ENCODE, self._encode),
        ]

    def _check(self, request: pb.TrainDictionaryRequest) -> pb.TrainDictionaryRequest:
        """Refuse a site that is not there, and settings that the kind refuses."""
        self._engine.recordings.check_site(from_name("recordings", request.recording), request.site)
        dictionaries.complete_config(TrainConfig.from_dict(set_fields(request.config)))
        return request

    def _train(self, request: pb.TrainDictionaryRequest) -> operations.Operation:
        recording = from_name("recordings", request.recording)
        self._engine.recordings.check_site(recording, request.site)
        spec = TrainSpec(
            dictionary=from_name("dictionaries", f"dictionaries/{request.dictionary_id}"),
            recording=recording,
            site=request.site,
            config=TrainConfig.from_dict(set_fields(request.config)).to_dict(),
        )
        return to_operation(to_job(self._engine.jobs.submit(spec, request_id=request.request_id)))

    def _get(self, request: pb.GetDictionaryRequest) -> pb.Dictionary:
        catalog = self._engine.store.catalog
        found = catalog.get("dictionary", from_name("dictionaries", request.name))
        return to_dictionary(dictionary_info(found))

    def _list(self, request: pb.ListDictionariesRequest) -> pb.ListDictionariesResponse:
        found = self._engine.store.catalog.list("dictionary")
        page, token = page_of(found, lambda e: e.id, request.page_size, request.page_token)
        return pb.ListDictionariesResponse(
            dictionaries=[to_dictionary(dictionary_info(entry)) for entry in page],
            next_page_token=token,
        )

    def _delete(self, request: pb.DeleteDictionaryRequest) -> pb.DeleteDictionaryResponse:
        deleted = delete_dictionary(
            self._engine.store,
            self._engine.jobs,
            from_name("dictionaries", request.name),
            request.etag,
            cascade=request.cascade,
        )
        return pb.DeleteDictionaryResponse(deleted=deleted)

    def _encode(self, request: pb.EncodeRequest) -> pb.EncodeResponse:
        rows, width = request.rows.rows, request.rows.width
        dtype = SiteSpec(name="-", width=width, dtype=from_dtype(request.rows.dtype)).numpy_dtype
        found, wanted = len(request.rows.data), rows * width * dtype.itemsize
        if rows < 1 or width < 1 or found != wanted:
            raise ShapeError(
                f"rows [{rows}, {width}] of {dtype} have {found} bytes, wanted {max(wanted, 0)}"
            )
        array = np.frombuffer(request.rows.data, dtype).reshape(rows, width)
        name = from_name("dictionaries", request.name)
        values, indices = self._engine.queries.encode(name, array.astype(np.float32))
        return pb.EncodeResponse(
            rows=values.shape[0],
            k=values.shape[1],
            values=values.astype("<f4", copy=False).tobytes(),
            indices=indices.astype("<i4", copy=False).tobytes(),
        )
