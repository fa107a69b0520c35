"""Components that the bundle's configs name by `_target_`, one module a kind.

Nothing here imports the application (`bundle/`): this folder, `configs/` and `models/` together are the whole MONAI
bundle that MONAI Label, MONAI Deploy and the model zoo receive.
"""
