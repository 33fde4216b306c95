--
-- preview_screenshot_task(): what would be sent
--
SET client_encoding = 'UTF8';
CREATE SERVER preview FOREIGN DATA WRAPPER tencent_cloud;
CREATE USER MAPPING FOR PUBLIC SERVER preview
	OPTIONS (secret_id 'AKIDEXAMPLE', secret_key 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE');

-- A start is rounded down, an end up.
CREATE VIEW previewed AS SELECT * FROM preview_screenshot_task(
	stream_name => 'livetest', domain_name => '5000.live.push.com', app_name => 'live',
	template_id => 20001, start_time => '2026-01-01 01:00:00.999999Z', end_time => '2026-01-01 02:00:00.000001Z',
	server => 'preview', signed_at => '2026-01-01 00:00:00.5Z');
\x on
\pset format unaligned
SELECT url, body, canonical_request, string_to_sign FROM previewed;
\x off
\pset tuples_only on
SELECT unnest(headers) FROM previewed;


-- Before PostgreSQL's year 2000, down is down all the same.
SELECT substring(body FROM '"StartTime.*') FROM preview_screenshot_task(
	'livetest', '5000.live.push.com', 'live', '1999-12-31 23:59:59.1Z', 20001, '1999-12-31 23:00:00.9Z',
	server => 'preview', signed_at => '1999-12-31 23:00:00.9Z');

-- The parts fit together: body, canonical request, string to sign, signature.
CREATE FUNCTION tc3_sign(method text, query text, content_type text, host text,
						 action text, service text, body text, signed_at bigint,
						 secret_id text, secret_key text,
						 OUT canonical_hash text, OUT signature text)
	AS '$libdir/screenshot_task', 'screenshot_task_tc3' LANGUAGE C;
SELECT right(canonical_request, 64) = encode(sha256(convert_to(body, 'UTF8')), 'hex'),
	right(string_to_sign, 64) = encode(sha256(convert_to(canonical_request, 'UTF8')), 'hex'),
	array_to_string(headers, ' ') LIKE '%, Signature=' || signature || '%'
FROM previewed,
	tc3_sign('POST', '', 'application/json; charset=utf-8', 'live.tencentcloudapi.com', 'CreateScreenshotTask',
			 'live', body, 1767225600, 'AKIDEXAMPLE', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE');

-- Each parameter that is given is in the body, and no other.
CREATE FUNCTION body(given text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT body FROM preview_screenshot_task(%s)', request_with(given ||
		$q$, end_time => '2026-01-01 02:00:00Z', server => 'preview', signed_at => '2026-01-01 00:00:00Z'$q$));
END
$$;
SELECT body(given) FROM (VALUES
	('template_id => 0, stream_type => 0'),
	('template_id => 9223372036854775807, stream_type => 1'),
	($$extension => ''$$),
	($$start_time => '2026-01-01 00:00Z', stream_type => 1, extension => 'x'$$)) AS t (given);

-- Texts are escaped as JSON asks, and otherwise sent as they are.
SELECT body($$stream_name => E'"\\\b\f\n\r\t\x01\x1f', app_name => '''</&>%s{}', extension => 'café 直播 🎥'$$);
SELECT body($$stream_name => E'"\\\b\f\n\r\t\x01\x1f\x7f', app_name => '直播'$$)::jsonb - '{EndTime,TemplateId}'::text[]
	= jsonb_build_object('StreamName', E'"\\\b\f\n\r\t\x01\x1f\x7f', 'AppName', '直播', 'DomainName', '5000.live.push.com');

-- Region, language and token have their headers; a token is not shown.
ALTER SERVER preview OPTIONS (ADD region 'ap-shanghai', ADD language 'zh-CN');
ALTER USER MAPPING FOR PUBLIC SERVER preview OPTIONS (ADD token 'hunter2');
SELECT h FROM previewed, unnest(headers) AS h WHERE h ~ '^X-TC-(Region|Language|Token):';
SELECT strpos(p::text, 'hunter2') = 0, strpos(p::text, 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE') = 0 FROM previewed AS p;

-- The host is signed as it is sent: with a port if it is not the scheme's own.
ALTER SERVER preview OPTIONS (ADD endpoint 'https://live.tencentcloudapi.com:443/');
SELECT url, headers[1], split_part(canonical_request, E'\n', 5) FROM previewed;
ALTER SERVER preview OPTIONS (SET endpoint 'https://Live.example.com:8443');
SELECT url, headers[1], split_part(canonical_request, E'\n', 5) FROM previewed;
ALTER SERVER preview OPTIONS (SET endpoint 'http://127.0.0.1:80');
SELECT url, headers[1], split_part(canonical_request, E'\n', 5) FROM previewed;
ALTER SERVER preview OPTIONS (SET endpoint 'http://[::1]:8080');
SELECT url, headers[1], split_part(canonical_request, E'\n', 5) FROM previewed;

-- The day in the string to sign is that of UTC, whatever the session's.
SET TimeZone = 'Asia/Shanghai';
SELECT split_part(string_to_sign, E'\n', 3)
FROM preview_screenshot_task('s', 'd', 'a', '2026-01-01 02:00Z', 1, server => 'preview',
							 signed_at => '2025-12-31 23:59:59.9Z');
RESET TimeZone;

-- Credentials of the machine's role may have to be fetched for it.
SELECT provolatile, proparallel FROM pg_proc WHERE oid = 'preview_screenshot_task'::regproc;

DROP VIEW previewed;
DROP FUNCTION body, tc3_sign;
DROP SERVER preview CASCADE;
