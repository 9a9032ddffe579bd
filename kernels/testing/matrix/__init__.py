"""The compile matrix: every Triton kernel of this room, as it is launched, for every target."""
