"""One writer's one life: writing, sealing, recovering and reading a lane."""
