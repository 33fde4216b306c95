--
-- Attacks: to change what belongs to the extension, or to the owner of a server
--
GRANT SELECT, INSERT, UPDATE, DELETE ON screenshot_task_request TO regress_screenshot_app;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app;
GRANT CREATE ON SCHEMA public TO regress_screenshot_app;
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION changes() RETURNS TABLE (statement text) LANGUAGE sql AS $$ SELECT unnest(ARRAY[
	'ALTER TABLE screenshot_task_request DISABLE ROW LEVEL SECURITY',
	'ALTER TABLE screenshot_task_request OWNER TO regress_screenshot_app',
	'ALTER TABLE screenshot_task_request DISABLE TRIGGER ALL',
	'ALTER TABLE screenshot_task_request ADD COLUMN more integer',
	'ALTER TABLE screenshot_task_request ALTER requested_by SET DEFAULT ''regress_screenshot_other''',
	'ALTER TABLE screenshot_task_request DROP CONSTRAINT template_id_must_not_be_negative',
	'ALTER TABLE screenshot_task_request RENAME TO taken',
	'ALTER TABLE screenshot_task_request SET SCHEMA pg_temp',
	'ALTER TABLE screenshot_task_request REPLICA IDENTITY FULL',
	'ALTER INDEX screenshot_task_request_reference_key RENAME TO taken',
	'ALTER SEQUENCE screenshot_task_request_id_seq RESTART',
	'ALTER POLICY screenshot_task_request_own ON screenshot_task_request USING (true)',
	'CREATE POLICY all_of_them ON screenshot_task_request USING (true)',
	'DROP POLICY screenshot_task_request_own ON screenshot_task_request',
	'CREATE TRIGGER t BEFORE INSERT ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION trap()',
	'CREATE TRIGGER t AFTER INSERT ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger()',
	'DROP TRIGGER screenshot_task_request_insert ON screenshot_task_request',
	'CREATE RULE r AS ON INSERT TO screenshot_task_request DO INSTEAD NOTHING',
	'CREATE INDEX ON screenshot_task_request (stream_name)',
	'CREATE STATISTICS s ON stream_name, reference FROM screenshot_task_request',
	'CREATE PUBLICATION p FOR TABLE screenshot_task_request',
	'DROP TABLE screenshot_task_request CASCADE',
	'TRUNCATE screenshot_task_request',
	'ALTER FUNCTION adopt_screenshot_task_requests() SECURITY DEFINER',
	'ALTER FUNCTION adopt_screenshot_task_requests() SET search_path = public',
	'CREATE OR REPLACE FUNCTION adopt_screenshot_task_requests() RETURNS bigint LANGUAGE sql AS ''SELECT 1''',
	'DROP FUNCTION adopt_screenshot_task_requests()',
	'CREATE FUNCTION theirs() RETURNS trigger AS ''screenshot_task'', ''screenshot_task_request_insert'' LANGUAGE C',
	'ALTER TYPE screenshot_task_status ADD VALUE ''taken''',
	'ALTER TYPE screenshot_task_status RENAME VALUE ''pending'' TO ''taken''',
	'ALTER EXTENSION screenshot_task DROP TABLE screenshot_task_request',
	'ALTER EXTENSION screenshot_task ADD FUNCTION trap()',
	'ALTER EXTENSION screenshot_task UPDATE',
	'DROP EXTENSION screenshot_task CASCADE',
	'COMMENT ON TABLE screenshot_task_request IS ''taken''',
	'ALTER FOREIGN DATA WRAPPER tencent_cloud NO VALIDATOR',
	'ALTER FOREIGN DATA WRAPPER tencent_cloud OWNER TO regress_screenshot_app',
	'CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud',
	'ALTER SERVER tencent_live OPTIONS (SET endpoint ''https://127.0.0.2'')',
	'ALTER SERVER tencent_live OWNER TO regress_screenshot_app',
	'ALTER SERVER tencent_live RENAME TO taken',
	'DROP SERVER tencent_live CASCADE',
	'CREATE USER MAPPING FOR regress_screenshot_other SERVER tencent_live',
	'ALTER USER MAPPING FOR PUBLIC SERVER tencent_live OPTIONS (SET secret_id ''forged'')',
	'DROP USER MAPPING FOR PUBLIC SERVER tencent_live',
	'SET session_replication_role = replica']) $$;

-- Each is refused to a role to which all is granted that one might grant.
SET ROLE regress_screenshot_app;
SELECT left(outcome(statement), 5) AS sqlstate, count(*) FROM changes() GROUP BY 1;
SELECT outcome(statement), statement FROM changes() WHERE outcome(statement) NOT LIKE '42501 %';

-- A GRANT by a role that has SELECT alone is no error, and has no effect.
GRANT USAGE, UPDATE ON SEQUENCE screenshot_task_request_id_seq TO regress_screenshot_app;
SELECT p, has_sequence_privilege('screenshot_task_request_id_seq', p) FROM unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) AS p;

-- A user mapping of its own it may have.
SELECT outcome('CREATE USER MAPPING FOR regress_screenshot_app SERVER tencent_live OPTIONS (secret_id ''own'', secret_key ''own'')');
RESET ROLE;

DROP FUNCTION trap, changes;
DROP OWNED BY regress_screenshot_app;
