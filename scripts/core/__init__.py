"""Shared by all rooms: files, configs, geometry, statistics, messages. Imports neither torch nor another room."""
