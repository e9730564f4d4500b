-- :insert_jobs Store jobs that have the first ten values in common; one whose id or key is taken is left out.
INSERT INTO soniq_jobs (job_name, queue, priority, max_attempts, unique_job, producer_id, scheduled_at, due_at,
                        created_at, updated_at, id, args, args_hash, dedup_key)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, column1, column2, column3, column4 FROM (VALUES {rows}) WHERE column1 IS NOT NULL
ON CONFLICT DO NOTHING

-- :insert_plain_jobs The same for jobs without keys.
INSERT INTO soniq_jobs (job_name, queue, priority, max_attempts, unique_job, producer_id, scheduled_at, due_at,
                        created_at, updated_at, id, args)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, column1, column2 FROM (VALUES {rows}) WHERE column1 IS NOT NULL
ON CONFLICT DO NOTHING

-- :stored_ids Which of these ids are in the hot table.
SELECT json_group_array(id) FROM soniq_jobs WHERE id IN (SELECT value FROM json_each(?))

-- :dedup_twin The queued job that holds a dedup key.
SELECT id FROM soniq_jobs WHERE dedup_key = ? AND status = 'queued'

-- :unique_twin The queued job that holds a unique key.
SELECT id FROM soniq_jobs WHERE job_name = ? AND args_hash = ? AND unique_job = 1 AND status = 'queued'
