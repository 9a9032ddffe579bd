"""What a dictionary was trained on, checked wherever it is used."""
