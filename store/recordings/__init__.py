"""What a user of the store holds: stores and recordings."""
