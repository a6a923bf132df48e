"""What a third party ships: one file per component, found through entry points."""
