"""The model repository: folders, versions, hot swaps."""
