"""Components that the bundle's configs name by `_target_`.

Nothing here imports the application (`bundle/`): this folder, `configs/` and `models/` are the whole MONAI bundle that
MONAI Label, MONAI Deploy and the model zoo use.
"""
