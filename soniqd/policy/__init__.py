"""Decisions, and nothing else: values in, values out.

No clock, no randomness, no input or output stands here; times and random numbers come in as arguments, and what is to
be done goes out as a value. So each decision is tested by calling it, and an import contract keeps it that way.

``outcome``      what a job's run means for its row      ``retry``       when it is tried again
``cron``         which ticks of a schedule are due       ``leftovers``   whose workers are dead for certain
``sweep``        who may judge others by their silence   ``pool``        whether the connections suffice
``pruning``      how fast old rows are deleted           ``vacuuming``   when dead rows are worth removing
``connections``  how many a plan needs                   ``plan_diff``   what a changed plan means for its groups
``supervision``  the machine that decides what the master does
"""
