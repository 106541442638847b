"""The health of a run: facts (`batch`, `errors`, `weights`) -> `findings` -> words.

The training loop and the doctor go through `monitor.HealthMonitor`; `faults` lists all
that can be found wrong, and what to do about it.
"""
