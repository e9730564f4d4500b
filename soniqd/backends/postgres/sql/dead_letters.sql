-- name: list_dead_letters
-- list dead letters
SELECT id, job_name, args::text, queue, priority, max_attempts, attempts, crashes, interruptions, last_error,
       dead_letter_reason, original_created_at, moved_to_dead_letter_at, resurrection_count, last_resurrection_at,
       tags::text, created_at
FROM soniq_dead_letter_jobs
WHERE (cardinality(%(job_names)s::text[]) = 0 OR job_name = ANY (%(job_names)s::text[]))
  AND (cardinality(%(queues)s::text[]) = 0 OR queue = ANY (%(queues)s::text[]))
  AND (cardinality(%(reasons)s::text[]) = 0 OR dead_letter_reason = ANY (%(reasons)s::text[]))
  AND (%(since)s::timestamptz IS NULL OR moved_to_dead_letter_at >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR moved_to_dead_letter_at < %(until)s::timestamptz)
  AND (%(replayed)s::boolean IS NULL OR (resurrection_count > 0) = %(replayed)s::boolean)
ORDER BY moved_to_dead_letter_at DESC, seq DESC, id
LIMIT %(limit)s::bigint OFFSET %(offset)s::bigint;

-- name: get_dead_letter
-- look a dead letter up
SELECT id, job_name, args::text, queue, priority, max_attempts, attempts, crashes, interruptions, last_error,
       dead_letter_reason, original_created_at, moved_to_dead_letter_at, resurrection_count, last_resurrection_at,
       tags::text, created_at
FROM soniq_dead_letter_jobs WHERE id = %(id)s::uuid;

-- name: replay_dead_letter
-- store a fresh job made from a dead letter
WITH dead AS (
  UPDATE soniq_dead_letter_jobs
  SET resurrection_count = coalesce(resurrection_count, 0) + 1, last_resurrection_at = now()
  WHERE id = %(id)s::uuid
  RETURNING job_name, args, queue, priority, max_attempts
), stored AS (
  INSERT INTO soniq_jobs (id, job_name, args, max_attempts, priority, queue)
  SELECT %(new_id)s::uuid, job_name, args, coalesce(%(max_attempts)s::int, max_attempts),
         coalesce(%(priority)s::int, priority), coalesce(%(queue)s::text, queue)
  FROM dead
  RETURNING id, queue
)
SELECT id::text, pg_notify('soniq_new_job', queue) FROM stored;

-- name: delete_dead_letter
-- delete a dead letter
DELETE FROM soniq_dead_letter_jobs WHERE id = %(id)s::uuid RETURNING id;
