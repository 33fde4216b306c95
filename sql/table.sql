--
-- screenshot_task_request: what becomes of the rows that are put in
--
-- All requests are for the year 2999, so that a worker leaves them alone.
--
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

-- The columns that are the extension's are set, whatever the statement says.
SELECT enum_range(NULL::screenshot_task_status);
BEGIN;
INSERT INTO screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id)
	VALUES ('by default', 'd', 'a', '2999-07-10 12:00', '2999-07-10 13:00', 20001);
INSERT INTO screenshot_task_request
	(id, stream_name, domain_name, app_name, start_time, end_time, template_id,
	 stream_type, extension, server, reference, requested_by, requested_at, status, next_attempt_at,
	 attempts, sent_at, finished_at, task_id, request_id, trace_id, error_code, error_message)
	OVERRIDING USER VALUE
	VALUES (4711, 'by statement', 'd', 'a', '2999-07-10 12:00', '2999-07-10 13:00', 20001,
			1, 'an extension', 'tencent_live', 'ref', 'somebody', '1999-01-01', 'created', '1999-01-01',
			9, '1999-01-01', '1999-01-01', 'a task', 'a request', '11111111-1111-4111-8111-111111111111', 'a code', 'a message');
SELECT stream_name, stream_type, extension, server, reference, id <> 4711 AS own_id,
	requested_by = CURRENT_USER AS by_me, requested_at = now() AS now
FROM screenshot_task_request ORDER BY id;
SELECT stream_name, status, next_attempt_at::date, attempts, sent_at, finished_at,
	task_id, request_id, trace_id, error_code, error_message
FROM screenshot_task_request ORDER BY id;
ROLLBACK;

-- A request waits until the API takes it: six days before its start, and a
-- little.
BEGIN;
INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id)
	VALUES ('in summer', 'd', 'a', '2999-07-10 12:00', '2999-07-11 12:00', 1),
	('at once', 'd', 'a', NULL, now() + interval '1 hour', 1),
	('in 143 hours', 'd', 'a', now() + interval '143 hours', now() + interval '144 hours', 1),
	('in 145 hours', 'd', 'a', now() + interval '145 hours', now() + interval '146 hours', 1)
	RETURNING stream_name, CASE WHEN start_time > '2999-01-01' THEN date_trunc('minute', next_attempt_at) END AS opens,
		next_attempt_at IS NOT NULL AS waits,
		next_attempt_at - start_time BETWEEN interval '-144 hours' AND interval '-143:59:00' AS six_days;
ROLLBACK;

-- INSERT ... SELECT, and COPY
INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id)
	SELECT 'selected ' || n, 'd', 'a', '2999-07-10 12:00', '2999-07-10 13:00', n
	FROM generate_series(1, 1000) AS n;
COPY screenshot_task_request
	(stream_name, domain_name, app_name, start_time, end_time, template_id, status, requested_by) FROM stdin;
copied	d	a	2999-07-10 12:00	2999-07-10 13:00	1	created	somebody
copied too	d	a	2999-07-10 12:00	2999-07-10 13:00	2	\N	\N
\.
SELECT split_part(stream_name, ' ', 1) AS what, status, requested_by = CURRENT_USER AS by_me, count(*)
FROM screenshot_task_request GROUP BY 1, 2, 3 ORDER BY 1;

-- A row that has a stamp comes from a dump.  Loaded by the owner, it
-- stays what it was, and is not for this cluster to send.
TRUNCATE screenshot_task_request;
INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id)
	VALUES ('own', 'd', 'a', '2999-07-10 12:00', '2999-07-10 13:00', 1);
COPY screenshot_task_request
	(id, stream_name, domain_name, app_name, start_time, end_time, template_id,
	 requested_by, requested_at, status, attempts, task_id, stamp) FROM stdin;
1000001	pending there	d	a	2999-07-10 12:00	2999-07-10 13:00	1	somebody	2998-01-01	pending	1	\N	815
1000002	created there	d	a	2999-07-10 12:00	2999-07-10 13:00	1	somebody	2998-01-01	created	1	a task	815
\.
INSERT INTO screenshot_task_request
	(id, stream_name, domain_name, app_name, start_time, end_time, template_id,
	 requested_by, requested_at, stamp)
	OVERRIDING SYSTEM VALUE
	SELECT 1000003, 'pending here', 'd', 'a', '2999-07-10 12:00', '2999-07-10 13:00', 1,
		'somebody', '2998-01-01', stamp
	FROM screenshot_task_request WHERE stream_name = 'own';
SELECT stream_name, status, attempts, task_id, requested_by = CURRENT_USER AS by_me,
	extract(year FROM requested_at) AS requested, origin = own_origin AS to_be_sent_from_here
FROM screenshot_task_request,
	(SELECT origin FROM screenshot_task_request WHERE stream_name = 'own') AS own (own_origin)
WHERE id > 1000000 ORDER BY id;

TRUNCATE screenshot_task_request;

-- The server is looked for in each transaction, those of one message too, which
-- begin at the same time.
CREATE SERVER brief FOREIGN DATA WRAPPER tencent_cloud;
PREPARE brief AS INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, start_time, end_time, template_id, server)
	VALUES ('s', 'd', 'a', '2999-07-10 12:00', '2999-07-10 13:00', 1, 'brief');
BEGIN\; EXECUTE brief\; COMMIT\; BEGIN\; DROP SERVER brief\; COMMIT\; BEGIN\; EXECUTE brief\; COMMIT;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT count(*) FROM screenshot_task_request WHERE server = 'brief';
DEALLOCATE brief;
TRUNCATE screenshot_task_request;
