--
-- What breaks a rule of the API: refused as by a call, and by constraints
--
\pset format unaligned
\pset tuples_only on
\pset fieldsep '\n    '
CREATE TEMP TABLE parameter (given text);
INSERT INTO parameter VALUES
	($$stream_name => NULL$$), ($$domain_name => NULL$$), ($$app_name => NULL$$), ($$end_time => NULL$$),
	($$template_id => NULL$$), ($$stream_type => NULL$$), ($$server => NULL$$),
	($$stream_name => ''$$), ($$domain_name => ''$$), ($$app_name => ''$$),
	($$template_id => -1$$), ($$stream_type => 2$$),
	($$end_time => 'infinity'$$), ($$end_time => '-infinity'$$),
	($$start_time => 'infinity'$$), ($$start_time => '-infinity'$$),
	($$start_time => '2999-07-10 12:00', end_time => '2999-07-10 12:00'$$),
	($$start_time => now() + '3 hours'$$),
	($$end_time => now() + '25 hours'$$),
	($$start_time => now() + '1 hour', end_time => now() + '26 hours'$$),
	($$start_time => '2999-07-10 12:00:00.9', end_time => '2999-07-11 12:00'$$),
	($$start_time => '2999-07-10 12:00', end_time => '2999-07-11 12:00:00.1'$$),
	($$stream_name => repeat('s', 1024), domain_name => repeat('d', 1024), app_name => repeat('a', 1024), extension => repeat('x', 65536)$$),
	($$stream_name => repeat('s', 1025)$$), ($$domain_name => repeat('d', 1025)$$), ($$app_name => repeat('a', 1025)$$),
	($$extension => repeat('x', 65537)$$),
	($$reference => repeat('e', 1024)$$), ($$reference => repeat('e', 1025)$$),
	($$reference => (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) AS i)$$),
	($$server => 'nowhere'$$);
SELECT given, outcome(format('SELECT enqueue_screenshot_task(%s)', request_with(given))) FROM parameter;

-- What a call refuses, too, it refuses in the same words; but for those that
-- only a call may not have
SELECT given FROM parameter
WHERE outcome(format('SELECT create_screenshot_task(%s)', request_with(given))) <>
	outcome(format('SELECT enqueue_screenshot_task(%s)', request_with(given)))
AND given !~ '2999|reference|65536';

-- An INSERT and the trigger say the same, and nobody quotes a statement.
\set SHOW_CONTEXT always
INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, end_time, template_id) VALUES ('', 'd', 'a', '2999-07-10 12:00Z', 1);
SELECT enqueue_screenshot_task('', 'd', 'a', '2999-07-10 12:00Z', 1);
CREATE TABLE partial (stream_name text, end_time timestamptz, flag boolean);
CREATE TRIGGER screenshots AFTER INSERT ON partial FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('domain_name:=d', 'app_name:=a', 'template_id:=1');
INSERT INTO partial VALUES ('', '2999-07-10 12:00Z');
DROP TRIGGER screenshots ON partial;
CREATE TRIGGER screenshots AFTER INSERT ON partial FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('domain_name:=d', 'app_name:=a', 'template_id=flag');
INSERT INTO partial VALUES ('s', '2999-07-10 12:00Z', true);
DROP TABLE partial;
ALTER TABLE screenshot_task_request ADD CONSTRAINT mine CHECK (app_name <> 'b');
DO $$
DECLARE
	context text;
BEGIN
	PERFORM enqueue_screenshot_task('s', 'd', 'b', now() + '1 hour', 1);
EXCEPTION WHEN check_violation THEN
	GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
	RAISE NOTICE '%', context;
END
$$;
SELECT enqueue_screenshot_task('s', 'd', 'a', now() + '1 hour', 1, reference => repeat('e', 1025));
ALTER TABLE screenshot_task_request DROP CONSTRAINT mine;
\set SHOW_CONTEXT errors

-- The constraints, by name, which hold for an UPDATE
INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id)
	VALUES ('s', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1);
SELECT change, split_part(outcome(format('UPDATE screenshot_task_request SET %s', change)), E'\n', 1)
FROM (VALUES
	('stream_name = NULL'), ('server = NULL'),
	($$stream_name = ''$$), ($$domain_name = ''$$), ($$app_name = ''$$),
	('template_id = -1'), ('stream_type = 2'),
	($$end_time = 'infinity'$$), ($$start_time = '-infinity'$$),
	('end_time = start_time'), ($$end_time = start_time + '24:00:00.1'$$),
	($$stream_name = repeat('s', 1025)$$), ($$domain_name = repeat('d', 1025)$$), ($$app_name = repeat('a', 1025)$$),
	($$extension = repeat('x', 65537)$$), ($$reference = repeat('e', 1025)$$)) AS t (change);
DELETE FROM screenshot_task_request;
DROP TABLE parameter;
