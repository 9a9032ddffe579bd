"""The processes of a served store: control, query, worker, and what keeps them running."""
