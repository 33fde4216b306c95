--
-- Roles: what they may do, and what they see
--
\set SHOW_CONTEXT never
CREATE SERVER granted FOREIGN DATA WRAPPER tencent_cloud;
PREPARE insert (text) AS
	INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, server, reference)
	VALUES ($1, 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'granted', 'ref')
	RETURNING stream_name, requested_by;
PREPARE enqueue (text) AS
	SELECT enqueue_screenshot_task($1, 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z',
								   server => 'granted') > 0 AS enqueued;

-- To request takes two rights: on the table, and on the server.
SET ROLE regress_screenshot_app;
EXECUTE insert('s');
EXECUTE enqueue('s');
SELECT count(*) FROM screenshot_task_request;
RESET ROLE;
CREATE TABLE event (stream_name text, domain_name text, app_name text, end_time timestamptz, template_id bigint);
CREATE TRIGGER screenshots AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger();
GRANT INSERT ON event TO regress_screenshot_app;
SET ROLE regress_screenshot_app;
INSERT INTO event VALUES ('s', 'd', 'a', '2999-07-10 13:00Z', 1);
RESET ROLE;
DROP TABLE event;
GRANT INSERT ON screenshot_task_request TO regress_screenshot_app;
SET ROLE regress_screenshot_app;
EXECUTE insert('s');
EXECUTE enqueue('s');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER granted TO regress_screenshot_app, regress_screenshot_other;
SET ROLE regress_screenshot_app;
EXECUTE insert('by insert');
EXECUTE enqueue('by enqueue');

-- The right on the columns of the parameters is enough.
RESET ROLE;
EXECUTE enqueue('of the superuser');
GRANT INSERT (stream_name, domain_name, app_name, end_time, template_id, start_time, stream_type,
			  extension, server, reference) ON screenshot_task_request TO regress_screenshot_other;
SET ROLE regress_screenshot_other;
EXECUTE insert('of another');
EXECUTE enqueue('of another');
INSERT INTO screenshot_task_request (stream_name, requested_by) VALUES ('forged', 'regress_screenshot_app');

-- A role sees what it requested itself, and may change nothing of it.
SET ROLE regress_screenshot_app;
SELECT stream_name, requested_by FROM screenshot_task_request ORDER BY id;
UPDATE screenshot_task_request SET status = 'created';
DELETE FROM screenshot_task_request;
TRUNCATE screenshot_task_request;
SELECT * FROM screenshot_task_request FOR UPDATE;
SELECT nextval('screenshot_task_request_id_seq');
ALTER TABLE screenshot_task_request DISABLE TRIGGER screenshot_task_request_insert;

-- It cannot pass a row off for one from a dump, nor request for another, nor
-- take the number of a request to come.
INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, server, status, task_id, stamp)
	VALUES ('forged', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'granted', 'created', 'a task', 815);
INSERT INTO screenshot_task_request
	(id, stream_name, domain_name, app_name, start_time, end_time, template_id, server,
	 requested_by, status, task_id)
	OVERRIDING SYSTEM VALUE
	VALUES (1000000, 'forged', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'granted',
			'regress_screenshot_other', 'created', 'a task')
	RETURNING stream_name, requested_by, status, task_id, id <> 1000000 AS own_id;

-- What a function does for its owner is the owner's.
RESET ROLE;
CREATE FUNCTION request_for_app() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$
	SELECT enqueue_screenshot_task('by a function', 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z',
								   server => 'granted') > 0
$$;
ALTER FUNCTION request_for_app OWNER TO regress_screenshot_app;
SET ROLE regress_screenshot_other;
SELECT request_for_app();

-- A trigger needs the rights of whoever fires it.
RESET ROLE;
CREATE TABLE event (stream_name text);
CREATE TRIGGER screenshots AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
	'domain_name:=d', 'app_name:=a', 'template_id:=1', 'server:=granted',
	'start_time:=2999-07-10 12:00Z', 'end_time:=2999-07-10 13:00Z');
GRANT INSERT ON event TO PUBLIC;
REVOKE INSERT (stream_name) ON screenshot_task_request FROM regress_screenshot_other;
SET ROLE regress_screenshot_other;
INSERT INTO event VALUES ('of another, by the trigger');
SET ROLE regress_screenshot_app;
INSERT INTO event VALUES ('by the trigger');
RESET ROLE;
SELECT stream_name, CASE requested_by WHEN CURRENT_USER THEN 'superuser' ELSE requested_by END
FROM screenshot_task_request ORDER BY stream_name COLLATE "C";

-- The functions inside are nobody's to use, and secrets nobody's to see.
SET ROLE regress_screenshot_app;
CREATE TEMP TABLE copy (LIKE screenshot_task_request);
CREATE TRIGGER t BEFORE INSERT ON copy FOR EACH ROW EXECUTE FUNCTION screenshot_task_request_insert();
SELECT screenshot_task_fdw_validator('{}', 0);
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud;
SELECT umoptions FROM pg_user_mappings WHERE srvname = 'tencent_live';
RESET ROLE;

TRUNCATE screenshot_task_request;
DEALLOCATE ALL;
DROP TABLE copy, event;
DROP FUNCTION request_for_app;
DROP OWNED BY regress_screenshot_app, regress_screenshot_other;
DROP SERVER granted;
