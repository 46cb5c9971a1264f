"""Plan, examine, calibrate, decide: the one place where evidence becomes a verdict."""
