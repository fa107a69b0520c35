"""The bundle for other tools: packed folder and zip, exported formats, verification."""
