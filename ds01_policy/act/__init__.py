"""What is done to the outside: containers stopped and removed, people told."""
