--
-- Requests that follow the rows of a table: what counts is its state at the
-- commit
--
-- All requests are for the year 2999, so that a worker leaves them alone.
--
CREATE TABLE event (id integer PRIMARY KEY DEFERRABLE, stream text, starts timestamptz, note text);
CREATE TRIGGER screenshots AFTER INSERT OR UPDATE OR DELETE ON event
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('stream_name=stream', 'start_time=starts', 'end_time:=2999-07-11 00:00Z',
		'reference:=event {id}', 'domain_name:=d', 'app_name:=a', 'template_id:=1');
-- A request's number is its place among them.
CREATE VIEW request AS SELECT rank() OVER (ORDER BY id) AS n, r.reference, stream_name AS stream, start_time AT TIME ZONE 'UTC' AS start, status, withdrawn_at IS NOT NULL AS withdrawn,
	finished_at IS NOT NULL AS finished, (SELECT count(*) + 1 FROM screenshot_task_request AS s WHERE s.id < r.replaces) * sign(replaces) AS replaces
	FROM screenshot_task_request AS r ORDER BY id;
\set reset 'TRUNCATE screenshot_task_request; ALTER TABLE event DISABLE TRIGGER screenshots; DELETE FROM event; ALTER TABLE event ENABLE TRIGGER screenshots'

-- A row is inserted, moved, changed otherwise, changed by less than a second,
-- given another reference, and deleted.
INSERT INTO event VALUES (1, 'one', '2999-07-10 12:00Z');
UPDATE event SET starts = starts + interval '1 h';
UPDATE event SET note = 'note';
UPDATE event SET starts = starts + interval '0.9 s';
UPDATE event SET starts = starts, stream = stream;
TABLE request;
UPDATE event SET id = 2;
DELETE FROM event;
TABLE request;

-- The old request may have become anything.
CREATE PROCEDURE become(became screenshot_task_status, ends timestamptz DEFAULT '2999-07-11 00:00Z', message text DEFAULT NULL) LANGUAGE sql AS $$
	UPDATE screenshot_task_request SET status = became, end_time = ends, start_time = ends - interval '1 h', error_message = message,
		task_id = CASE WHEN became = 'created' THEN 'task' || id END, next_attempt_at = CASE WHEN became = 'in_doubt' THEN ends END,
		finished_at = CASE WHEN became IN ('created', 'failed', 'expired', 'cancelled') THEN now() END WHERE withdrawn_at IS NULL
$$;
CREATE TABLE cases (n serial, status screenshot_task_status, ends timestamptz DEFAULT '2999-07-11 00:00Z', message text);
INSERT INTO cases (status) SELECT unnest(enum_range(NULL, 'cancelled'::screenshot_task_status));
INSERT INTO cases (status, ends) VALUES ('created', '2001-01-01 00:00Z');
INSERT INTO cases (status, message) VALUES ('cancelled', 'was in doubt when it was cancelled: its task may exist');
CREATE TABLE result (n integer, change text, id bigint, status screenshot_task_status, withdrawn boolean, finished boolean, next boolean, replaces bigint, task_id text);
\set ECHO none
SELECT 'TRUNCATE screenshot_task_request, event', $$INSERT INTO event VALUES (1, 'one', '2999-07-10 12:00Z')$$,
	format('CALL become(%L, %L, %L)', status, ends, message), change,
	format('INSERT INTO result SELECT %s, %L, id, status, withdrawn_at IS NOT NULL, finished_at IS NOT NULL, next_attempt_at IS NOT NULL, replaces, task_id FROM screenshot_task_request', n, change)
FROM cases, unnest(ARRAY[$$UPDATE event SET stream = 'other'$$, 'DELETE FROM event']) AS change ORDER BY change, n \gexec
\set ECHO all
SELECT change, c.status, c.ends > now() AS ahead, c.message IS NOT NULL AS in_doubt, r.status AS becomes, r.withdrawn, r.finished, r.next,
	new.status AS new_status, new.withdrawn AS new_withdrawn, new.replaces = r.id AS replaces
	FROM cases AS c JOIN result AS r USING (n) LEFT JOIN result AS new USING (n, change)
	WHERE r.replaces IS NULL AND new.replaces IS NOT NULL OR change LIKE 'DELETE%' ORDER BY change, n;

-- What is undone in the same transaction has changed nothing, whatever the
-- request was.
CREATE TABLE before (n integer, change text, LIKE screenshot_task_request);
CREATE TABLE after (LIKE before);
\set ECHO none
SELECT 'TRUNCATE screenshot_task_request, event', $$INSERT INTO event VALUES (1, 'one', '2999-07-10 23:00Z')$$,
	format('CALL become(%L, %L, %L)', status, ends, message), format('INSERT INTO before SELECT %s, %L, * FROM screenshot_task_request', n, change), 'BEGIN', change, 'COMMIT',
	format('INSERT INTO after SELECT %s, %L, * FROM screenshot_task_request', n, change)
FROM cases, unnest(ARRAY[
	$$UPDATE event SET stream = 'other'; UPDATE event SET stream = 'one'$$,
	$$UPDATE event SET stream = 'other'; UPDATE event SET stream = 'another'; UPDATE event SET stream = 'one'$$,
	$$UPDATE event SET id = 2; UPDATE event SET id = 1$$,
	$$DELETE FROM event; INSERT INTO event VALUES (1, 'one', '2999-07-10 23:00Z')$$,
	$$UPDATE event SET stream = 'other'; SAVEPOINT s; UPDATE event SET stream = 'another'; UPDATE event SET stream = 'one'; ROLLBACK TO s; UPDATE event SET stream = 'one'$$,
	$$SAVEPOINT s; UPDATE event SET stream = 'other'; SAVEPOINT t; DELETE FROM event; RELEASE t; ROLLBACK TO s$$,
	$$SAVEPOINT s; UPDATE event SET stream = 'other'; RELEASE s; UPDATE event SET stream = 'one'$$,
	$$SAVEPOINT s; SAVEPOINT t; UPDATE event SET stream = 'other'; RELEASE t; RELEASE s; SAVEPOINT s; UPDATE event SET stream = 'one'; ROLLBACK TO s; UPDATE event SET stream = 'one'$$,
	$$DELETE FROM event; SAVEPOINT s; INSERT INTO event VALUES (1, 'other', '2999-07-10 23:00Z'); DELETE FROM event; ROLLBACK TO s; INSERT INTO event VALUES (1, 'one', '2999-07-10 23:00Z')$$]) AS change
WHERE ends > now() ORDER BY change, n \gexec
\set ECHO all
SELECT count(*) AS cases, count(DISTINCT change) AS changes FROM before;
-- A sign of when it was last written, and a count of lookups that begins anew, say nothing of it.
SELECT n, change, status, (SELECT status FROM after AS a WHERE (a.n, a.change, a.id) = (b.n, b.change, b.id)) AS becomes FROM before AS b
	WHERE NOT EXISTS (SELECT FROM after AS a WHERE to_jsonb(a) - 'stamp' - 'misses' = to_jsonb(b) - 'stamp' - 'misses')
	OR (SELECT count(*) FROM after AS a WHERE (a.n, a.change) = (b.n, b.change)) <> 1;
TRUNCATE screenshot_task_request, event;

-- Rows exchange their references, or pass them on, with parameters that differ
-- and that do not.
CREATE VIEW disagreement AS SELECT * FROM
	(SELECT 'event ' || id AS reference, stream, starts AT TIME ZONE 'UTC' AS start FROM event) AS e FULL JOIN
	(SELECT reference, stream_name AS stream, start_time AT TIME ZONE 'UTC' AS start, status FROM screenshot_task_request WHERE withdrawn_at IS NULL) AS r USING (reference, stream, start)
	WHERE e IS NULL OR r IS NULL;
INSERT INTO event SELECT n, 'stream ' || n / 2, '2999-07-10 12:00Z' FROM generate_series(1, 6) AS n;
UPDATE event SET id = 7 - id;
TABLE disagreement;
UPDATE event SET id = id + 1;
TABLE disagreement;
UPDATE event SET id = id - 2;
TABLE disagreement;
SELECT status, count(*), count(replaces) AS replacing FROM screenshot_task_request GROUP BY 1 ORDER BY 1;
-- The new rows come before the old ones go.
ALTER TABLE event DROP CONSTRAINT event_pkey;
SET client_min_messages = warning; -- NOTICEs have ids
BEGIN;
INSERT INTO event SELECT id, stream, starts, 'new' FROM event;
INSERT INTO event SELECT id, stream || '!', starts, 'newer' FROM event WHERE note = 'new' AND id > 3;
DELETE FROM event WHERE note IS NULL;
DELETE FROM event WHERE note = 'new' AND id > 3;
COMMIT;
RESET client_min_messages;
TABLE disagreement;
DELETE FROM event;
TABLE disagreement;
SELECT status, count(*) FROM screenshot_task_request GROUP BY 1 ORDER BY 1;

-- Commands that do more than one thing
TRUNCATE screenshot_task_request;
ALTER TABLE event ADD PRIMARY KEY (id);
INSERT INTO event VALUES (1, 'one', '2999-07-10 12:00Z'), (2, 'two', '2999-07-10 12:00Z'), (3, 'three', '2999-07-10 12:00Z');
INSERT INTO event VALUES (1, 'other', '2999-07-10 12:00Z'), (4, 'four', '2999-07-10 12:00Z') ON CONFLICT (id) DO UPDATE SET stream = excluded.stream;
MERGE INTO event USING (VALUES (1, NULL), (2, 'other'), (5, 'five')) AS new (id, stream) ON event.id = new.id
	WHEN MATCHED AND new.stream IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET stream = new.stream WHEN NOT MATCHED THEN INSERT VALUES (new.id, new.stream, '2999-07-10 12:00Z');
COPY event (id, stream, starts) FROM stdin;
6	six	2999-07-10 12:00Z
\.
TABLE disagreement;
TABLE request;

-- One row after another of a partitioned table, moved between partitions
CREATE TABLE schedule (id integer, place text, stream_name text, start_time timestamptz, end_time timestamptz DEFAULT '2999-07-11 00:00Z') PARTITION BY LIST (place);
CREATE TABLE schedule_1 PARTITION OF schedule FOR VALUES IN ('here');
CREATE TABLE schedule_2 (dropped integer, end_time timestamptz DEFAULT '2999-07-11 00:00Z', start_time timestamptz, stream_name text, place text, id integer);
ALTER TABLE schedule_2 DROP COLUMN dropped;
ALTER TABLE schedule ATTACH PARTITION schedule_2 FOR VALUES IN ('there');
CREATE TRIGGER screenshots AFTER INSERT OR UPDATE OR DELETE ON schedule
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('reference:=schedule {id}', 'domain_name:=d', 'app_name:=a', 'template_id:=1');
TRUNCATE screenshot_task_request;
INSERT INTO schedule VALUES (1, 'here', 'one', '2999-07-10 12:00Z'), (2, 'here', 'two', '2999-07-10 12:00Z');
CALL become('created');
UPDATE schedule SET place = 'there', start_time = '2999-07-10 23:00Z' WHERE id = 1;
UPDATE schedule SET place = 'there', stream_name = 'moved' WHERE id = 2;
TABLE request;
DELETE FROM schedule;
TABLE request;

-- Deferred to the commit
CREATE TABLE deferred (id integer PRIMARY KEY, stream_name text);
CREATE CONSTRAINT TRIGGER screenshots AFTER INSERT OR UPDATE OR DELETE ON deferred DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('reference:=deferred {id}', 'start_time:=2999-07-10 12:00Z', 'end_time:=2999-07-10 13:00Z', 'domain_name:=d', 'app_name:=a', 'template_id:=1');
TRUNCATE screenshot_task_request;
INSERT INTO deferred VALUES (1, 'one'), (2, 'two');
BEGIN;
UPDATE deferred SET stream_name = 'other';
DELETE FROM deferred WHERE id = 1;
INSERT INTO deferred VALUES (1, 'one');
UPDATE deferred SET stream_name = 'two' WHERE id = 2;
SELECT count(*) FROM request WHERE withdrawn;
COMMIT;
TABLE request;

-- A time that is another at each firing is no change, nor is one withdrawn for it.
CREATE TABLE live (id integer, stream_name text);
CREATE TRIGGER screenshots AFTER INSERT OR UPDATE OR DELETE ON live
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('reference:=live {id}', 'start_time:=now', 'end_time:=tomorrow', 'domain_name:=d', 'app_name:=a', 'template_id:=1');
TRUNCATE screenshot_task_request;
INSERT INTO live VALUES (1, 'one'), (2, 'two');
SELECT pg_sleep(1.1);
UPDATE live SET stream_name = stream_name;
DELETE FROM live WHERE id = 1;
SELECT reference, withdrawn FROM request;

-- By function
TRUNCATE screenshot_task_request;
\set enqueue 'SELECT count(*) FROM (SELECT enqueue_screenshot_task(:stream, ''d'', ''a'', ''2999-07-10 13:00Z'', 1, ''2999-07-10 12:00Z'', reference => ''ref'''
\set stream '''one'''
:enqueue)) AS t;
\set stream '''two'''
SET client_min_messages = warning;
:enqueue)) AS t;
RESET client_min_messages;
:enqueue, replace => true)) AS t;
:enqueue, replace => true)) AS t;
SELECT outcome($$SELECT enqueue_screenshot_task('s', 'd', 'a', '2999-07-10 13:00Z', 1, replace => NULL)$$);
TABLE request;
SELECT withdraw_screenshot_task_request(id) FROM screenshot_task_request ORDER BY id;
SELECT withdraw_screenshot_task_request(id) FROM screenshot_task_request ORDER BY id;
TABLE request;
SELECT outcome('SELECT withdraw_screenshot_task_request(-1)'), outcome('SELECT withdraw_screenshot_task_request(NULL)');
-- withdrawn, and requested again in the same transaction
:enqueue)) AS t;
BEGIN;
SELECT withdraw_screenshot_task_request(id) FROM screenshot_task_request WHERE withdrawn_at IS NULL;
:enqueue)) AS t;
COMMIT;
TABLE request;
-- What is withdrawn is neither retried nor cancelled.
\set withdrawn 'SELECT min(id) AS withdrawn FROM screenshot_task_request'
:withdrawn \gset
SELECT replace(outcome(format('SELECT retry_screenshot_task_request(%s)', :withdrawn)), :'withdrawn', 'N');
SELECT cancel_screenshot_task_request(:withdrawn);
UPDATE screenshot_task_request SET status = 'in_doubt' WHERE id = :withdrawn;
SET client_min_messages = warning; -- a NOTICE has the id
SELECT cancel_screenshot_task_request(:withdrawn);
RESET client_min_messages;
SELECT retry_screenshot_task_request(:withdrawn);
BEGIN;
SELECT resolve_screenshot_task_request(:withdrawn, NULL);
SELECT status, finished_at IS NOT NULL AS finished FROM screenshot_task_request WHERE id = :withdrawn;
ROLLBACK;
SELECT resolve_screenshot_task_request(:withdrawn, 'its task');
SELECT status, finished_at IS NOT NULL AS finished FROM screenshot_task_request WHERE id = :withdrawn;
SELECT retry_screenshot_task_request(:withdrawn);
SELECT replace(outcome(format('SELECT resolve_screenshot_task_request(%s, ''other'')', :withdrawn)), :'withdrawn', 'N');
SELECT resolve_screenshot_task_request(:withdrawn, NULL);
SELECT status, task_id, error_message, finished_at IS NOT NULL AS finished FROM screenshot_task_request WHERE id = :withdrawn;

SET client_min_messages = warning;
DROP TABLE event, schedule, deferred, live, before, after, cases, result CASCADE;
RESET client_min_messages;
DROP VIEW request;
DROP PROCEDURE become;
TRUNCATE screenshot_task_request;
