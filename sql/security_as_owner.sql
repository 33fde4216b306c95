--
-- Security: a trigger that acts as the owner of its table
--
-- The table's owner has what it takes to request tasks; those who change the
-- table have not.
--
CREATE ROLE regress_screenshot_planner;
CREATE SCHEMA planning AUTHORIZATION regress_screenshot_app;
GRANT USAGE ON SCHEMA planning TO regress_screenshot_planner, regress_screenshot_other;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app;
GRANT INSERT ON screenshot_task_request TO regress_screenshot_app;
SET ROLE regress_screenshot_app;
CREATE TABLE planning.event (id integer PRIMARY KEY, stream text, starts timestamptz DEFAULT '2999-07-10 12:00Z');
CREATE TRIGGER screenshots AFTER INSERT OR UPDATE OR DELETE ON planning.event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('stream_name=stream', 'start_time=starts', 'end_time:=2999-07-11 00:00Z',
	'reference:=event {id}', 'domain_name:=d', 'app_name:=a', 'template_id:=1', 'as_owner:=true');
GRANT SELECT, INSERT, UPDATE, DELETE ON planning.event TO regress_screenshot_planner, regress_screenshot_other;
SET ROLE regress_screenshot_planner;
INSERT INTO planning.event VALUES (1, 'one'), (2, 'two'), (3, 'three');
SET ROLE regress_screenshot_other;
UPDATE planning.event SET stream = 'other' WHERE id = 1;
DELETE FROM planning.event WHERE id = 2;
SELECT CURRENT_USER;
RESET ROLE;
CREATE VIEW request AS SELECT requested_by, reference, stream_name, status FROM screenshot_task_request ORDER BY id;
TABLE request;

-- They have no more of it than that: not the requests, nor their functions.
SET ROLE regress_screenshot_planner;
SELECT count(*) FROM screenshot_task_request;
SELECT outcome($$INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, end_time, template_id) VALUES ('s', 'd', 'a', '2999-07-10 12:00Z', 1)$$);
RESET ROLE;
SELECT min(id) AS request FROM screenshot_task_request \gset
SET ROLE regress_screenshot_planner;
SELECT replace(outcome(format('SELECT withdraw_screenshot_task_request(%s)', :request)), :'request', 'N');
-- On a table of their own they act as themselves.
CREATE TEMP TABLE mine (id integer PRIMARY KEY, stream text GENERATED ALWAYS AS ('s' || id) STORED);
SELECT outcome($$CREATE TRIGGER screenshots AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('stream_name=stream', 'start_time:=2999-07-10 12:00Z', 'end_time:=2999-07-11 00:00Z',
	'reference:=event {id}', 'domain_name:=d', 'app_name:=a', 'template_id:=1', 'as_owner:=true'); INSERT INTO mine VALUES (1)$$);
RESET ROLE;

-- Who has TRIGGER on the table could have its owner request anything.
GRANT TRIGGER ON planning.event TO regress_screenshot_planner;
SET ROLE regress_screenshot_planner;
SELECT outcome($$CREATE TRIGGER attack AFTER INSERT ON planning.event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('stream_name:=attack', 'end_time:=2999-07-11 00:00Z', 'start_time:=2999-07-10 12:00Z',
	'domain_name:=d', 'app_name:=a', 'template_id:=1', 'as_owner:=true'); INSERT INTO planning.event VALUES (4, 'four')$$) ~ '^42501 trigger "attack" cannot act as the owner of table "event"' AS refused;
-- The owner's own trigger is refused as well, until that is mended.
SELECT outcome($$INSERT INTO planning.event VALUES (4, 'four')$$);
RESET ROLE;
REVOKE TRIGGER ON planning.event FROM regress_screenshot_planner;
GRANT TRIGGER ON planning.event TO PUBLIC;
SELECT outcome($$INSERT INTO planning.event VALUES (4, 'four')$$);
REVOKE TRIGGER ON planning.event FROM PUBLIC;
-- Whoever is the owner in effect may have it.
GRANT TRIGGER ON planning.event TO regress_screenshot_planner;
GRANT regress_screenshot_app TO regress_screenshot_planner;
INSERT INTO planning.event VALUES (4, 'four');
REVOKE regress_screenshot_app FROM regress_screenshot_planner;
REVOKE TRIGGER ON planning.event FROM regress_screenshot_planner;
-- The owner needs the privileges.
REVOKE USAGE ON FOREIGN SERVER tencent_live FROM regress_screenshot_app;
SELECT outcome($$INSERT INTO planning.event VALUES (5, 'five')$$);
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app;

-- Without it, each role has requests of its own, and may not withdraw another's.
ALTER TABLE planning.event DISABLE TRIGGER screenshots;
DELETE FROM planning.event;
TRUNCATE screenshot_task_request;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_planner, regress_screenshot_other;
GRANT INSERT ON screenshot_task_request TO regress_screenshot_planner, regress_screenshot_other;
CREATE TRIGGER as_invoker AFTER INSERT OR UPDATE OR DELETE ON planning.event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('stream_name=stream', 'start_time=starts', 'end_time:=2999-07-11 00:00Z',
	'reference:=event {id}', 'domain_name:=d', 'app_name:=a', 'template_id:=1');
SET ROLE regress_screenshot_planner;
INSERT INTO planning.event VALUES (1, 'one'), (2, 'two');
SET ROLE regress_screenshot_other;
SELECT outcome('DELETE FROM planning.event WHERE id = 1');
SELECT outcome($$UPDATE planning.event SET stream = 'other' WHERE id = 1$$);
-- A request of the same reference that is not of this row is none of its business.
CREATE TEMP TABLE probe (id integer, stream text, starts timestamptz);
CREATE TRIGGER probe AFTER DELETE ON probe FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('stream_name=stream', 'start_time=starts', 'end_time:=2999-07-11 00:00Z',
	'reference:=event {id}', 'domain_name:=d', 'app_name:=a', 'template_id:=1');
INSERT INTO probe VALUES (1, 'guess', '2999-07-10 12:00Z');
DELETE FROM probe;
RESET ROLE;
GRANT regress_screenshot_planner TO regress_screenshot_other;
SET ROLE regress_screenshot_other;
DELETE FROM planning.event WHERE id = 1;
UPDATE planning.event SET stream = 'other' WHERE id = 2;
RESET ROLE;
TABLE request;
SELECT outcome(format('SET ROLE %I; SELECT withdraw_screenshot_task_request(%s)', role, (SELECT max(id) FROM screenshot_task_request))) ~ '^ok' AS may
FROM unnest('{regress_screenshot_other,regress_screenshot_planner}'::text[]) AS role;

DROP VIEW request;
SET client_min_messages = warning;
DROP SCHEMA planning CASCADE;
DROP TABLE mine, probe;
RESET client_min_messages;
TRUNCATE screenshot_task_request;
REVOKE ALL ON FOREIGN SERVER tencent_live FROM regress_screenshot_app, regress_screenshot_planner, regress_screenshot_other;
REVOKE ALL ON screenshot_task_request FROM regress_screenshot_app, regress_screenshot_planner, regress_screenshot_other;
DROP ROLE regress_screenshot_planner;
