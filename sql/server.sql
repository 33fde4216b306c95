--
-- Options of servers and user mappings: what is good, what is not, and what
-- is said of it
--
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '

CREATE FUNCTION try_server(option text, value text) RETURNS text LANGUAGE sql AS $$
	SELECT outcome(format('CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (%I %L)',
						  option, value))
$$;
CREATE FUNCTION try_mapping(option text, value text) RETURNS text LANGUAGE sql AS $$
	SELECT outcome(format('CREATE USER MAPPING FOR CURRENT_USER SERVER tencent_live OPTIONS (%s)',
						  string_agg(format('%I %L', name, v), ', ')))
	FROM (VALUES (option, value), ('secret_id', 'i'), ('secret_key', 'k')) AS given (name, v)
	WHERE (name, v) = (option, value) OR name <> option
$$;

-- what is good
SELECT option, value, try_server(option, value) FROM (VALUES
	('endpoint', 'https://live.tencentcloudapi.com'),
	('endpoint', 'https://live.ap-guangzhou.tencentcloudapi.com/'),
	('endpoint', 'https://live.intl.tencentcloudapi.com:443'),
	('endpoint', 'HTTPS://192.0.2.1:8443'), ('endpoint', 'https://[2001:db8::1]'),
	('endpoint', 'http://localhost:8080'), ('endpoint', 'http://127.0.0.1'), ('endpoint', 'http://[::1]:8080'),
	('enabled', 'false'), ('enabled', 'on'), ('region', 'ap-guangzhou'), ('language', 'en-US'), ('language', 'zh-CN'),
	('requests_per_second', '1'), ('requests_per_second', '100000'), ('requests_per_second', '08'),
	('max_in_flight', '1'), ('max_in_flight', '125'),
	('connect_timeout', '1ms'), ('connect_timeout', '500'), ('connect_timeout', '5 s'),
	('connect_timeout', '60s'), ('request_timeout', '1.5s'), ('request_timeout', '2min'), ('request_timeout', '5min'),
	('ca_file', '/etc/ssl/certs/ca-certificates.crt'), ('proxy', 'http://192.0.2.1:3128'),
	('in_doubt', 'reconcile'), ('in_doubt', 'hold'), ('in_doubt', 'resend'),
	('fallback_endpoint', 'https://live.tencentcloudapi.com.cn'),
	('check_template', 'off'), ('check_template', 'warn'), ('check_template', 'refuse'),
	('credentials', 'user_mapping'), ('credentials', 'environment'), ('credentials', 'file'), ('credentials', 'role'), ('credentials', 'tke'),
	('role_arn', 'qcs::cam::uin/100000000001:roleName/screenshots'), ('role_session_name', 'a=b,c.d@e-f_1'), ('role_session_name', repeat('x', 128)),
	('role_duration', '10min'), ('role_duration', '12h'), ('role_duration', '601s'),
	('sts_endpoint', 'https://sts.tencentcloudapi.com'), ('sts_endpoint', 'http://127.0.0.1:1'),
	('metadata_endpoint', 'http://metadata.tencentyun.com'), ('metadata_endpoint', 'https://192.0.2.1:8443')) AS good (option, value);
SELECT option, left(value, 20), try_mapping(option, value) FROM (VALUES
	('secret_id', 'AKIDEXAMPLE'), ('secret_id', repeat('i', 255)),
	('secret_key', 'a/key,with"all'), ('secret_key', repeat('k', 255)),
	('token', 'a-token_of.~+/=:%'), ('token', repeat('t', 8192))) AS good (option, value);

-- what is not: the values, and what is said of them all, less the value
SELECT option, string_agg(to_json(left(value, 45))::text, ' ' ORDER BY i), E'\n    ' || said
FROM (VALUES
	(1, 'endpoint', ARRAY['', 'live.tencentcloudapi.com', 'https://', 'https://live.tencentcloudapi.com:99999',
						  'https://two words', E'https://a.com\r\nX-Forged: 1', E'https://a.com\n']),
	(2, 'endpoint', ARRAY['https://user@live.tencentcloudapi.com']),
	(3, 'endpoint', ARRAY['https://live.tencentcloudapi.com/path']),
	(4, 'endpoint', ARRAY['https://live.tencentcloudapi.com/?query', 'https://live.tencentcloudapi.com#fragment']),
	(5, 'endpoint', ARRAY['https://' || repeat('a', 300) || '.com']),
	(6, 'endpoint', ARRAY['http://live.tencentcloudapi.com', 'http://10.0.0.1', 'http://127.0.0.1.a.com',
						  'http://localhost.a.com', 'ftp://localhost']),
	(28, 'enabled', ARRAY['', 'yes please', '2']),
	(7, 'region', ARRAY['', 'AP-Guangzhou', repeat('r', 64), E'ap\r\nX-Forged: 1']),
	(8, 'language', ARRAY['', 'en-us', 'de-DE']),
	(9, 'requests_per_second', ARRAY['', '0', '-1', '100001', '20s', 'many', '99999999999']),
	(10, 'max_in_flight', ARRAY['0', '126']),
	(11, 'connect_timeout', ARRAY['', '0', '-1s', '1us', '60001ms', '1h', '1d', '5 parsecs', 'soon', '99999999999']),
	(12, 'request_timeout', ARRAY['5s' || repeat(' ', 8191), '0s', '300001ms', '6min', '1h']),
	(13, 'ca_file', ARRAY['/' || repeat('x', 1023), '', 'ca.crt', '/dev/zero', '/etc']),
	(14, 'proxy', ARRAY['', '192.0.2.1:3128']),
	(15, 'proxy', ARRAY['ftp://192.0.2.1:3128']),
	(16, 'proxy', ARRAY['http://192.0.2.1/path']),
	(17, 'in_doubt', ARRAY['', 'guess']),
	(18, 'credentials', ARRAY['', 'none']),
	(19, 'metadata_endpoint', ARRAY['', 'metadata.tencentyun.com', E'http://a.com\r\nX-Forged: 1']),
	(20, 'metadata_endpoint', ARRAY['http://a.com/latest/meta-data']),
	(21, 'metadata_endpoint', ARRAY['ftp://a.com']),
	(22, 'role_arn', ARRAY['', 'screenshots', 'qcs::cam::' || repeat('x', 246), E'qcs::cam::a\r\nX', 'qcs::cam::two words']),
	(23, 'role_session_name', ARRAY['', 'x', repeat('x', 129), 'two words', 'a/b']),
	(24, 'role_duration', ARRAY['', '0', '599s', '12h 1s', '43201s', '600500ms', 'long']),
	(27, 'check_template', ARRAY['', 'on', 'Warn']), (29, 'fallback_endpoint', ARRAY['', 'http://192.0.2.1']),
	(25, 'sts_endpoint', ARRAY['sts.tencentcloudapi.com', 'https://a.com/path']), (26, 'sts_endpoint', ARRAY['http://192.0.2.1'])) AS bad (n, option, bad_values),
	unnest(bad_values) WITH ORDINALITY AS v (value, i),
	regexp_replace(try_server(option, value), ': "[^"]*"', '') AS said
GROUP BY n, option, said ORDER BY n, min(i);
SELECT option, string_agg(to_json(left(value, 20))::text, ' ' ORDER BY i), E'\n    ' || said
FROM (VALUES
	(1, 'secret_id', ARRAY['', 'two words', 'a/b', 'a,b', E'a\r\nX-Forged: 1', repeat('i', 256)]),
	(2, 'secret_key', ARRAY['', 'two words', E'a\r\nX-Forged: 1', repeat('k', 256)]),
	(3, 'token', ARRAY['', 'two words', E'a\r\nX-Forged: 1', repeat('t', 8193)]),
	(4, 'secret_id', ARRAY['"AKIDEXAMPLE"', '''AKIDEXAMPLE''']), (4, 'secret_key', ARRAY['"k"', '""']), (4, 'token', ARRAY['"t"'])) AS bad (n, option, bad_values),
	unnest(bad_values) WITH ORDINALITY AS v (value, i),
	regexp_replace(try_mapping(option, value), ': "[^"]*"', '') AS said
GROUP BY n, option, said ORDER BY n, min(i);
\pset tuples_only off
\pset format aligned

-- an error shows the value, unless there is, or may be, a secret in it
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (region 'Guangzhou');
ALTER USER MAPPING FOR PUBLIC SERVER tencent_live OPTIONS (SET secret_key 'two words');
SELECT count(*) AS errors, count(*) FILTER (WHERE strpos(said, 'hunter2') > 0) AS that_show_a_secret
FROM unnest(ARRAY[
	try_mapping('secret_key', 'hunter2 hunter2'), try_mapping('token', 'hunter2"'),
	try_mapping('secretkey', 'hunter2'), try_mapping('secret_id', 'AKIDEXAMPLE,hunter2'), try_server('secret_key', 'hunter2'),
	try_server('endpoint', 'https://user:hunter2@live.tencentcloudapi.com'),
	try_server('proxy', 'http://user:hunter2@192.0.2.1:3128')]) AS said;

-- what has no TLS does not leave this machine by a proxy
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (endpoint 'http://127.0.0.1:1', proxy 'http://192.0.2.1:3128');

CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (sts_endpoint 'http://127.0.0.1:1', proxy 'http://192.0.2.1:3128');

-- options that there are not, and objects that have none
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (secret_id 'AKIDEXAMPLE');
CREATE USER MAPPING FOR CURRENT_USER SERVER tencent_live OPTIONS (endpoint 'https://live.tencentcloudapi.com');
ALTER FOREIGN DATA WRAPPER tencent_cloud OPTIONS (ADD region 'ap-guangzhou');
CREATE FOREIGN TABLE t (a int) SERVER tencent_live OPTIONS (region 'ap-guangzhou');
CREATE FOREIGN TABLE t (a int) SERVER tencent_live OPTIONS (table_name 't');

-- options that are misspelt: the nearest one, if any is near
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (requests_per_seconds '5');
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (endpiont 'https://live.tencentcloudapi.com');
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (timeout '5s');
CREATE USER MAPPING FOR CURRENT_USER SERVER tencent_live OPTIONS (secretkey 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER tencent_live OPTIONS ("Token" 't');
CREATE USER MAPPING FOR CURRENT_USER SERVER tencent_live OPTIONS (id 'i');

-- a user mapping has an id and a key from the first on, and keeps them
CREATE USER MAPPING FOR CURRENT_USER SERVER tencent_live;
\echo :SQLSTATE
CREATE USER MAPPING FOR CURRENT_USER SERVER tencent_live OPTIONS (secret_id 'AKIDEXAMPLE');
CREATE USER MAPPING FOR CURRENT_USER SERVER tencent_live OPTIONS (secret_key 'k', token 't');
ALTER USER MAPPING FOR PUBLIC SERVER tencent_live OPTIONS (DROP secret_key);
BEGIN;
ALTER USER MAPPING FOR PUBLIC SERVER tencent_live OPTIONS (ADD token 't');
ALTER USER MAPPING FOR PUBLIC SERVER tencent_live OPTIONS (SET secret_key 'k', DROP token);
ROLLBACK;

-- a file that cannot be read may come to be there
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (ca_file '/nonexistent/ca.pem');
ALTER SERVER s OPTIONS (SET ca_file '/etc/ssl/certs/ca-certificates.crt');
DROP SERVER s;

-- A role that may create servers reaches the vendor from there, and nobody else.
GRANT USAGE ON FOREIGN DATA WRAPPER tencent_cloud TO regress_screenshot_app;
CREATE SERVER lends FOREIGN DATA WRAPPER tencent_cloud OPTIONS (endpoint 'https://127.0.0.1:1', credentials 'environment');
CREATE SERVER given FOREIGN DATA WRAPPER tencent_cloud;
CREATE USER MAPPING FOR regress_screenshot_app SERVER given OPTIONS (secret_id 'i', secret_key 'k');
ALTER SERVER lends OWNER TO regress_screenshot_app;
ALTER SERVER given OWNER TO regress_screenshot_app;
SET ROLE regress_screenshot_app;
\pset format unaligned
\pset tuples_only on
SELECT option, value, left(try_server(option, value), 5) FROM (VALUES
	('endpoint', 'https://live.tencentcloudapi.com'), ('endpoint', 'https://tencentcloudapi.com/'), ('endpoint', 'https://Live.Intl.TencentCloudAPI.com:443'),
	('endpoint', 'https://live.tencentcloudapi.com.cn'), ('endpoint', 'https://live.ap-guangzhou.tencentcloudapi.cn'),
	('endpoint', 'https://live.tencentcloudapi.com:8443'), ('endpoint', 'https://live.tencentcloudapi.com:80'), ('endpoint', 'https://live.tencentcloudapi.com.'),
	('endpoint', 'https://.tencentcloudapi.com'), ('endpoint', 'https://live..tencentcloudapi.com'), ('endpoint', 'https://..tencentcloudapi.com.cn'),
	('endpoint', 'https://livetencentcloudapi.com'), ('endpoint', 'https://tencentcloudapi.com.evil.com'), ('endpoint', 'https://tencentcloudapi.com.cn.com'),
	('endpoint', 'https://cn'), ('endpoint', 'https://127.0.0.1'), ('endpoint', 'http://127.0.0.1'), ('endpoint', 'http://localhost'), ('endpoint', 'https://metadata.tencentyun.com'),
	('proxy', 'http://192.0.2.1:3128'), ('ca_file', '/etc/ssl/certs/ca-certificates.crt'), ('ca_file', '/none'), ('ca_file', '/etc'), ('metadata_endpoint', 'http://metadata.tencentyun.com'),
	('credentials', 'user_mapping'), ('credentials', 'environment'), ('credentials', 'file'), ('credentials', 'role'), ('credentials', 'tke'),
	('sts_endpoint', 'https://sts.intl.tencentcloudapi.com'), ('sts_endpoint', 'https://192.0.2.1'), ('role_arn', 'qcs::cam::uin/1:roleName/r'),
	('requests_per_second', '5'), ('in_doubt', 'hold'), ('request_timeout', '5s')) AS v (option, value);
\pset tuples_only off
\pset format aligned
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (endpoint 'https://192.0.2.1');
CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (metadata_endpoint 'http://127.0.0.1:1');
-- all options of a server that has one of them
ALTER SERVER given OPTIONS (ADD region 'ap-guangzhou', ADD proxy 'http://192.0.2.1:3128');
ALTER SERVER given OPTIONS (ADD region 'ap-guangzhou');
ALTER SERVER lends OPTIONS (SET endpoint 'https://live.tencentcloudapi.com');
ALTER SERVER lends OPTIONS (SET credentials 'user_mapping');

-- And once a server has one, its owner must be a superuser when it is used.
PREPARE call AS SELECT create_screenshot_task('livetest', '5000.live.push.com', 'live', now() + '1 hour', 20001, server => 'lends');
EXECUTE call;
\echo :SQLSTATE
RESET ROLE;
EXECUTE call;
SELECT outcome(format('ALTER SERVER given OPTIONS (ADD %s); %s', option,
			   $$SELECT preview_screenshot_task('livetest', '5000.live.push.com', 'live', now() + '1 hour', 20001, server => 'given')$$))
FROM unnest(ARRAY[$$endpoint 'https://192.0.2.1'$$, $$endpoint 'https://live.tencentcloudapi.com:8443'$$, $$proxy 'http://192.0.2.1:3128'$$,
				  $$ca_file '/etc/ssl/certs/ca-certificates.crt'$$, $$metadata_endpoint 'http://192.0.2.1'$$, $$credentials 'role'$$, $$credentials 'tke'$$, $$sts_endpoint 'https://192.0.2.1'$$,
				  $$fallback_endpoint 'https://192.0.2.1'$$]) AS option;
SET ROLE regress_screenshot_app;
ALTER SERVER lends OPTIONS (DROP credentials, SET endpoint 'https://live.tencentcloudapi.com');
EXECUTE call;
RESET ROLE;
DEALLOCATE call;
DROP SERVER lends;
DROP SERVER given CASCADE;
REVOKE USAGE ON FOREIGN DATA WRAPPER tencent_cloud FROM regress_screenshot_app;

DROP FUNCTION try_server, try_mapping;
