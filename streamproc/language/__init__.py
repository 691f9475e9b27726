"""What analysts write, checked and turned into a plan."""
