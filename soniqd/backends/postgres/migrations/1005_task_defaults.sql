-- What workers say about the tasks that they know, for those who enqueue by name and for those who ask about a job.

ALTER TABLE soniq_task_registry ADD COLUMN defaults jsonb;
