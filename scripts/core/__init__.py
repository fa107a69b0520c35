"""What every other room may use: files, configs, a scan's geometry, means. Imports neither torch nor another room."""
