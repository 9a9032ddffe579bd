"""What the operations take and give: codes, sums, settings, results, scratch memory."""
