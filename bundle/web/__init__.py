"""The app that runs in a browser alone: a static folder with network, preprocessing and viewer; no scan is sent."""
