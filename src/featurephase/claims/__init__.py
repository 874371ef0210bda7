"""The ledger of claims: findings of the literature as experiments, one file each, with their verdicts."""
