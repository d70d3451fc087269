"""What Lightning lacks."""
