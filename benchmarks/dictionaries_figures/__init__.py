"""Parts of ``dictionaries.py``: one subject a file."""
