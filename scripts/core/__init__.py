"""What every other room may use: files, configs, geometry, statistics, messages. No torch, and no other room."""
