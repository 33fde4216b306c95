--
-- The calls: the server, the right to use it, the credentials, and then the
-- network
--
CREATE FOREIGN DATA WRAPPER regress_wrapper;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER regress_wrapper;
CREATE SERVER unmapped FOREIGN DATA WRAPPER tencent_cloud OPTIONS (endpoint 'https://127.0.0.1:1');
PREPARE call (name) AS SELECT create_screenshot_task(
	'livetest', '5000.live.push.com', 'live', now() + '1 hour', 20001, server => $1);
SET ROLE regress_screenshot_app;
EXECUTE call('nowhere');
\echo :SQLSTATE
EXECUTE call('elsewhere');
\echo :SQLSTATE
EXECUTE call('unmapped');
\echo :SQLSTATE
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER unmapped TO regress_screenshot_app;
SET ROLE regress_screenshot_app;
EXECUTE call('unmapped');
\echo :SQLSTATE
CREATE USER MAPPING FOR CURRENT_USER SERVER unmapped OPTIONS (secret_id 'AKIDEXAMPLE', secret_key 'hunter2');
-- A mapping that is not complete, as none can be made
CREATE FUNCTION pg_temp.set_options(options text[]) RETURNS void LANGUAGE sql AS $$
	UPDATE pg_user_mapping SET umoptions = options
	WHERE umserver = (SELECT oid FROM pg_foreign_server WHERE srvname = 'unmapped')
$$;
RESET ROLE;
SELECT pg_temp.set_options('{secret_key=hunter2}');
SET ROLE regress_screenshot_app;
EXECUTE call('unmapped');
\echo :SQLSTATE
RESET ROLE;
SELECT pg_temp.set_options('{secret_id=AKIDEXAMPLE}');
SET ROLE regress_screenshot_app;
EXECUTE call('unmapped');
\echo :SQLSTATE
SELECT preview_screenshot_task('livetest', '5000.live.push.com', 'live', now() + '1 hour', 20001, server => 'unmapped');
SELECT stop_screenshot_task('an-id', 'unmapped');
SELECT delete_screenshot_task('an-id', 'unmapped');
ALTER USER MAPPING FOR CURRENT_USER SERVER unmapped OPTIONS (ADD secret_key 'hunter2');

-- Nothing listens there.  Some words of the detail are libcurl's.
\set VERBOSITY terse
EXECUTE call('unmapped');
\echo :SQLSTATE
SELECT stop_screenshot_task('an-id', server => 'unmapped');
SELECT delete_screenshot_task('an-id', server => 'unmapped');
SELECT regexp_replace(outcome($$EXECUTE call('unmapped')$$), '(1:1": )[^\n]*', '\1...');
\set VERBOSITY default
RESET ROLE;
DEALLOCATE call;

-- A task is named by its id.
SELECT stop_screenshot_task(NULL);
SELECT delete_screenshot_task('');
SELECT delete_screenshot_task('an-id', NULL);

-- No text is longer than it can be, wherever it goes.
SELECT stop_screenshot_task(repeat('x', 10000000));
SELECT delete_screenshot_task(repeat('x', 256), 'nowhere');
SELECT outcome(format('SELECT * FROM describe_screenshot_tasks(now() - interval %L, now(), %s => %s, server => %L)',
					  '1 h', name, value, 'nowhere'))
FROM unnest(ARRAY['stream_name', 'domain_name', 'app_name']) AS name, unnest(ARRAY[$$repeat('x', 1025)$$, $$''$$]) AS value
ORDER BY name, value;

DROP OWNED BY regress_screenshot_app;
DROP SERVER unmapped;
DROP FOREIGN DATA WRAPPER regress_wrapper CASCADE;
