-- :find_dead_letters Dead letters, newest first.
SELECT * FROM soniq_dead_letter_jobs WHERE {where}
ORDER BY moved_to_dead_letter_at DESC, seq DESC LIMIT ? OFFSET ?

-- :dead_letter One dead letter.
SELECT * FROM soniq_dead_letter_jobs WHERE id = ?

-- :to_replay What a fresh job takes over from a dead letter.
SELECT job_name, args, queue, priority, max_attempts FROM soniq_dead_letter_jobs WHERE id = ?

-- :count_replay Note that a dead letter was replayed.
UPDATE soniq_dead_letter_jobs SET resurrection_count = resurrection_count + 1, last_resurrection_at = ? WHERE id = ?

-- :delete_dead_letter Delete a dead letter.
DELETE FROM soniq_dead_letter_jobs WHERE id = ?
