"""What nmg costs: pairs of things run side by side, because a machine's absolute times drift. `make bench`."""
