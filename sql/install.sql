--
-- CREATE EXTENSION in a schema that is not on the search path, and DROP
-- EXTENSION, which leaves nothing behind
--
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET search_path = pg_catalog;

-- How many rows each catalog of this database has.
CREATE PROCEDURE pg_temp.count_rows(into_table regclass) LANGUAGE plpgsql AS $$
DECLARE
	catalog regclass;
BEGIN
	FOR catalog IN
		SELECT oid FROM pg_class
		WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'
		AND NOT relisshared AND relname NOT LIKE 'pg_statistic%'
	LOOP
		EXECUTE format('INSERT INTO %s SELECT %L, count(*) FROM %s',
					   into_table, catalog, catalog);
	END LOOP;
END
$$;
CREATE TEMP TABLE before (catalog regclass, n bigint);
CREATE TEMP TABLE after (catalog regclass, n bigint);
CALL pg_temp.count_rows('before');

CREATE SCHEMA "Odd Schema";
CREATE EXTENSION screenshot_task SCHEMA "Odd Schema";
ALTER EXTENSION screenshot_task SET SCHEMA public;

-- It works with the schema's name in front, and after that has changed.
CREATE SERVER tencent_live FOREIGN DATA WRAPPER tencent_cloud;
CREATE USER MAPPING FOR PUBLIC SERVER tencent_live
	OPTIONS (secret_id 'AKIDEXAMPLE', secret_key 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE');
CREATE TABLE public.event (stream_name text);
CREATE TRIGGER screenshots AFTER INSERT ON public.event
	FOR EACH ROW EXECUTE FUNCTION "Odd Schema".screenshot_task_trigger(
		'domain_name:=5000.live.push.com', 'app_name:=live', 'template_id:=20001',
		'start_time:=2999-07-10 12:00Z', 'end_time:=2999-07-10 13:00Z');
SELECT url FROM "Odd Schema".preview_screenshot_task('s', 'd', 'a', now() + '1 hour', 1);
SELECT "Odd Schema".enqueue_screenshot_task('enqueued', 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z') > 0;
INSERT INTO public.event VALUES ('triggered');
ALTER SCHEMA "Odd Schema" RENAME TO "100% Odder";
SELECT "100% Odder".enqueue_screenshot_task('enqueued again', 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z') > 0;
INSERT INTO public.event VALUES ('triggered again');
SELECT stream_name, status FROM "100% Odder".screenshot_task_request ORDER BY id;

-- What stands on it is in the way of DROP EXTENSION, or goes with it.
\set VERBOSITY terse
DROP EXTENSION screenshot_task;
DROP EXTENSION screenshot_task CASCADE;
DROP SCHEMA "100% Odder";
DROP TABLE public.event;
CALL pg_temp.count_rows('after');
SELECT count(*) > 40 FROM before;
SELECT catalog, before.n, after.n FROM before FULL JOIN after USING (catalog)
WHERE before.n IS DISTINCT FROM after.n;
