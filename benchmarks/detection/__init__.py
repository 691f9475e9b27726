"""How much fraud the shipped recipe finds: the Fraud Detection Handbook's test folds, and other data of its schema."""
