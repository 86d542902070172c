"""What the work directory holds: status, dataset card."""
