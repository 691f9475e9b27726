"""Plans, batches and operators: what engineers extend."""
