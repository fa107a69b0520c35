"""The slice store, the split by patient and near-duplicate cluster, and sampling in training."""
