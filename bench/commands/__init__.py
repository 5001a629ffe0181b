"""What `nas-arena` can do: a function a command, which returns the exit status."""
