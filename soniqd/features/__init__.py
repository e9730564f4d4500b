"""What an application gets beside its tasks, each a small class over the backend, made when it is first asked for.

``app.dead_letter`` (:mod:`~soniqd.features.dead_letter`) and ``app.scheduler`` (:mod:`~soniqd.features.schedules`). A
feature is handed a way to the open backend and nothing else of the application; it keeps no state, so that it sees
what other processes do.
"""
