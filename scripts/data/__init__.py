"""The slice store, the split by patient and near-duplicate, and what is drawn from them in training."""
