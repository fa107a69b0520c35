"""Runs that are killed, fail to write or find damaged files, in processes of their own."""
