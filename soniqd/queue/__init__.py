"""What an application declares and enqueues, independent of any database.

A *task* is a named handler with the rules for its runs (:mod:`~soniqd.queue.registry`). Declaring one compiles its
signature once (:mod:`~soniqd.queue.arguments`), so that a wrong argument is refused where the job is enqueued, and
again before the handler is called, since a job may come from another program. What travels through the database is a
task name and JSON (:mod:`~soniqd.queue.payload`): a name out of the database is only ever looked up in the registry,
never imported.

Failure model: mistakes in a declaration are ConfigurationError at import time; mistakes in a call are
InvalidArgumentsError, UnknownTaskError or InvalidTaskNameError before anything is stored. An application's hooks and
metrics sink may raise whatever they like: it is logged, and the job goes on.
"""
