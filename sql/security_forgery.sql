--
-- Attacks: to have a request made, or changed, in the name of another role
--
\set SHOW_CONTEXT never
GRANT INSERT ON screenshot_task_request TO regress_screenshot_app, regress_screenshot_other;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app, regress_screenshot_other;
CREATE FUNCTION forge(stream text) RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, reference,
	 requested_by, requested_at, status, attempts, task_id, request_id)
	VALUES (stream, 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, stream,
			'regress_screenshot_other', '2000-01-01', 'in_doubt', 7, 'forged', 'forged')
	RETURNING id
$$;
SET ROLE regress_screenshot_other;
SELECT forge('the victim''s') IS NOT NULL AS made;

-- INSERT, and COPY for a role that is free of row-level security
SET ROLE regress_screenshot_app;
SELECT forge('inserted') IS NOT NULL AS made;
RESET ROLE;
ALTER ROLE regress_screenshot_app BYPASSRLS;
SET ROLE regress_screenshot_app;
COPY screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id, requested_by, status) FROM stdin;
copied	d	a	2999-07-10 12:00Z	2999-07-10 13:00Z	1	regress_screenshot_other	created
\.
-- a pretended restore
COPY screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id, requested_by, status, stamp) FROM stdin;
restored	d	a	2999-07-10 12:00Z	2999-07-10 13:00Z	1	regress_screenshot_other	created	815
\.
RESET ROLE;
ALTER ROLE regress_screenshot_app NOBYPASSRLS;

-- UPDATE, and what an INSERT can do of one; then by a role to which it was
-- granted
SET ROLE regress_screenshot_app;
UPDATE screenshot_task_request SET requested_by = 'regress_screenshot_other';
INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, reference)
	VALUES ('s', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'inserted')
	ON CONFLICT (role, reference) WHERE reference IS NOT NULL AND withdrawn_at IS NULL
	DO UPDATE SET requested_by = 'regress_screenshot_other';
MERGE INTO screenshot_task_request USING (SELECT) AS nothing ON true
	WHEN MATCHED THEN UPDATE SET requested_by = 'regress_screenshot_other';
RESET ROLE;
GRANT UPDATE, DELETE ON screenshot_task_request TO regress_screenshot_app;
SET ROLE regress_screenshot_app;
UPDATE screenshot_task_request SET role = 'regress_screenshot_other'::regrole;
UPDATE screenshot_task_request SET requested_by = 'regress_screenshot_other', stamp = 815, origin = DEFAULT;
INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, reference)
	VALUES ('s', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'inserted')
	ON CONFLICT (role, reference) WHERE reference IS NOT NULL AND withdrawn_at IS NULL
	DO UPDATE SET role = 'regress_screenshot_other'::regrole;
WITH touched AS (UPDATE screenshot_task_request SET stream_name = 'taken' WHERE stream_name = 'the victim''s' RETURNING *)
	SELECT count(*) FROM touched;
WITH gone AS (DELETE FROM screenshot_task_request WHERE stream_name = 'the victim''s' RETURNING *)
	SELECT count(*) FROM gone;
RESET ROLE;
REVOKE UPDATE, DELETE ON screenshot_task_request FROM regress_screenshot_app;

-- SET ROLE, and functions that change the role
SET SESSION AUTHORIZATION regress_screenshot_app;
SET ROLE regress_screenshot_other;
RESET SESSION AUTHORIZATION;
CREATE FUNCTION as_victim(stream text) RETURNS bigint LANGUAGE sql SET role = 'regress_screenshot_other' AS 'SELECT forge(stream)';
CREATE FUNCTION as_definer(stream text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	PERFORM set_config('role', 'regress_screenshot_other', true);
	RETURN forge(stream);
END
$$;
ALTER FUNCTION as_definer OWNER TO regress_screenshot_app;
SET SESSION AUTHORIZATION regress_screenshot_app;
SELECT as_victim('by SET ROLE');
SELECT as_definer('by SET ROLE');
SELECT set_config('is_superuser', 'on', false);
RESET SESSION AUTHORIZATION;

-- A view of the victim's lends the right to insert, not the name.
CREATE VIEW lent AS SELECT * FROM screenshot_task_request;
ALTER VIEW lent OWNER TO regress_screenshot_other;
GRANT SELECT, INSERT ON lent TO regress_screenshot_app;
REVOKE INSERT ON screenshot_task_request FROM regress_screenshot_app;
PREPARE through_view AS
	INSERT INTO lent (stream_name, domain_name, app_name, start_time, end_time, template_id, server, requested_by)
	VALUES ('through a view', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, 'tencent_live',
			'regress_screenshot_other') RETURNING requested_by;
SET ROLE regress_screenshot_app;
EXECUTE through_view;
SELECT DISTINCT requested_by FROM lent;
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER tencent_live FROM regress_screenshot_app;
SET ROLE regress_screenshot_app;
EXECUTE through_view;
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app;
ALTER VIEW lent SET (security_invoker = on);
SET ROLE regress_screenshot_app;
EXECUTE through_view;
RESET ROLE;

-- A trigger, like a rule, on the table of somebody else: the request is made
-- by whoever writes to the table, who trusts its owner with that.
CREATE TABLE bait (stream_name text);
CREATE TRIGGER screenshots AFTER INSERT ON bait FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
	'domain_name:=d', 'app_name:=a', 'template_id:=1', 'start_time:=2999-07-10 12:00Z', 'end_time:=2999-07-10 13:00Z');
ALTER TABLE bait OWNER TO regress_screenshot_app;
GRANT INSERT ON bait TO regress_screenshot_other;
SET ROLE regress_screenshot_app;
INSERT INTO bait VALUES ('by the owner of the table, who may not insert');
SET ROLE regress_screenshot_other;
INSERT INTO bait VALUES ('by the trigger of another');
RESET ROLE;

-- A row that passes for one from a dump is the table's owner's to make.  Who
-- has such a thing fired by the owner has made a request of the owner's.
GRANT INSERT ON screenshot_task_request TO regress_screenshot_app;
SET SESSION AUTHORIZATION regress_screenshot_app;
SET session_replication_role = replica;
INSERT INTO screenshot_task_request SELECT * FROM screenshot_task_request;
RESET SESSION AUTHORIZATION;
CREATE TABLE rule_bait (stream_name text);
ALTER TABLE rule_bait OWNER TO regress_screenshot_app;
CREATE RULE forge AS ON INSERT TO rule_bait DO INSTEAD
	INSERT INTO screenshot_task_request
	(id, stream_name, domain_name, app_name, start_time, end_time, template_id, requested_by, requested_at, stamp)
	OVERRIDING SYSTEM VALUE
	VALUES (1000000, NEW.stream_name, 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1,
			'regress_screenshot_other', '2000-01-01', 815);
INSERT INTO rule_bait VALUES ('restored by the owner');

-- What there is, and of whom: nothing that the victim did not do
SELECT stream_name, requested_by, status, attempts, task_id, stamp = 815 AS forged, requested_at < '2001-01-01' AS long_ago
FROM screenshot_task_request ORDER BY stream_name COLLATE "C";

TRUNCATE screenshot_task_request;
DEALLOCATE ALL;
DROP VIEW lent;
DROP TABLE bait, rule_bait;
DROP FUNCTION as_victim, as_definer, forge;
DROP OWNED BY regress_screenshot_app, regress_screenshot_other;
