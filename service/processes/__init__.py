"""The processes of a served store: control, query, worker."""
