--
-- A table of another version than the library
--
\set SHOW_CONTEXT never
CREATE TABLE older (LIKE screenshot_task_request INCLUDING DEFAULTS INCLUDING GENERATED);
CREATE TABLE newer (LIKE screenshot_task_request INCLUDING DEFAULTS INCLUDING GENERATED, more text DEFAULT 'of a later version');
DO $$
BEGIN
	-- without its last column, as a version before that would have made it
	EXECUTE (SELECT format('CREATE TABLE oldest (%s)', string_agg(format('%I %s', attname, atttypid::regtype), ', ' ORDER BY attnum))
			 FROM pg_attribute WHERE attrelid = 'screenshot_task_request'::regclass AND attnum BETWEEN 1 AND
			 (SELECT count(*) - 1 FROM pg_attribute WHERE attrelid = 'screenshot_task_request'::regclass AND attnum > 0));
END
$$;
CREATE TRIGGER insert BEFORE INSERT ON oldest FOR EACH ROW EXECUTE FUNCTION screenshot_task_request_insert();
CREATE TRIGGER insert BEFORE INSERT ON newer FOR EACH ROW EXECUTE FUNCTION screenshot_task_request_insert();

-- What is not the extension's is no request table, whatever it looks like.
INSERT INTO newer (stream_name) VALUES ('s');
\echo :SQLSTATE

-- One that lacks columns says so; one that has more is one like ours.
BEGIN;
ALTER EXTENSION screenshot_task DROP TABLE screenshot_task_request;
SELECT outcome($$SELECT enqueue_screenshot_task('s', 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z')$$);
ALTER EXTENSION screenshot_task ADD TABLE newer;
INSERT INTO newer (id, stream_name, domain_name, app_name, start_time, end_time, template_id)
	VALUES (1, 's', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1) RETURNING stream_name, status, more;
ALTER EXTENSION screenshot_task DROP TABLE newer;
ALTER EXTENSION screenshot_task ADD TABLE oldest;
INSERT INTO oldest (stream_name) VALUES ('s');
\echo :SQLSTATE
ROLLBACK;

-- A trigger that is not where it belongs
CREATE TRIGGER after AFTER INSERT ON older FOR EACH ROW EXECUTE FUNCTION screenshot_task_request_insert();
INSERT INTO older (id, stream_name, domain_name, app_name, end_time, template_id, requested_by, requested_at)
	VALUES (1, 's', 'd', 'a', '2999-07-10 13:00Z', 1, 'r', now());
\echo :SQLSTATE

DROP TABLE oldest, older, newer;
