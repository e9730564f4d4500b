-- What workers say about the tasks that they know, as JSON: for those who enqueue by name and who ask about a job.

ALTER TABLE soniq_task_registry ADD COLUMN defaults TEXT;
