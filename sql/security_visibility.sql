--
-- Attacks: to see the requests of others, or that there are any
--
\set SHOW_CONTEXT never
GRANT INSERT ON screenshot_task_request TO regress_screenshot_app, regress_screenshot_other;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app, regress_screenshot_other;
PREPARE insert (text, text) AS
	INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, reference)
	VALUES ($1, 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1, $2) RETURNING stream_name;
SET ROLE regress_screenshot_other;
EXECUTE insert('secret', 'ref');
SELECT max(id) AS victims FROM screenshot_task_request \gset

-- The same reference is not taken by another's; one's own shows nothing else.
SET ROLE regress_screenshot_app;
EXECUTE insert('own', 'ref');
EXECUTE insert('own', 'ref');
SELECT max(id) AS own FROM screenshot_task_request \gset
SET client_min_messages = warning; -- a NOTICE has the id
SELECT enqueue_screenshot_task('s', 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z', reference => 'ref') = :own AS found_own;
RESET client_min_messages;

-- Functions that tell, in any place; and statistics
RESET ROLE;
ANALYZE screenshot_task_request;
CREATE FUNCTION tell(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
	RAISE NOTICE '%', value;
	RETURN true;
END
$$;
CREATE OPERATOR <<< (RIGHTARG = text, FUNCTION = tell);
SET ROLE regress_screenshot_app;
SELECT stream_name FROM screenshot_task_request WHERE tell(stream_name);
SELECT stream_name FROM screenshot_task_request WHERE <<< stream_name AND id = :victims;
SELECT stream_name FROM screenshot_task_request WHERE (1 / (stream_name <> 'secret')::int)::boolean;
SELECT stream_name FROM screenshot_task_request TABLESAMPLE bernoulli (100) WHERE tell(stream_name) ORDER BY tell(stream_name);
SELECT stream_name FROM (SELECT * FROM screenshot_task_request OFFSET 0) AS r WHERE tell((r).stream_name);
COPY (SELECT stream_name FROM screenshot_task_request) TO stdout;
COPY screenshot_task_request (stream_name) TO stdout;
SELECT count(*) FROM pg_stats WHERE tablename = 'screenshot_task_request';
SET row_security = off;
SELECT stream_name FROM screenshot_task_request;
RESET row_security;

-- A statement that was planned for one role does not run for the next.
RESET ROLE;
SET plan_cache_mode = force_generic_plan;
PREPARE list AS SELECT stream_name FROM screenshot_task_request ORDER BY id;
EXECUTE list;
SET ROLE regress_screenshot_app;
EXECUTE list;
SET ROLE regress_screenshot_other;
EXECUTE list;
RESET ROLE;
RESET plan_cache_mode;

-- Neither do members of the roles that watch and read see them.
CREATE ROLE regress_screenshot_watcher IN ROLE pg_monitor, pg_read_all_data, pg_read_all_stats;
SET ROLE regress_screenshot_watcher;
SELECT count(*) FROM screenshot_task_request;
SELECT count(*) FROM pg_stats WHERE tablename = 'screenshot_task_request';
RESET ROLE;
DROP ROLE regress_screenshot_watcher;

-- To the functions a request of another is one that there is not.
SET ROLE regress_screenshot_app;
SELECT call, replace(outcome(format(call, :victims)), :'victims', 'N') = replace(outcome(format(call, -1)), '-1', 'N') AS same, outcome(format(call, -1))
FROM unnest(ARRAY[
	'SELECT cancel_screenshot_task_request(%s)', 'SELECT retry_screenshot_task_request(%s)',
	'SELECT resolve_screenshot_task_request(%s, NULL)', 'SELECT resolve_screenshot_task_request(%s, ''forged'')']) AS call;
SELECT adopt_screenshot_task_requests();

-- The last number may be read, as pg_dump does; more is nobody's to ask for.
SELECT outcome(statement) FROM unnest(ARRAY[
	'SELECT last_value FROM screenshot_task_request_id_seq', 'SELECT currval(''screenshot_task_request_id_seq'')',
	'SELECT lastval()', 'SELECT setval(''screenshot_task_request_id_seq'', 1)',
	'CREATE TEMP TABLE t (id bigint REFERENCES screenshot_task_request)',
	'CREATE TEMP TABLE t () INHERITS (screenshot_task_request)',
	'SELECT * FROM screenshot_task_request FOR KEY SHARE',
	'LOCK TABLE screenshot_task_request IN SHARE MODE']) AS statement;
SELECT count(*) FROM pg_sequences WHERE sequencename = 'screenshot_task_request_id_seq' AND last_value IS NOT NULL;
RESET ROLE;

-- Nothing was changed.
SELECT stream_name, requested_by, status, reference FROM screenshot_task_request ORDER BY id;

-- Members of a role may do to its requests what it may, and see them as it.
GRANT regress_screenshot_other TO regress_screenshot_app;
SET ROLE regress_screenshot_app;
SELECT stream_name FROM screenshot_task_request;
SELECT cancel_screenshot_task_request(:victims);
RESET ROLE;
REVOKE regress_screenshot_other FROM regress_screenshot_app;

TRUNCATE screenshot_task_request;
DEALLOCATE ALL;
DROP OPERATOR <<< (NONE, text);
DROP FUNCTION tell;
DROP OWNED BY regress_screenshot_app, regress_screenshot_other;
