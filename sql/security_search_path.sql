--
-- What stands in front on the search path is not taken for what is meant
--
\set SHOW_CONTEXT never
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
DO $$
DECLARE
	type regtype;
	operator text;
BEGIN
	FOREACH type IN ARRAY ARRAY['name', 'text', 'bigint', 'integer', 'timestamptz', 'screenshot_task_status']::regtype[] LOOP
		EXECUTE format('CREATE FUNCTION hostile.trap(%s, %1$s) RETURNS boolean LANGUAGE sql AS %L',
					   type, 'SELECT hostile.trap()');
		FOREACH operator IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>='] LOOP
			EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %2$s, FUNCTION = hostile.trap)',
						   operator, type);
		END LOOP;
	END LOOP;
END
$$;
CREATE FUNCTION hostile.isfinite(timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.trap()';
CREATE TYPE hostile.screenshot_task_status AS ENUM ('created');
CREATE DOMAIN hostile.int8 AS pg_catalog.int8 CHECK (hostile.trap());
CREATE DOMAIN hostile.name AS pg_catalog.name CHECK (hostile.trap());
CREATE DOMAIN hostile.timestamptz AS pg_catalog.timestamptz CHECK (hostile.trap());
CREATE TABLE hostile.screenshot_task_request (LIKE screenshot_task_request);
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
GRANT ALL ON hostile.screenshot_task_request TO PUBLIC;
CREATE TABLE event (stream_name text);
CREATE TRIGGER screenshots AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
	'domain_name:=d', 'app_name:=a', 'template_id:=1',
	'start_time:=2999-07-10 12:00Z', 'end_time:=2999-07-10 13:00Z');
GRANT INSERT ON event, screenshot_task_request TO regress_screenshot_app;
GRANT USAGE ON FOREIGN SERVER tencent_live TO regress_screenshot_app;

-- The trap works, and is not sprung.
SET ROLE regress_screenshot_app;
CREATE TEMP TABLE screenshot_task_request (LIKE public.screenshot_task_request);
SET search_path = hostile, pg_temp, public, pg_catalog;
SELECT 'a'::text = 'a'::text;
INSERT INTO public.screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id)
	VALUES ('trapped?', 'd', 'a', '2999-07-10 12:00Z', '2999-07-10 13:00Z', 1);
PREPARE enqueue AS
	SELECT public.enqueue_screenshot_task('trapped?', 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z',
										  reference => 'ref') IS NOT NULL AS enqueued;
EXECUTE enqueue;
EXECUTE enqueue;
INSERT INTO public.event VALUES ('trapped?');
SELECT url FROM public.preview_screenshot_task('s', 'd', 'a', '2026-01-01 01:00Z', 1, signed_at => '2026-01-01 00:00Z');
SELECT id, id - 1 AS none FROM public.screenshot_task_request LIMIT 1 \gset
SELECT public.cancel_screenshot_task_request(:id);
SELECT public.retry_screenshot_task_request(:id);
SELECT public.adopt_screenshot_task_requests();
\set VERBOSITY sqlstate
SELECT public.resolve_screenshot_task_request(:id, NULL);
SELECT public.resolve_screenshot_task_request(:none, NULL);
\set VERBOSITY default
SELECT count(*) FROM public.screenshot_task_request;
SELECT min(id) AS trapped FROM public.screenshot_task_request \gset
SELECT public.retry_screenshot_task_request(:trapped);
SELECT public.cancel_screenshot_task_request(:trapped);
SELECT public.adopt_screenshot_task_requests();
RESET ROLE;
SET session_replication_role = replica;
UPDATE public.screenshot_task_request SET status = 'in_doubt', stamp = 815 WHERE id OPERATOR(pg_catalog.=) :trapped;
RESET session_replication_role;
SET ROLE regress_screenshot_app;
SELECT public.adopt_screenshot_task_requests();
SELECT public.resolve_screenshot_task_request(:trapped, 'a task');
SHOW search_path;
SELECT count(*) FROM hostile.screenshot_task_request;
SELECT count(*) FROM pg_temp.screenshot_task_request;
RESET search_path;
RESET ROLE;


SET client_min_messages = warning;
TRUNCATE public.screenshot_task_request;
DEALLOCATE ALL;
DROP TABLE public.event, pg_temp.screenshot_task_request;
DROP SCHEMA hostile CASCADE;
DROP OWNED BY regress_screenshot_app;
