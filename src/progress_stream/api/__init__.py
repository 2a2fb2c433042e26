"""The HTTP surface: one file a concern. Decides nothing about jobs; asks the store, the hub and the submitter."""
