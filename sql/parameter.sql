--
-- The parameters of a task: what is wrong with them is said before anything
-- is looked up or sent
--
\pset format unaligned
\pset tuples_only on
\pset fieldsep '\n    '

-- create_screenshot_task() and preview_screenshot_task() say it alike.
CREATE TABLE wrong (n serial, given text);
INSERT INTO wrong (given) VALUES
	($$stream_name => NULL$$), ($$domain_name => NULL$$), ($$app_name => NULL$$),
	($$end_time => NULL$$), ($$template_id => NULL$$), ($$stream_type => NULL$$), ($$server => NULL$$),
	($$stream_name => ''$$), ($$domain_name => ''$$), ($$app_name => ''$$),
	($$stream_name => repeat('s', 1025)$$), ($$domain_name => repeat('d', 1025)$$), ($$app_name => repeat('a', 1025)$$),
	($$extension => repeat('x', 65537)$$),
	($$end_time => '1969-12-31 23:59:59Z'$$), ($$end_time => '10000-01-01 00:00Z'$$),
	($$start_time => '4713-01-01 BC', end_time => '294000-01-01'$$),
	($$template_id => -1$$), ($$stream_type => 2$$), ($$stream_type => -1$$),
	($$end_time => 'infinity'$$), ($$end_time => '-infinity'$$),
	($$start_time => 'infinity'$$), ($$start_time => '-infinity'$$),
	($$end_time => now() + '-1 min'$$),
	($$start_time => now() + '3 hours'$$),
	($$end_time => now() + '25 hours'$$),
	($$start_time => now() + '1 hour', end_time => now() + '26 hours'$$),
	($$start_time => now() + '145 hours', end_time => now() + '146 hours'$$),
	($$start_time => now() + '143 hours', end_time => now() + '169 hours'$$),
	($$end_time => now() + '-1 min', server => 'nowhere'$$);
SELECT given, outcome(format('SELECT create_screenshot_task(%s)', request_with(given)))
FROM wrong ORDER BY n;
SELECT 'other words by preview: ' || given
FROM wrong
WHERE outcome(format('SELECT create_screenshot_task(%s)', request_with(given))) <>
	outcome(format('SELECT preview_screenshot_task(%s)', request_with(given)));
SELECT given, outcome(format('SELECT preview_screenshot_task(%s)', request_with(given)))
FROM (VALUES ($$signed_at => NULL$$), ($$signed_at => 'infinity'$$), ($$signed_at => '20000-01-01'$$),
	($$signed_at => now() + '4 min'$$), ($$signed_at => now() + '6 min'$$),
	($$stream_name => repeat('s', 1024), extension => repeat('x', 65536)$$)) AS t (given);
DROP TABLE wrong;

-- To the second: the limits, as they are at the time of signing.
SELECT given, outcome(format('SELECT preview_screenshot_task(%s, signed_at => %L)',
							 request_with(given), '2026-01-01 00:00:00Z'))
FROM (VALUES
	($$end_time => '2026-01-01 00:00:01Z'$$),
	($$end_time => '2026-01-01 00:00:00Z'$$),
	($$end_time => '2026-01-02 00:00:00Z'$$),
	($$end_time => '2026-01-02 00:00:01Z'$$),
	($$start_time => '2026-01-01 12:00:00Z', end_time => '2026-01-02 12:00:00Z'$$),
	($$start_time => '2026-01-01 12:00:00Z', end_time => '2026-01-02 12:00:01Z'$$),
	($$start_time => '2025-12-31 12:00:00Z', end_time => '2026-01-01 12:00:00Z'$$),
	($$start_time => '2026-01-07 00:00:00.9Z', end_time => '2026-01-07 23:59:59Z'$$),
	($$start_time => '2026-01-07 00:00:01Z', end_time => '2026-01-07 23:59:59Z'$$),
	($$start_time => '2026-01-07 00:00:00Z', end_time => '2026-01-08 00:00:00Z'$$)) AS t (given);
