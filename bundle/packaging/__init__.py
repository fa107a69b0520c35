"""The bundle as others take it: packed folder and zip, exported formats, verification."""
