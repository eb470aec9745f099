"""Where tasks are run: worker processes of this machine, or a cluster."""
