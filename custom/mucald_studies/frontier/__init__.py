"""The frontier between what a job is good for and what it gives away: runs, attacks on them, one drawing."""
