--
-- What a person may do about a request.  Nothing here can be sent: it starts
-- in thirty days.
--
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app;
GRANT INSERT ON screenshot_task_request TO regress_screenshot_app;
\set said 'regexp_replace(outcome(format(statement, :far)), ''request \\d+'', ''request N'')'

SET ROLE regress_screenshot_app;
SELECT enqueue_screenshot_task('far', 'd', 'a', now() + interval '30 days 1 hour', 1,
	start_time => now() + interval '30 days') AS far \gset

-- cancelled, and no more so the second time
SELECT cancel_screenshot_task_request(:far);
SELECT cancel_screenshot_task_request(:far);
SELECT status, finished_at IS NOT NULL AS finished, next_attempt_at IS NULL AS not_waiting
	FROM screenshot_task_request WHERE id = :far;

-- retried: it waits again until the API takes it
SELECT retry_screenshot_task_request(:far);
SELECT status, finished_at,
	next_attempt_at - (start_time - interval '6 days') BETWEEN '0' AND '1 min' AS waits
	FROM screenshot_task_request WHERE id = :far;

-- errors
SELECT statement, :said AS said FROM unnest(ARRAY[
	'SELECT resolve_screenshot_task_request(%s, ''a task'')',
	'SELECT cancel_screenshot_task_request(NULL)',
	'SELECT cancel_screenshot_task_request(0)',
	'SELECT retry_screenshot_task_request(0)',
	'SELECT resolve_screenshot_task_request(0, NULL)']) AS statement;
RESET ROLE;

-- to another role the request does not exist, to a member of the role it does
SET ROLE regress_screenshot_other;
SELECT :said AS said FROM (VALUES ('SELECT cancel_screenshot_task_request(%s)')) AS v (statement);
RESET ROLE;
GRANT regress_screenshot_app TO regress_screenshot_other;
SET ROLE regress_screenshot_other;
SELECT cancel_screenshot_task_request(:far);
RESET ROLE;
REVOKE regress_screenshot_app FROM regress_screenshot_other;

-- one in doubt that is left to a person
UPDATE screenshot_task_request SET status = 'in_doubt', finished_at = NULL WHERE id = :far;
SET ROLE regress_screenshot_app;
SELECT statement, :said AS said FROM unnest(ARRAY[
	'SELECT resolve_screenshot_task_request(%s, '''')',
	'SELECT resolve_screenshot_task_request(%s, repeat(''x'', 255))',
	'SELECT resolve_screenshot_task_request(%s, repeat(''x'', 256))']) AS statement;
SELECT resolve_screenshot_task_request(:far, 'the-task');
SELECT status, task_id, error_message, finished_at IS NOT NULL AS finished
	FROM screenshot_task_request WHERE id = :far;
SELECT statement, :said AS said FROM unnest(ARRAY[
	'SELECT retry_screenshot_task_request(%s)',
	'SELECT resolve_screenshot_task_request(%s, NULL)']) AS statement;
SET client_min_messages = warning;
SELECT cancel_screenshot_task_request(:far);
RESET client_min_messages;
RESET ROLE;

-- one that has a task, or may have soon: how to end it, on whichever server
BEGIN;
INSERT INTO screenshot_task_request (id, stream_name, domain_name, app_name, start_time, end_time, template_id)
	OVERRIDING SYSTEM VALUE VALUES (815, 'far', 'd', 'a', now() + interval '30 days', now() + interval '30 days 1 hour', 1);
UPDATE screenshot_task_request SET status = 'created', task_id = 'it''s' WHERE id = 815;
SELECT cancel_screenshot_task_request(815);
UPDATE screenshot_task_request SET server = 'Europe''s' WHERE id = 815;
SELECT cancel_screenshot_task_request(815);
UPDATE screenshot_task_request SET status = 'sending', task_id = NULL WHERE id = 815;
SELECT cancel_screenshot_task_request(815);
UPDATE screenshot_task_request SET server = DEFAULT WHERE id = 815;
SELECT cancel_screenshot_task_request(815);
ROLLBACK;

-- one that is cancelled while it is in doubt is in doubt again when it is retried: it may have a task
UPDATE screenshot_task_request SET status = 'in_doubt', task_id = NULL, finished_at = NULL, next_attempt_at = NULL WHERE id = :far;
SET ROLE regress_screenshot_app;
SET client_min_messages = error;
SELECT cancel_screenshot_task_request(:far);
RESET client_min_messages;
SELECT status, error_message FROM screenshot_task_request WHERE id = :far;
BEGIN;
SELECT retry_screenshot_task_request(:far);
SELECT status, next_attempt_at <= clock_timestamp() AS is_asked_about, finished_at FROM screenshot_task_request WHERE id = :far;
ROLLBACK;
RESET ROLE;

-- what was made elsewhere is held until it is adopted, by its role or by the owner, and as long as there is no such role
INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, requested_by, requested_at, status, stamp)
	SELECT role || ' ' || status, 'd', 'a', now() + interval '30 days', now() + interval '30 days 1 hour', 1,
		role::name, now(), status, 815
	FROM unnest(ARRAY['regress_screenshot_app', 'pg_monitor', 'nobody']) AS role,
		unnest(enum_range(NULL::screenshot_task_status)) AS status;
SELECT min(id) AS held FROM screenshot_task_request WHERE stream_name = 'regress_screenshot_app pending' \gset
SELECT statement, regexp_replace(outcome(format(statement, :held)), 'request \d+', 'request N') AS said FROM unnest(ARRAY[
	'SELECT retry_screenshot_task_request(%s)',
	'SELECT resolve_screenshot_task_request(%s, NULL)']) AS statement;
SET ROLE regress_screenshot_other;
SELECT adopt_screenshot_task_requests();
SET ROLE regress_screenshot_app;
SELECT adopt_screenshot_task_requests();
SELECT adopt_screenshot_task_requests();
RESET ROLE;
SELECT enqueue_screenshot_task('own', 'd', 'a', now() + interval '30 days 1 hour', 1,
	start_time => now() + interval '30 days') IS NOT NULL AS own;
\set held 'SELECT stream_name, status, origin = (SELECT origin FROM screenshot_task_request WHERE stream_name = ''own'') AS to_be_sent_from_here, next_attempt_at > now() + interval ''1 day'' AS waits, error_message FROM screenshot_task_request ORDER BY id'
:held;
SELECT adopt_screenshot_task_requests();
:held;

-- one of a dump that was being sent is not any more: it can be cancelled, or adopted
BEGIN;
SET LOCAL client_min_messages = error;
SELECT cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE stream_name = 'nobody sending';
SELECT status, error_message FROM screenshot_task_request WHERE stream_name = 'nobody sending';
ROLLBACK;

-- a reference that another request has by now keeps one held, and two held ones each other; not the rest
DELETE FROM screenshot_task_request WHERE stream_name <> 'own';
INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, requested_by, requested_at, status, stamp, reference)
	SELECT 'of ' || COALESCE(reference, 'none'), 'd', 'a', now() + interval '30 days', now() + interval '30 days 1 hour', 1,
		'regress_screenshot_late', now(), 'pending', 815, reference
	FROM unnest(ARRAY['taken', 'twin', 'twin', 'free', NULL]) AS reference;
CREATE ROLE regress_screenshot_late;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_late;
GRANT INSERT ON screenshot_task_request TO regress_screenshot_late;
SET ROLE regress_screenshot_late;
SELECT enqueue_screenshot_task('late', 'd', 'a', now() + interval '30 days 1 hour', 1,
	start_time => now() + interval '30 days', reference => 'taken') IS NOT NULL AS late;
RESET ROLE;
SELECT adopt_screenshot_task_requests();
:held;
DELETE FROM screenshot_task_request WHERE id = (SELECT min(id) FROM screenshot_task_request WHERE stream_name = 'of twin');
SELECT adopt_screenshot_task_requests();
DELETE FROM screenshot_task_request WHERE stream_name = 'late';
SELECT adopt_screenshot_task_requests();
REVOKE ALL ON screenshot_task_request FROM regress_screenshot_late;
REVOKE ALL ON FOREIGN SERVER tencent_live FROM regress_screenshot_late;
DROP ROLE regress_screenshot_late;

-- the owner's triggers: one that is deferred is not, and one may leave the row out; and the owner may lose a TaskId
SELECT id AS own FROM screenshot_task_request WHERE stream_name = 'own' \gset
CREATE FUNCTION note_steered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'fired as the owner: %', current_user = session_user;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_steered AFTER UPDATE ON screenshot_task_request
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_steered();
BEGIN;
UPDATE screenshot_task_request SET extension = 'x' WHERE id = :own;
SELECT retry_screenshot_task_request(:own);
SAVEPOINT a;
SELECT cancel_screenshot_task_request(:own);
COMMIT;
DROP TRIGGER note_steered ON screenshot_task_request;
CREATE TRIGGER note_steered BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION note_steered();
\set far :own
SELECT :said AS said FROM (VALUES ('SELECT retry_screenshot_task_request(%s)')) AS v (statement);
DROP FUNCTION note_steered CASCADE;
INSERT INTO screenshot_task_request (id, stream_name, domain_name, app_name, start_time, end_time, template_id)
	OVERRIDING SYSTEM VALUE VALUES (816, 'far', 'd', 'a', now() + interval '30 days', now() + interval '30 days 1 hour', 1);
UPDATE screenshot_task_request SET status = 'created' WHERE id = 816;
SELECT cancel_screenshot_task_request(816);

DELETE FROM screenshot_task_request;
REVOKE USAGE ON FOREIGN SERVER tencent_live FROM regress_screenshot_app;
REVOKE INSERT ON screenshot_task_request FROM regress_screenshot_app;
