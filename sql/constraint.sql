--
-- The constraints of screenshot_task_request, by name; the rest of the error
-- shows the row
--
\pset format unaligned
\pset tuples_only on
\pset fieldsep '\n    '
SELECT given, split_part(outcome(format('SELECT enqueue_screenshot_task(%s)', request_with(given))), E'\n', 1)
FROM (VALUES
	($$stream_name => NULL$$), ($$domain_name => NULL$$), ($$app_name => NULL$$), ($$end_time => NULL$$),
	($$template_id => NULL$$), ($$stream_type => NULL$$), ($$server => NULL$$),
	($$stream_name => ''$$), ($$domain_name => ''$$), ($$app_name => ''$$),
	($$template_id => -1$$), ($$stream_type => 2$$),
	($$end_time => 'infinity'$$), ($$end_time => '-infinity'$$),
	($$start_time => 'infinity'$$), ($$start_time => '-infinity'$$),
	($$start_time => '2999-07-10 12:00', end_time => '2999-07-10 12:00'$$),
	($$start_time => now() + '3 hours'$$),
	($$end_time => now() + '25 hours'$$),
	($$start_time => now() + '1 hour', end_time => now() + '26 hours'$$),
	($$start_time => '2999-07-10 12:00:00.9', end_time => '2999-07-11 12:00'$$),
	($$start_time => '2999-07-10 12:00', end_time => '2999-07-11 12:00:00.1'$$),
	($$stream_name => repeat('s', 1024), domain_name => repeat('d', 1024), app_name => repeat('a', 1024), extension => repeat('x', 65536)$$),
	($$stream_name => repeat('s', 1025)$$), ($$domain_name => repeat('d', 1025)$$), ($$app_name => repeat('a', 1025)$$),
	($$extension => repeat('x', 65537)$$),
	($$reference => repeat('e', 1024)$$), ($$reference => repeat('e', 1025)$$),
	($$reference => (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) AS i)$$),
	($$server => 'nowhere'$$)) AS t (given);
