"""Parts of ``hand.py``: figures of what a user meets at the command line and in a notebook."""
