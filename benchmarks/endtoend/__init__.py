"""What the core costs in a whole fine-tuning stage."""
