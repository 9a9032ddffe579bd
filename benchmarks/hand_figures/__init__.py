"""Parts of ``hand.py``: dictionaries in the hand, and what a user meets in a shell or notebook."""
