"""Every file operation, and every fault of one."""
