"""Random faults under a mixed load, and a count of what they broke: `make faults`, `python -m tests.faults.chaos`.

`load` asks for runs, `inject` does harm, jobs tell what they do through `witness`, `gather` collects all that is to be
seen afterwards into a `History`, which `overlaps` and `record` judge: pure functions, fed by no code of the daemon's.
"""
