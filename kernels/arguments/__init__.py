"""What every operation asks of its arguments before it computes: do they fit, and which device."""
