"""Files: saved estimators, results of long jobs, atomic writes."""
