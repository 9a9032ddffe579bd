"""Commands that ask something of features, dictionaries and models."""
