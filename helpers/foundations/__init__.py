"""What everything stands on: errors, files, seeds, data, and the settings of which configs are made."""
