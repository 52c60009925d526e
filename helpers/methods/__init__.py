"""What can be done to a network; knows no config file and no disk."""
