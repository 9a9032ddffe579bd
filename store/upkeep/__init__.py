"""Work on sealed lanes: verifying, joining, compressing, retiring."""
