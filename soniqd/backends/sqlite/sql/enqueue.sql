-- :insert_jobs Store jobs; one whose id or key is taken is left out.
INSERT INTO soniq_jobs (id, job_name, args, args_hash, queue, priority, max_attempts, unique_job, dedup_key,
                        producer_id, scheduled_at, due_at, created_at, updated_at)
VALUES {rows}
ON CONFLICT DO NOTHING

-- :stored_ids Which of these ids are in the hot table.
SELECT json_group_array(id) FROM soniq_jobs WHERE id IN (SELECT value FROM json_each(?))

-- :dedup_twin The queued job that holds a dedup key.
SELECT id FROM soniq_jobs WHERE dedup_key = ? AND status = 'queued'

-- :unique_twin The queued job that holds a unique key.
SELECT id FROM soniq_jobs WHERE job_name = ? AND args_hash = ? AND unique_job = 1 AND status = 'queued'
