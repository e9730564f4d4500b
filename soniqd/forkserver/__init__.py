"""forkserver."""
