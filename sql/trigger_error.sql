--
-- screenshot_task_trigger(): what is wrong with a trigger is said when it
-- fires
--
CREATE FUNCTION try_trigger(arguments text, fires text DEFAULT 'AFTER INSERT', each text DEFAULT 'ROW')
RETURNS text LANGUAGE sql AS $$
	SELECT outcome(format('CREATE TRIGGER wrong %s ON partial FOR EACH %s
						   EXECUTE FUNCTION screenshot_task_trigger(%s);
						   INSERT INTO partial VALUES (''s'', ''2999-07-10 12:00'', true);
						   DELETE FROM partial', fires, each, arguments))
$$;
CREATE TABLE partial (stream_name text, starts timestamptz, flag boolean, nothing text, long text DEFAULT repeat('l', 1025));
\pset format unaligned
\pset tuples_only on
\pset fieldsep '\n    '
SELECT arguments, try_trigger(arguments) FROM (VALUES
	(''),
	($$'domain_name:=d', 'app_name:=a', 'end_time=starts'$$),
	($$'domain_name'$$), ($$''$$), ($$'='$$), ($$':=d'$$),
	($$'domain_name = stream_name'$$), ($$'domain:=d'$$), ($$'Domain_Name:=d'$$), ($$'status:=created'$$),
	($$'domain_name=domain'$$), ($$'domain_name='$$), ($$'domain_name=Stream_Name'$$), ($$'domain_name=ctid'$$),
	($$'domain_name:=d', 'domain_name=stream_name'$$),
	($$'domain_name:=d', 'app_name:=a', 'end_time=starts', 'template_id=flag'$$),
	($$'domain_name:=d', 'app_name:=a', 'end_time=starts', 'template_id:=many'$$),
	($$'template:=1'$$), ($$'template_ids:=1'$$), ($$'end_time=start'$$),
	-- columns in constants
	($$'domain_name:={nocolumn}'$$), ($$'domain_name:={start}'$$), ($$'domain_name:={}'$$), ($$'domain_name:={starts'$$), ($$'domain_name:=starts}'$$),
	($$'domain_name:={{{starts}'$$), ($$'domain_name={starts}'$$), ($$'domain_name={nocolumn}'$$),
	($$'domain_name:=d', 'app_name:=a {nothing}', 'end_time=starts', 'template_id:=1'$$),
	($$'domain_name:=d', 'app_name:=a', 'end_time=starts', 'template_id:=1', 'start_time:=2999-07-10 11:00', 'reference:={nothing}'$$),
	($$'domain_name:=d', 'app_name:=a', 'end_time=starts', 'template_id:={flag}'$$),
	($$'domain_name:=d', 'app_name:=a', 'end_time=starts', 'template_id:=1', 'start_time:=2999-07-10 11:00', 'reference=long'$$)) AS t (arguments);
SELECT fires || ' FOR EACH ' || each, try_trigger('', fires, each) FROM (VALUES
	('BEFORE INSERT', 'ROW'), ('AFTER INSERT', 'STATEMENT'), ('AFTER DELETE', 'ROW')) AS t (fires, each);
-- A trigger that follows its rows needs a reference, of one row.
SELECT arguments, try_trigger($$'domain_name:=d', 'app_name:=a', 'end_time=starts', 'template_id:=1', 'start_time:=2999-07-10 11:00'$$ || arguments, fires)
FROM (VALUES ('', 'AFTER UPDATE'), ('', 'AFTER INSERT OR DELETE'), ($$, 'reference:=constant'$$, 'AFTER INSERT OR UPDATE'), ($$, 'reference=nothing'$$, 'AFTER INSERT OR DELETE'),
	($$, 'reference:={nothing}'$$, 'AFTER INSERT OR DELETE'), ($$, 'reference:={flag}'$$, 'AFTER INSERT OR DELETE'), ($$, 'as_owner:=maybe'$$, 'AFTER INSERT'), ($$, 'as_owner=flag'$$, 'AFTER INSERT'), ($$, 'as_ower:=true'$$, 'AFTER INSERT')) AS t (arguments, fires);
SELECT outcome($$CREATE TRIGGER screenshots BEFORE TRUNCATE ON partial EXECUTE FUNCTION screenshot_task_trigger(); TRUNCATE partial$$);
SELECT screenshot_task_trigger();
SELECT screenshot_task_request_insert();

DROP FUNCTION try_trigger;
DROP TABLE partial;
