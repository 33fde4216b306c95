--
-- screenshot_task_trigger(): from the rows of a table to requests
--
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE VIEW request AS
	SELECT stream_name, domain_name, app_name, start_time, end_time, template_id, stream_type, extension, reference
	FROM screenshot_task_request ORDER BY id;

-- Without arguments: columns of the parameters' names, and the defaults.
CREATE TABLE event (domain_name text, stream_name text, app_name text, template_id bigint,
					end_time timestamptz, start_time timestamptz, reference text, note text);
CREATE TRIGGER screenshots AFTER INSERT ON event
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger();
INSERT INTO event VALUES
	('5000.live.push.com', 'one', 'live', 1, '2999-07-10 13:00', '2999-07-10 12:00', 'ref 1', 'a note'),
	('5000.live.push.com', 'two', 'live', 2, '2999-07-10 13:00', '2999-07-10 12:00', 'ref 2', NULL);
SET client_min_messages = warning; -- a NOTICE has the id
INSERT INTO event VALUES ('5000.live.push.com', 'two again', 'live', 2, '2999-07-10 13:00', '2999-07-10 12:00', 'ref 2');
RESET client_min_messages;
TABLE request;

-- A request that cannot be stops the statement that asked for it.
\set VERBOSITY terse
INSERT INTO event VALUES ('5000.live.push.com', 'late', 'live', 1, '2999-07-10 13:00', '2999-07-10 14:00');
\set VERBOSITY default
BEGIN;
INSERT INTO event VALUES ('5000.live.push.com', 'undone', 'live', 1, '2999-07-10 13:00', '2999-07-10 12:00');
ROLLBACK;

-- The table may change under the trigger.
ALTER TABLE event DROP COLUMN app_name,
	ADD COLUMN extension text DEFAULT 'added', ADD COLUMN app_name text DEFAULT 'moved';
INSERT INTO event VALUES ('5000.live.push.com', 'altered', 1, '2999-07-10 13:00', '2999-07-10 12:00', 'ref 3');
ALTER TABLE event ALTER COLUMN reference TYPE integer USING 3;
INSERT INTO event VALUES ('5000.live.push.com', 'altered again', 1, '2999-07-10 13:00', '2999-07-10 12:00', 4);
SELECT stream_name, app_name, extension, reference FROM request;

-- With arguments: other columns, and constants.  Types are assigned as in any
-- INSERT.
TRUNCATE screenshot_task_request, event;
DROP TABLE event;
CREATE TABLE event (id integer, "Stream" varchar(20), "the ""end""" timestamp, starts date,
					stream_name text DEFAULT 'not this', template_id numeric DEFAULT 7,
					domain_name text GENERATED ALWAYS AS (id || '.live.push.com') STORED);
CREATE TRIGGER screenshots AFTER INSERT OR UPDATE OF starts ON event
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
		'stream_name=Stream', 'end_time=the "end"', 'start_time=starts', 'reference=id',
		'app_name:=it''s = live\', 'extension:=', 'stream_type:=1');
INSERT INTO event VALUES (1, 'one', '2999-07-10 13:00', '2999-07-10');
UPDATE event SET id = 2; -- not of starts
UPDATE event SET id = 3, starts = starts;
UPDATE event SET starts = starts;
TABLE request;

-- Columns in constants, which are read as what their parameter is.
TRUNCATE screenshot_task_request, event;
DROP TRIGGER screenshots ON event;
CREATE TRIGGER screenshots AFTER INSERT ON event
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
		'stream_name:={{{Stream}}}', 'domain_name:={domain_name}', 'app_name:={{}}', 'extension:={template_id}{template_id}',
		'start_time:={starts} 12:00', 'end_time:={the "end"}', 'template_id:=1{id}', 'reference:=event {id}');
INSERT INTO event VALUES (1, 'one', '2999-07-10 13:00', '2999-07-10'), (2, 'two', '2999-07-10 13:00', '2999-07-10');
TABLE request;

-- A trigger of a partitioned table fires for the rows of every partition,
-- however its columns are ordered.
TRUNCATE screenshot_task_request;
CREATE TABLE schedule (id integer, stream_name text, starts timestamptz, ends timestamptz) PARTITION BY LIST (id);
CREATE TABLE schedule_1 PARTITION OF schedule FOR VALUES IN (1);
CREATE TABLE schedule_2 (ends timestamptz, dropped integer, starts timestamptz, stream_name text, id integer);
ALTER TABLE schedule_2 DROP COLUMN dropped;
CREATE TRIGGER screenshots AFTER INSERT ON schedule
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
		'start_time=starts', 'end_time=ends', 'domain_name:=d', 'app_name:=a', 'template_id=id');
ALTER TABLE schedule ATTACH PARTITION schedule_2 FOR VALUES IN (2);
INSERT INTO schedule VALUES (1, 'one', '2999-07-10 12:00', '2999-07-10 13:00'),
	(2, 'two', '2999-07-10 14:00', '2999-07-10 15:00');
INSERT INTO schedule SELECT id, stream_name || ' again', starts, ends FROM schedule;
SELECT stream_name, start_time, end_time, template_id FROM request;

-- It may be deferred to the end of the transaction.
TRUNCATE screenshot_task_request;
CREATE TABLE deferred (stream_name text);
CREATE CONSTRAINT TRIGGER screenshots AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
		'start_time:=2999-07-10 12:00', 'end_time:=2999-07-10 13:00',
		'domain_name:=d', 'app_name:=a', 'template_id:=1');
BEGIN;
INSERT INTO deferred VALUES ('deferred');
SELECT count(*) FROM request;
COMMIT;
SELECT count(*) FROM request;

-- Constants are read at each firing: "now" is the start of each transaction,
-- and a time without a zone is one of the zone at the time.
TRUNCATE screenshot_task_request;
CREATE TABLE live (stream_name text);
CREATE TRIGGER screenshots AFTER INSERT ON live
	FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
		'start_time:=now', 'end_time:=tomorrow', 'domain_name:=d', 'app_name:=a', 'template_id:=1');
INSERT INTO live VALUES ('now');
INSERT INTO live VALUES ('and now');
SELECT count(DISTINCT start_time) AS starts, bool_and(start_time = requested_at) AS at_once FROM screenshot_task_request;
TRUNCATE screenshot_task_request;
INSERT INTO deferred VALUES ('in UTC');
SET TimeZone = 'Asia/Shanghai';
INSERT INTO deferred VALUES ('in Shanghai');
SET TimeZone = 'UTC';
SELECT stream_name, start_time, end_time FROM request;

-- A session keeps one plan for all triggers that are alike, and no more than 64
-- of others.
CREATE VIEW plans AS SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'CachedPlanSource';
CREATE FUNCTION fire_often(statement text) RETURNS bigint LANGUAGE plpgsql SET client_min_messages = warning AS $$
DECLARE
	before bigint := (TABLE plans);
BEGIN
	FOR i IN 1 .. 200 LOOP
		EXECUTE replace($1, '%', i::text);
		EXECUTE 'INSERT INTO brief VALUES (''s'')';
		DROP TABLE brief;
		EXECUTE 'DROP DOMAIN IF EXISTS brief_' || i;
	END LOOP;
	RETURN (TABLE plans) - before;
END
$$;
\set brief 'CREATE TRIGGER screenshots AFTER INSERT ON brief FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(''start_time:=now'', ''end_time:=tomorrow'', ''domain_name:=d%'', ''app_name:=a'', ''template_id:=1'')'
SELECT fire_often('CREATE TEMP TABLE brief (stream_name text); ' || :'brief') < 10 AS one;
SELECT fire_often('CREATE DOMAIN brief_% AS text; CREATE TEMP TABLE brief (stream_name brief_%); ' || :'brief') <= 80 AS some;
SELECT count(*) FROM request;

DROP FUNCTION fire_often;
DROP VIEW plans;
DROP TABLE event, schedule, deferred, live;
DROP VIEW request;
TRUNCATE screenshot_task_request;
