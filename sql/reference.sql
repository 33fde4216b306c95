--
-- References, which make requests idempotent, and transactions
--
-- All requests are for the year 2999, so that a worker leaves them alone.
--
PREPARE enqueue (text, text) AS
	SELECT enqueue_screenshot_task($1, 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z', reference => $2) AS id;
PREPARE insert (text, text) AS
	INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id, reference)
	VALUES ($1, 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, $2)
	ON CONFLICT (role, reference) WHERE reference IS NOT NULL DO NOTHING
	RETURNING stream_name;
EXECUTE enqueue('first', 'ref') \gset first_
EXECUTE enqueue('again', 'ref') \gset again_
EXECUTE enqueue('other', 'ref 2') \gset other_
SELECT :first_id = :again_id AS the_same, :first_id < :other_id AS another;
EXECUTE insert('again', 'ref');
EXECUTE insert('without', NULL);
EXECUTE insert('without', NULL);
INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id, reference)
	VALUES ('any', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'ref') ON CONFLICT DO NOTHING;
\set VERBOSITY terse
INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id, reference)
	VALUES ('any', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'ref');
\set VERBOSITY default
SELECT stream_name, reference FROM screenshot_task_request ORDER BY id;

-- What is rolled back leaves nothing.
TRUNCATE screenshot_task_request;
BEGIN;
EXECUTE insert('kept', 'kept');
SAVEPOINT s;
EXECUTE insert('undone', 'undone');
SELECT enqueue_screenshot_task('undone', 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z') IS NOT NULL AS enqueued;
ROLLBACK TO s;
EXECUTE insert('kept as well', 'undone');
COMMIT;
BEGIN;
EXECUTE insert('undone', NULL);
ROLLBACK;
SELECT stream_name, reference FROM screenshot_task_request ORDER BY id;

TRUNCATE screenshot_task_request;
DEALLOCATE ALL;
