from .checks import Check as Check, run_checks as run_checks
