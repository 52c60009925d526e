"""From runs to records: what is missing is planned, computed, kept and collected."""
