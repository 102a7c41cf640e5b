"""Files that outlive a process: saved estimators, results of long jobs, atomic writes."""
