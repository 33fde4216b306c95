--
-- References, which make requests idempotent, and transactions
--
-- All requests are for the year 2999, so that a worker leaves them alone.
--
-- A NOTICE has the id.
SET client_min_messages = warning;
PREPARE enqueue (text, text) AS
	SELECT enqueue_screenshot_task($1, 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z', reference => $2) AS id;
PREPARE insert (text, text) AS
	INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id, reference)
	VALUES ($1, 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, $2)
	ON CONFLICT (role, reference) WHERE reference IS NOT NULL AND withdrawn_at IS NULL DO NOTHING
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

-- One that came in a dump, of a role that has been renamed since, is hidden and
-- has its reference still.
TRUNCATE screenshot_task_request;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app;
GRANT INSERT ON screenshot_task_request TO regress_screenshot_app;
INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, reference, requested_by, requested_at, stamp)
	VALUES ('restored', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'ref', 'regress_screenshot_app', now(), 815);
ALTER ROLE regress_screenshot_app RENAME TO regress_screenshot_renamed;
SET ROLE regress_screenshot_renamed;
\set again 'SELECT enqueue_screenshot_task(''again'', ''d'', ''a'', ''2999-07-10 13:00Z'', 1, ''2999-07-10 12:00Z'', reference => ''ref'') IS NOT NULL AS found'
SELECT outcome(:'again');
RESET ROLE;
UPDATE screenshot_task_request SET requested_by = 'regress_screenshot_renamed';
SET ROLE regress_screenshot_renamed;
:again;
SELECT adopt_screenshot_task_requests();
RESET ROLE;
ALTER ROLE regress_screenshot_renamed RENAME TO regress_screenshot_app;
REVOKE USAGE ON FOREIGN SERVER tencent_live FROM regress_screenshot_app;
REVOKE INSERT ON screenshot_task_request FROM regress_screenshot_app;

TRUNCATE screenshot_task_request;
DEALLOCATE ALL;
RESET client_min_messages;
