/* screenshot_task--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION screenshot_task" to load this file. \quit

--
-- Where to, and as whom.  A server may lend this machine's own credentials to
-- those who have USAGE on it; the validator keeps that for superusers to set.
--

CREATE FUNCTION @extschema@.screenshot_task_fdw_validator(pg_catalog.text[], pg_catalog.oid)
RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'screenshot_task_fdw_validator'
LANGUAGE C STRICT PARALLEL SAFE;

REVOKE ALL ON FUNCTION @extschema@.screenshot_task_fdw_validator(pg_catalog.text[], pg_catalog.oid) FROM PUBLIC;

COMMENT ON FUNCTION @extschema@.screenshot_task_fdw_validator(pg_catalog.text[], pg_catalog.oid) IS
'checks the options of servers and user mappings of the wrapper tencent_cloud';

CREATE FOREIGN DATA WRAPPER tencent_cloud
	NO HANDLER
	VALIDATOR @extschema@.screenshot_task_fdw_validator;

COMMENT ON FOREIGN DATA WRAPPER tencent_cloud IS
'endpoints of Tencent Cloud Live, and the credentials to use them with';

--
-- The call
--

CREATE FUNCTION @extschema@.create_screenshot_task(
	stream_name pg_catalog.text,
	domain_name pg_catalog.text,
	app_name pg_catalog.text,
	end_time pg_catalog.timestamptz,
	template_id pg_catalog.int8,
	start_time pg_catalog.timestamptz DEFAULT NULL,
	stream_type pg_catalog.int4 DEFAULT 0,
	extension pg_catalog.text DEFAULT NULL,
	server pg_catalog.name DEFAULT 'tencent_live',
	OUT task_id pg_catalog.text,
	OUT request_id pg_catalog.text)
AS 'MODULE_PATHNAME', 'create_screenshot_task'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.create_screenshot_task(
	pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.int8,
	pg_catalog.timestamptz, pg_catalog.int4, pg_catalog.text, pg_catalog.name) IS
'creates a screenshot task immediately, whether or not the transaction commits';

CREATE FUNCTION @extschema@.preview_screenshot_task(
	stream_name pg_catalog.text,
	domain_name pg_catalog.text,
	app_name pg_catalog.text,
	end_time pg_catalog.timestamptz,
	template_id pg_catalog.int8,
	start_time pg_catalog.timestamptz DEFAULT NULL,
	stream_type pg_catalog.int4 DEFAULT 0,
	extension pg_catalog.text DEFAULT NULL,
	server pg_catalog.name DEFAULT 'tencent_live',
	signed_at pg_catalog.timestamptz DEFAULT pg_catalog.now(),
	OUT url pg_catalog.text,
	OUT headers pg_catalog.text[],
	OUT body pg_catalog.text,
	OUT canonical_request pg_catalog.text,
	OUT string_to_sign pg_catalog.text)
AS 'MODULE_PATHNAME', 'preview_screenshot_task'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION @extschema@.preview_screenshot_task(
	pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.int8,
	pg_catalog.timestamptz, pg_catalog.int4, pg_catalog.text, pg_catalog.name, pg_catalog.timestamptz) IS
'shows the signed request that create_screenshot_task would send, without sending it; may fetch the credentials of a role';

CREATE FUNCTION @extschema@.stop_screenshot_task(
	task_id pg_catalog.text,
	server pg_catalog.name DEFAULT 'tencent_live')
RETURNS pg_catalog.text
AS 'MODULE_PATHNAME', 'stop_screenshot_task'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.stop_screenshot_task(pg_catalog.text, pg_catalog.name) IS
'ends a screenshot task early and for good; returns the RequestId';

CREATE FUNCTION @extschema@.delete_screenshot_task(
	task_id pg_catalog.text,
	server pg_catalog.name DEFAULT 'tencent_live')
RETURNS pg_catalog.text
AS 'MODULE_PATHNAME', 'delete_screenshot_task'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.delete_screenshot_task(pg_catalog.text, pg_catalog.name) IS
'removes a screenshot task, without ending a running capture; returns the RequestId';

CREATE TYPE @extschema@.screenshot_task AS (
	task_id pg_catalog.text,
	stream_name pg_catalog.text,
	domain_name pg_catalog.text,
	app_name pg_catalog.text,
	start_time pg_catalog.timestamptz,
	end_time pg_catalog.timestamptz,
	template_id pg_catalog.int8,
	stopped_at pg_catalog.timestamptz);

COMMENT ON TYPE @extschema@.screenshot_task IS
'a screenshot task as the API lists it';
COMMENT ON COLUMN @extschema@.screenshot_task.task_id IS 'TaskId';
COMMENT ON COLUMN @extschema@.screenshot_task.stream_name IS 'StreamName';
COMMENT ON COLUMN @extschema@.screenshot_task.domain_name IS 'DomainName';
COMMENT ON COLUMN @extschema@.screenshot_task.app_name IS 'AppName';
COMMENT ON COLUMN @extschema@.screenshot_task.start_time IS 'StartTime';
COMMENT ON COLUMN @extschema@.screenshot_task.end_time IS 'EndTime';
COMMENT ON COLUMN @extschema@.screenshot_task.template_id IS 'TemplateId';
COMMENT ON COLUMN @extschema@.screenshot_task.stopped_at IS 'Stopped: when the task was ended early, or null';

CREATE FUNCTION @extschema@.describe_screenshot_tasks(
	start_time pg_catalog.timestamptz,
	end_time pg_catalog.timestamptz,
	stream_name pg_catalog.text DEFAULT NULL,
	domain_name pg_catalog.text DEFAULT NULL,
	app_name pg_catalog.text DEFAULT NULL,
	server pg_catalog.name DEFAULT 'tencent_live')
RETURNS SETOF @extschema@.screenshot_task
AS 'MODULE_PATHNAME', 'describe_screenshot_tasks'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.describe_screenshot_tasks(
	pg_catalog.timestamptz, pg_catalog.timestamptz, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.name) IS
'lists all screenshot tasks that lie within a time window';

--
-- Templates: what pictures are like, and where they go
--

CREATE TYPE @extschema@.screenshot_template AS (
	template_id pg_catalog.int8,
	name pg_catalog.text,
	snapshot_interval pg_catalog.int4,
	width pg_catalog.int4,
	height pg_catalog.int4,
	porn_flag pg_catalog.int4,
	cos_app_id pg_catalog.int8,
	cos_bucket pg_catalog.text,
	cos_region pg_catalog.text,
	cos_prefix pg_catalog.text,
	cos_file_name pg_catalog.text,
	description pg_catalog.text);

COMMENT ON TYPE @extschema@.screenshot_template IS
'a screenshot template as the API lists it';
COMMENT ON COLUMN @extschema@.screenshot_template.template_id IS 'TemplateId, for template_id of a task';
COMMENT ON COLUMN @extschema@.screenshot_template.name IS 'TemplateName';
COMMENT ON COLUMN @extschema@.screenshot_template.snapshot_interval IS 'SnapshotInterval: seconds from one picture to the next';
COMMENT ON COLUMN @extschema@.screenshot_template.width IS 'Width of a picture, in pixels; 0: that of the stream';
COMMENT ON COLUMN @extschema@.screenshot_template.height IS 'Height of a picture, in pixels; 0: that of the stream';
COMMENT ON COLUMN @extschema@.screenshot_template.porn_flag IS 'PornFlag: 1 if pictures are checked for pornography, else 0';
COMMENT ON COLUMN @extschema@.screenshot_template.cos_app_id IS 'CosAppId: the APPID of the account that the bucket belongs to';
COMMENT ON COLUMN @extschema@.screenshot_template.cos_bucket IS 'CosBucket: the bucket to store pictures in, without the APPID';
COMMENT ON COLUMN @extschema@.screenshot_template.cos_region IS 'CosRegion: the region of the bucket';
COMMENT ON COLUMN @extschema@.screenshot_template.cos_prefix IS 'CosPrefix: the folder in the bucket';
COMMENT ON COLUMN @extschema@.screenshot_template.cos_file_name IS 'CosFileName: the pattern of file names';
COMMENT ON COLUMN @extschema@.screenshot_template.description IS 'Description';

CREATE FUNCTION @extschema@.describe_screenshot_templates(
	server pg_catalog.name DEFAULT 'tencent_live')
RETURNS SETOF @extschema@.screenshot_template
AS 'MODULE_PATHNAME', 'describe_screenshot_templates'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.describe_screenshot_templates(pg_catalog.name) IS
'lists the screenshot templates of the account';

CREATE FUNCTION @extschema@.create_screenshot_template(
	name pg_catalog.text,
	cos_app_id pg_catalog.int8,
	cos_bucket pg_catalog.text,
	cos_region pg_catalog.text,
	snapshot_interval pg_catalog.int4 DEFAULT 10,
	width pg_catalog.int4 DEFAULT 0,
	height pg_catalog.int4 DEFAULT 0,
	porn_flag pg_catalog.int4 DEFAULT 0,
	cos_prefix pg_catalog.text DEFAULT NULL,
	cos_file_name pg_catalog.text DEFAULT NULL,
	description pg_catalog.text DEFAULT NULL,
	server pg_catalog.name DEFAULT 'tencent_live',
	OUT template_id pg_catalog.int8,
	OUT request_id pg_catalog.text)
AS 'MODULE_PATHNAME', 'create_screenshot_template'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.create_screenshot_template(
	pg_catalog.text, pg_catalog.int8, pg_catalog.text, pg_catalog.text, pg_catalog.int4, pg_catalog.int4, pg_catalog.int4,
	pg_catalog.int4, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.name) IS
'creates a screenshot template immediately, whether or not the transaction commits; snapshot_interval is in seconds, width and height are in pixels';

CREATE FUNCTION @extschema@.delete_screenshot_template(
	template_id pg_catalog.int8,
	server pg_catalog.name DEFAULT 'tencent_live')
RETURNS pg_catalog.text
AS 'MODULE_PATHNAME', 'delete_screenshot_template'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.delete_screenshot_template(pg_catalog.int8, pg_catalog.name) IS
'removes a screenshot template; returns the RequestId';

--
-- The request table
--

CREATE TYPE @extschema@.screenshot_task_status AS ENUM (
	'pending', 'sending', 'created', 'failed', 'in_doubt', 'expired', 'cancelled', 'withdrawing', 'withdrawn');

COMMENT ON TYPE @extschema@.screenshot_task_status IS
'pending: not sent yet; sending: in flight; created: the task exists; failed: refused for good; in_doubt: sent, outcome unknown; expired: its end passed before it could be sent; cancelled: by a user, or withdrawn before it had a task; withdrawing: its task is being stopped and deleted; withdrawn: its task was stopped and deleted';

-- What a dump does not restore: generated columns are computed anew.  The
-- function only looks immutable: its value is that of the moment at which the
-- row is written, and is stored.
CREATE FUNCTION @extschema@.screenshot_task_request_origin(stamp pg_catalog.int8)
RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'screenshot_task_request_origin'
LANGUAGE C IMMUTABLE;

COMMENT ON FUNCTION @extschema@.screenshot_task_request_origin(pg_catalog.int8) IS
'computes the origin column of screenshot_task_request: a digest of this cluster and database if the stamp is that of the current transaction, else 0';

CREATE TABLE @extschema@.screenshot_task_request (
	id pg_catalog.int8 GENERATED ALWAYS AS IDENTITY,
	stream_name pg_catalog.text NOT NULL,
	domain_name pg_catalog.text NOT NULL,
	app_name pg_catalog.text NOT NULL,
	end_time pg_catalog.timestamptz NOT NULL,
	template_id pg_catalog.int8 NOT NULL,
	start_time pg_catalog.timestamptz,
	stream_type pg_catalog.int4 NOT NULL DEFAULT 0,
	extension pg_catalog.text,
	server pg_catalog.name NOT NULL DEFAULT 'tencent_live',
	reference pg_catalog.text,
	replaces pg_catalog.int8,
	requested_by pg_catalog.name NOT NULL,
	requested_at pg_catalog.timestamptz NOT NULL,
	status @extschema@.screenshot_task_status NOT NULL DEFAULT 'pending',
	next_attempt_at pg_catalog.timestamptz,
	attempts pg_catalog.int4 NOT NULL DEFAULT 0,
	sent_at pg_catalog.timestamptz,
	finished_at pg_catalog.timestamptz,
	withdrawn_at pg_catalog.timestamptz,
	task_id pg_catalog.text,
	request_id pg_catalog.text,
	trace_id pg_catalog.uuid,
	error_code pg_catalog.text,
	error_message pg_catalog.text,
	misses pg_catalog.int4 NOT NULL DEFAULT 0,
	role pg_catalog.oid,
	stamp pg_catalog.int8,
	origin pg_catalog.int8 NOT NULL
		GENERATED ALWAYS AS (@extschema@.screenshot_task_request_origin(stamp)) STORED,
	CONSTRAINT screenshot_task_request_pkey PRIMARY KEY (id),
	CONSTRAINT stream_name_must_not_be_empty
		CHECK (stream_name OPERATOR(pg_catalog.<>) ''::pg_catalog.text),
	CONSTRAINT domain_name_must_not_be_empty
		CHECK (domain_name OPERATOR(pg_catalog.<>) ''::pg_catalog.text),
	CONSTRAINT app_name_must_not_be_empty
		CHECK (app_name OPERATOR(pg_catalog.<>) ''::pg_catalog.text),
	CONSTRAINT stream_name_must_be_at_most_1024_bytes
		CHECK (pg_catalog.octet_length(stream_name) OPERATOR(pg_catalog.<=) 1024),
	CONSTRAINT domain_name_must_be_at_most_1024_bytes
		CHECK (pg_catalog.octet_length(domain_name) OPERATOR(pg_catalog.<=) 1024),
	CONSTRAINT app_name_must_be_at_most_1024_bytes
		CHECK (pg_catalog.octet_length(app_name) OPERATOR(pg_catalog.<=) 1024),
	CONSTRAINT extension_must_be_at_most_65536_bytes
		CHECK (pg_catalog.octet_length(extension) OPERATOR(pg_catalog.<=) 65536),
	CONSTRAINT end_time_must_be_finite
		CHECK (pg_catalog.isfinite(end_time)),
	CONSTRAINT start_time_must_be_finite
		CHECK (pg_catalog.isfinite(start_time)),
	CONSTRAINT end_time_must_be_later_than_start_time
		CHECK (end_time OPERATOR(pg_catalog.>) start_time
			   OR NOT pg_catalog.isfinite(start_time)),
	CONSTRAINT end_time_must_be_at_most_24_hours_after_start_time
		CHECK (end_time OPERATOR(pg_catalog.<=)
			   (COALESCE(start_time, requested_at)
				OPERATOR(pg_catalog.+) '24:00:00'::pg_catalog.interval)
			   OR NOT pg_catalog.isfinite(end_time)
			   OR NOT pg_catalog.isfinite(COALESCE(start_time, requested_at))),
	CONSTRAINT template_id_must_not_be_negative
		CHECK (template_id OPERATOR(pg_catalog.>=) 0::pg_catalog.int8),
	CONSTRAINT stream_type_must_be_0_or_1
		CHECK (stream_type OPERATOR(pg_catalog.=) 0 OR stream_type OPERATOR(pg_catalog.=) 1),
	CONSTRAINT reference_must_be_at_most_1024_bytes
		CHECK (pg_catalog.octet_length(reference) OPERATOR(pg_catalog.<=) 1024)
);

COMMENT ON TABLE @extschema@.screenshot_task_request IS
'requests for screenshot tasks, sent once the inserting transaction commits';
COMMENT ON COLUMN @extschema@.screenshot_task_request.id IS
'number of the request';
COMMENT ON COLUMN @extschema@.screenshot_task_request.stream_name IS
'StreamName: the stream to take screenshots of';
COMMENT ON COLUMN @extschema@.screenshot_task_request.domain_name IS
'DomainName: the push domain of the stream';
COMMENT ON COLUMN @extschema@.screenshot_task_request.app_name IS
'AppName: the push path of the stream';
COMMENT ON COLUMN @extschema@.screenshot_task_request.end_time IS
'EndTime, in whole seconds, rounded up: at most 24 hours after the start';
COMMENT ON COLUMN @extschema@.screenshot_task_request.template_id IS
'TemplateId: the screenshot template of the account';
COMMENT ON COLUMN @extschema@.screenshot_task_request.start_time IS
'StartTime, in whole seconds, rounded down; null: at once. A request that starts more than six days from now waits until the API accepts it';
COMMENT ON COLUMN @extschema@.screenshot_task_request.stream_type IS
'StreamType: 0 live, 1 mixed';
COMMENT ON COLUMN @extschema@.screenshot_task_request.extension IS
'Extension: passed on unchanged';
COMMENT ON COLUMN @extschema@.screenshot_task_request.server IS
'foreign server of the wrapper tencent_cloud to send the request to';
COMMENT ON COLUMN @extschema@.screenshot_task_request.reference IS
'caller''s own key, at most 1,024 bytes, unique for each role among requests that are not withdrawn; makes enqueueing idempotent';
COMMENT ON COLUMN @extschema@.screenshot_task_request.replaces IS
'id of the request that this one replaces; set by the extension';
COMMENT ON COLUMN @extschema@.screenshot_task_request.requested_by IS
'name of the role that made the request; set by the extension';
COMMENT ON COLUMN @extschema@.screenshot_task_request.requested_at IS
'start of the transaction that made the request; set by the extension';
COMMENT ON COLUMN @extschema@.screenshot_task_request.status IS
'state of the request; set by the extension';
COMMENT ON COLUMN @extschema@.screenshot_task_request.next_attempt_at IS
'pending: earliest time to send the request, null if it may be sent as soon as a permit is free. in_doubt: time of the next lookup, null if the request must be resolved by hand. withdrawing: time of the next attempt to stop and delete the task, null for at once';
COMMENT ON COLUMN @extschema@.screenshot_task_request.attempts IS
'number of attempts to send the request, not counting refusals for reasons outside the request';
COMMENT ON COLUMN @extschema@.screenshot_task_request.sent_at IS
'time of the last attempt';
COMMENT ON COLUMN @extschema@.screenshot_task_request.finished_at IS
'time at which the request was created, failed, expired, cancelled or withdrawn';
COMMENT ON COLUMN @extschema@.screenshot_task_request.withdrawn_at IS
'time at which the request was withdrawn; set by the extension';
COMMENT ON COLUMN @extschema@.screenshot_task_request.task_id IS
'TaskId of the created task';
COMMENT ON COLUMN @extschema@.screenshot_task_request.request_id IS
'RequestId of the last answer from the API';
COMMENT ON COLUMN @extschema@.screenshot_task_request.trace_id IS
'X-TC-TraceId of the last attempt, by which Tencent Cloud support can find an unanswered request';
COMMENT ON COLUMN @extschema@.screenshot_task_request.error_code IS
'error code of the last answer from the API';
COMMENT ON COLUMN @extschema@.screenshot_task_request.error_message IS
'what went wrong, and what to do';
COMMENT ON COLUMN @extschema@.screenshot_task_request.misses IS
'number of lookups that found no task for a request in doubt; after two it is sent again';
COMMENT ON COLUMN @extschema@.screenshot_task_request.role IS
'OID of the role that made the request, whose user mapping is used to send it; set by the extension';
COMMENT ON COLUMN @extschema@.screenshot_task_request.stamp IS
'digest of the transaction that wrote the row; set by the extension';
COMMENT ON COLUMN @extschema@.screenshot_task_request.origin IS
'digest of the cluster and database in which the request was made, 0 if it came in a dump; requests made elsewhere are not sent';

-- what may be sent now, in sending order
CREATE INDEX screenshot_task_request_ready
	ON @extschema@.screenshot_task_request
	USING btree (origin, server, role, (COALESCE(start_time, requested_at)), id)
	WHERE status OPERATOR(pg_catalog.=) 'pending'::@extschema@.screenshot_task_status
	AND next_attempt_at IS NULL;
COMMENT ON INDEX @extschema@.screenshot_task_request_ready IS
'pending requests that may be sent now, in sending order';

-- what may be sent later
CREATE INDEX screenshot_task_request_waiting
	ON @extschema@.screenshot_task_request
	USING btree (origin, next_attempt_at)
	WHERE status OPERATOR(pg_catalog.=) 'pending'::@extschema@.screenshot_task_status
	AND next_attempt_at IS NOT NULL;
COMMENT ON INDEX @extschema@.screenshot_task_request_waiting IS
'pending requests that may not be sent yet';

-- what needs a lookup
CREATE INDEX screenshot_task_request_doubtful
	ON @extschema@.screenshot_task_request
	USING btree (origin, server, role, next_attempt_at)
	WHERE status OPERATOR(pg_catalog.=) 'in_doubt'::@extschema@.screenshot_task_status;
COMMENT ON INDEX @extschema@.screenshot_task_request_doubtful IS
'requests in doubt, in the order of their lookups';

CREATE INDEX screenshot_task_request_alike
	ON @extschema@.screenshot_task_request
	USING btree (origin, stream_name)
	WHERE status OPERATOR(pg_catalog.=) 'in_doubt'::@extschema@.screenshot_task_status
	OR status OPERATOR(pg_catalog.=) 'withdrawing'::@extschema@.screenshot_task_status;
COMMENT ON INDEX @extschema@.screenshot_task_request_alike IS
'requests in doubt, and requests whose task is being withdrawn, by stream, to tell equal requests apart';

-- whose tasks are to be stopped and deleted
CREATE INDEX screenshot_task_request_withdrawing
	ON @extschema@.screenshot_task_request
	USING btree (origin, server, role, next_attempt_at, (COALESCE(start_time, requested_at)), id)
	WHERE status OPERATOR(pg_catalog.=) 'withdrawing'::@extschema@.screenshot_task_status;
COMMENT ON INDEX @extschema@.screenshot_task_request_withdrawing IS
'requests whose task is being withdrawn, in the order of attempts';

CREATE INDEX screenshot_task_request_sending
	ON @extschema@.screenshot_task_request
	USING btree (origin)
	WHERE status OPERATOR(pg_catalog.=) 'sending'::@extschema@.screenshot_task_status;
COMMENT ON INDEX @extschema@.screenshot_task_request_sending IS
'requests in flight, for recovery by the next worker';

-- what is removed after screenshot_task.retention, and which row has a task
-- that a lookup found
CREATE INDEX screenshot_task_request_finished
	ON @extschema@.screenshot_task_request
	USING btree ((CASE WHEN status OPERATOR(pg_catalog.=) 'created'::@extschema@.screenshot_task_status
				  OR status OPERATOR(pg_catalog.=) 'withdrawn'::@extschema@.screenshot_task_status
				  THEN end_time ELSE finished_at END), id)
	WHERE finished_at IS NOT NULL;
COMMENT ON INDEX @extschema@.screenshot_task_request_finished IS
'finished requests, by the end of their task, or else by the time they finished';

CREATE UNIQUE INDEX screenshot_task_request_reference_key
	ON @extschema@.screenshot_task_request
	USING btree (reference, role)
	WHERE reference IS NOT NULL AND withdrawn_at IS NULL;
COMMENT ON INDEX @extschema@.screenshot_task_request_reference_key IS
'a reference is unique for each role among requests that are not withdrawn';

-- roles see the requests that are theirs.  A role keeps its OID when it is
-- renamed, and one of the same name that is made after it has another.  The OID
-- in a row that came in a dump may be that of another cluster's role.
CREATE FUNCTION @extschema@.screenshot_task_role()
RETURNS pg_catalog.oid
AS 'MODULE_PATHNAME', 'screenshot_task_role'
LANGUAGE C STABLE PARALLEL RESTRICTED;

COMMENT ON FUNCTION @extschema@.screenshot_task_role() IS
'OID of the current role; for the policy of screenshot_task_request';

ALTER TABLE @extschema@.screenshot_task_request ENABLE ROW LEVEL SECURITY;

CREATE POLICY screenshot_task_request_own
	ON @extschema@.screenshot_task_request
	USING (role OPERATOR(pg_catalog.=) @extschema@.screenshot_task_role()
		   AND (origin OPERATOR(pg_catalog.<>) 0::pg_catalog.int8
				OR requested_by OPERATOR(pg_catalog.=) CURRENT_USER));
COMMENT ON POLICY screenshot_task_request_own ON @extschema@.screenshot_task_request IS
'a role sees its own requests';

GRANT SELECT ON TABLE @extschema@.screenshot_task_request TO PUBLIC;
-- pg_dump reads it along with the table
GRANT SELECT ON SEQUENCE @extschema@.screenshot_task_request_id_seq TO PUBLIC;

CREATE FUNCTION @extschema@.screenshot_task_request_insert()
RETURNS pg_catalog.trigger
AS 'MODULE_PATHNAME', 'screenshot_task_request_insert'
LANGUAGE C;

REVOKE ALL ON FUNCTION @extschema@.screenshot_task_request_insert() FROM PUBLIC;

COMMENT ON FUNCTION @extschema@.screenshot_task_request_insert() IS
'sets the columns of a new request that belong to the extension, and wakes the worker at commit';

CREATE TRIGGER screenshot_task_request_insert
	BEFORE INSERT ON @extschema@.screenshot_task_request
	FOR EACH ROW EXECUTE FUNCTION @extschema@.screenshot_task_request_insert();

COMMENT ON TRIGGER screenshot_task_request_insert ON @extschema@.screenshot_task_request IS
'sets the columns of a new request that belong to the extension, and wakes the worker at commit';

CREATE FUNCTION @extschema@.screenshot_task_request_update()
RETURNS pg_catalog.trigger
AS 'MODULE_PATHNAME', 'screenshot_task_request_update'
LANGUAGE C;

REVOKE ALL ON FUNCTION @extschema@.screenshot_task_request_update() FROM PUBLIC;

COMMENT ON FUNCTION @extschema@.screenshot_task_request_update() IS
'preserves the origin stamp on UPDATE';

CREATE TRIGGER screenshot_task_request_update
	BEFORE UPDATE ON @extschema@.screenshot_task_request
	FOR EACH ROW EXECUTE FUNCTION @extschema@.screenshot_task_request_update();

COMMENT ON TRIGGER screenshot_task_request_update ON @extschema@.screenshot_task_request IS
'preserves the origin stamp on UPDATE';

CREATE FUNCTION @extschema@.screenshot_task_request_news()
RETURNS pg_catalog.trigger
AS 'MODULE_PATHNAME', 'screenshot_task_request_news'
LANGUAGE C;

REVOKE ALL ON FUNCTION @extschema@.screenshot_task_request_news() FROM PUBLIC;

COMMENT ON FUNCTION @extschema@.screenshot_task_request_news() IS
'wakes sessions that wait for a request, at commit';

CREATE TRIGGER screenshot_task_request_news
	AFTER UPDATE OR DELETE OR TRUNCATE ON @extschema@.screenshot_task_request
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.screenshot_task_request_news();

COMMENT ON TRIGGER screenshot_task_request_news ON @extschema@.screenshot_task_request IS
'wakes sessions that wait for a request, at commit';

-- in sessions that apply the changes of another database, too: a trigger on a
-- table that is replicated may make requests
ALTER TABLE @extschema@.screenshot_task_request
	ENABLE ALWAYS TRIGGER screenshot_task_request_insert,
	ENABLE ALWAYS TRIGGER screenshot_task_request_update,
	ENABLE ALWAYS TRIGGER screenshot_task_request_news;

SELECT pg_catalog.pg_extension_config_dump('@extschema@.screenshot_task_request', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.screenshot_task_request_id_seq', '');

COMMENT ON SEQUENCE @extschema@.screenshot_task_request_id_seq IS
'numbers of the requests';

CREATE FUNCTION @extschema@.enqueue_screenshot_task(
	stream_name pg_catalog.text,
	domain_name pg_catalog.text,
	app_name pg_catalog.text,
	end_time pg_catalog.timestamptz,
	template_id pg_catalog.int8,
	start_time pg_catalog.timestamptz DEFAULT NULL,
	stream_type pg_catalog.int4 DEFAULT 0,
	extension pg_catalog.text DEFAULT NULL,
	server pg_catalog.name DEFAULT 'tencent_live',
	reference pg_catalog.text DEFAULT NULL,
	replace pg_catalog.bool DEFAULT false)
RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'enqueue_screenshot_task'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.enqueue_screenshot_task(
	pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.int8,
	pg_catalog.timestamptz, pg_catalog.int4, pg_catalog.text, pg_catalog.name, pg_catalog.text, pg_catalog.bool) IS
'requests a screenshot task, to be created once the transaction commits; returns the id of the request, or of the existing one with the same reference; if "replace" is true and the parameters differ, withdraws that one and replaces it';

CREATE FUNCTION @extschema@.wait_for_screenshot_task(
	request_id pg_catalog.int8,
	timeout pg_catalog.interval DEFAULT '30 s')
RETURNS @extschema@.screenshot_task_request
AS 'MODULE_PATHNAME', 'wait_for_screenshot_task'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.wait_for_screenshot_task(pg_catalog.int8, pg_catalog.interval) IS
'waits until a request is finished or must be resolved by hand; returns it in its state at that time, or after the timeout';

CREATE FUNCTION @extschema@.cancel_screenshot_task_request(request_id pg_catalog.int8)
RETURNS pg_catalog.bool
AS 'MODULE_PATHNAME', 'cancel_screenshot_task_request'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.cancel_screenshot_task_request(pg_catalog.int8) IS
'cancels a request that is pending or in doubt; returns whether it did';

CREATE FUNCTION @extschema@.withdraw_screenshot_task_request(request_id pg_catalog.int8)
RETURNS @extschema@.screenshot_task_status
AS 'MODULE_PATHNAME', 'withdraw_screenshot_task_request'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.withdraw_screenshot_task_request(pg_catalog.int8) IS
'has a request have no task: cancels it, or has its task stopped and deleted once the transaction commits; returns the status that it has then';

CREATE FUNCTION @extschema@.retry_screenshot_task_request(request_id pg_catalog.int8)
RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'retry_screenshot_task_request'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.retry_screenshot_task_request(pg_catalog.int8) IS
'sends a waiting, failed or cancelled request again without delay, looks up one in doubt, or tries again to withdraw a task';

CREATE FUNCTION @extschema@.resolve_screenshot_task_request(request_id pg_catalog.int8, task_id pg_catalog.text)
RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'resolve_screenshot_task_request'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.resolve_screenshot_task_request(pg_catalog.int8, pg_catalog.text) IS
'resolves a request in doubt: its task exists; or, if task_id is null, no task was created and it is sent again. Of a request that is withdrawing, null says that its task no longer exists';

CREATE FUNCTION @extschema@.adopt_screenshot_task_requests()
RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'adopt_screenshot_task_requests'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION @extschema@.adopt_screenshot_task_requests() IS
'releases requests that came in a dump or a copy of a database, to be sent from here; returns their number';

CREATE FUNCTION @extschema@.screenshot_task_trigger()
RETURNS pg_catalog.trigger
AS 'MODULE_PATHNAME', 'screenshot_task_trigger'
LANGUAGE C;

COMMENT ON FUNCTION @extschema@.screenshot_task_trigger() IS
'trigger that has the screenshot tasks of a table follow its rows; its arguments have the form ''parameter=column'' or ''parameter:=constant''';

--
-- What goes on, in all databases of the cluster
--

CREATE FUNCTION @extschema@.screenshot_task_stat(
	OUT datid pg_catalog.oid,
	OUT server pg_catalog.name,
	OUT created pg_catalog.int8,
	OUT failed pg_catalog.int8,
	OUT expired pg_catalog.int8,
	OUT withdrawn pg_catalog.int8,
	OUT in_doubt pg_catalog.int8,
	OUT found pg_catalog.int8,
	OUT resent pg_catalog.int8,
	OUT postponed pg_catalog.int8,
	OUT throttled pg_catalog.int8,
	OUT calls pg_catalog.int8,
	OUT failed_calls pg_catalog.int8,
	OUT connections pg_catalog.int8,
	OUT latency_p50 pg_catalog.interval,
	OUT latency_p99 pg_catalog.interval,
	OUT latency_max pg_catalog.interval,
	OUT stats_reset pg_catalog.timestamptz)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'screenshot_task_stat'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

REVOKE ALL ON FUNCTION @extschema@.screenshot_task_stat() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.screenshot_task_stat() TO pg_monitor;

COMMENT ON FUNCTION @extschema@.screenshot_task_stat() IS
'for the view screenshot_task_stat';

CREATE VIEW @extschema@.screenshot_task_stat AS
	SELECT s.datid, d.datname, s.server, s.created, s.failed, s.expired,
		s.withdrawn, s.in_doubt, s.found, s.resent, s.postponed, s.throttled, s.calls,
		s.failed_calls, s.connections, s.latency_p50, s.latency_p99,
		s.latency_max, s.stats_reset
	FROM @extschema@.screenshot_task_stat() AS s
	JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.datid;

GRANT SELECT ON @extschema@.screenshot_task_stat TO pg_monitor;

COMMENT ON VIEW @extschema@.screenshot_task_stat IS
'outcomes of the requests to each server of each database, since the cluster was started or statistics were reset';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.datid IS 'OID of the database';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.datname IS 'name of the database';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.server IS 'name of the server';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.created IS 'requests whose answer said that the task was created';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.failed IS 'requests refused for good';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.expired IS 'requests whose end passed before they could be sent';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.withdrawn IS 'requests whose task was stopped and deleted after they were withdrawn';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.in_doubt IS 'requests sent without a conclusive answer';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.found IS 'requests in doubt whose task was found';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.resent IS 'requests in doubt that were sent again because they had no task';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.postponed IS 'number of times a request was postponed because the server was not reached, or refused it temporarily';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.throttled IS 'refusals for too many requests a second';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.calls IS 'direct calls by functions';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.failed_calls IS 'direct calls that raised an error';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.connections IS 'connections made';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.latency_p50 IS 'median time to a complete answer, within 3.2 %';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.latency_p99 IS '99th percentile of the time to a complete answer, within 3.2 %';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.latency_max IS 'longest time to a complete answer';
COMMENT ON COLUMN @extschema@.screenshot_task_stat.stats_reset IS 'time since which these are counted';

CREATE FUNCTION @extschema@.screenshot_task_stat_reset()
RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'screenshot_task_stat_reset'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

REVOKE ALL ON FUNCTION @extschema@.screenshot_task_stat_reset() FROM PUBLIC;

COMMENT ON FUNCTION @extschema@.screenshot_task_stat_reset() IS
'resets the counts in the view screenshot_task_stat, of all databases';

CREATE FUNCTION @extschema@.screenshot_task_worker(
	OUT datid pg_catalog.oid,
	OUT pid pg_catalog.int4,
	OUT state pg_catalog.text,
	OUT in_flight pg_catalog.int4,
	OUT pending pg_catalog.int8,
	OUT waiting pg_catalog.int8,
	OUT in_doubt pg_catalog.int8,
	OUT withdrawing pg_catalog.int8,
	OUT held pg_catalog.int8,
	OUT oldest_age pg_catalog.interval,
	OUT drain_time pg_catalog.interval,
	OUT pauses pg_catalog.int4,
	OUT paused pg_catalog.text,
	OUT last_error pg_catalog.text,
	OUT last_error_at pg_catalog.timestamptz)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'screenshot_task_worker'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

REVOKE ALL ON FUNCTION @extschema@.screenshot_task_worker() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.screenshot_task_worker() TO pg_monitor;

COMMENT ON FUNCTION @extschema@.screenshot_task_worker() IS
'for the view screenshot_task_worker';

CREATE VIEW @extschema@.screenshot_task_worker AS
	SELECT w.datid, d.datname, w.pid, w.state, w.in_flight, w.pending,
		w.waiting, w.in_doubt, w.withdrawing, w.held, w.oldest_age, w.drain_time, w.pauses,
		w.paused, w.last_error, w.last_error_at
	FROM @extschema@.screenshot_task_worker() AS w
	JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) w.datid;

GRANT SELECT ON @extschema@.screenshot_task_worker TO pg_monitor;

COMMENT ON VIEW @extschema@.screenshot_task_worker IS
'activity of the worker of each database';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.datid IS 'OID of the database';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.datname IS 'name of the database';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.pid IS 'process ID of the worker, null if none is running';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.state IS
'sending: requests are in flight; busy: there is work within the next second; idle: there is none; paused: there are requests, none is in flight, and a server or role is paused; disabled: by screenshot_task.enabled; blocked: each transaction on the request table fails, see last_error; waiting for its turn: there are not enough background worker slots; kept out: by a command on the database; not running';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.in_flight IS 'requests in flight, or whose result is not saved yet';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.pending IS 'requests to be sent, as last counted, less those sent since. Counted at commits, at sweeps, and after this view is read, but using no more than 0.2 % of the time';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.waiting IS 'pending requests that may not be sent yet';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.in_doubt IS 'requests in doubt, as last counted';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.withdrawing IS 'requests whose task is yet to be stopped and deleted, as of the last count';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.held IS 'requests that came in a dump or a copy of a database and are not sent; counted up to 1,000 of a kind';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.oldest_age IS 'age of the oldest request that may be sent';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.drain_time IS 'estimated time to send the requests that may be sent now, at the rate of the last ten seconds; null if unknown';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.pauses IS 'number of paused servers, roles on servers, and domains of these';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.paused IS 'what is paused, until when, and why, one line each';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.last_error IS 'last error';
COMMENT ON COLUMN @extschema@.screenshot_task_worker.last_error_at IS 'time of the last error';
