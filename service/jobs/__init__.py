"""The durable queue of jobs and what runs it."""
