--
-- What the tests after this one share: the extension, a server at which
-- nothing listens, two roles, and two functions
--
CREATE EXTENSION screenshot_task;
CREATE SERVER tencent_live FOREIGN DATA WRAPPER tencent_cloud
	OPTIONS (endpoint 'https://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER tencent_live
	OPTIONS (secret_id 'AKIDEXAMPLE', secret_key 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE');

SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_screenshot_app, regress_screenshot_other;
RESET client_min_messages;
CREATE ROLE regress_screenshot_app;
CREATE ROLE regress_screenshot_other;

-- How a statement ends: "ok", or its SQLSTATE and message.  It is undone.
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RAISE SQLSTATE 'UNDO0';
EXCEPTION
	WHEN SQLSTATE 'UNDO0' THEN
		RETURN 'ok';
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT,
			detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RETURN concat_ws(E'\n        ', SQLSTATE || ' ' || message,
						 'DETAIL: ' || regexp_replace(nullif(detail, ''), '\d{4,}-\d\d-\d\d \d\d:\d\d:[0-9.]+[-+]\d\d', 'TIME', 'g'),
						 'HINT: ' || nullif(hint, ''));
END
$$;
SELECT outcome('SELECT 1'), outcome('SELECT 1/0');

-- The arguments of a good request, but for those given.
CREATE FUNCTION request_with(given text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(', ', string_agg(name || ' => ' || value, ', '), nullif(given, ''))
	FROM (VALUES ('stream_name', $q$'livetest'$q$),
				 ('domain_name', $q$'5000.live.push.com'$q$),
				 ('app_name', $q$'live'$q$),
				 ('end_time', $q$now() + '2 hours'$q$),
				 ('template_id', $q$20001$q$)) AS good (name, value)
	WHERE strpos(given, name || ' =>') = 0
$$;
SELECT request_with('template_id => 0, extension => NULL');
