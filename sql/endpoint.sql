--
-- Attacks: to have requests, or what is in them, go where they should not
--
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
CREATE SERVER own FOREIGN DATA WRAPPER tencent_cloud OPTIONS (endpoint 'https://127.0.0.1:1', region 'r',
	language 'en-US', requests_per_second '1', connect_timeout '1s', request_timeout '1s', proxy 'http://127.0.0.1:1',
	max_in_flight '1', in_doubt 'hold', credentials 'user_mapping', ca_file '/etc/passwd');
CREATE USER MAPPING FOR regress_screenshot_app SERVER own OPTIONS (secret_id 'i', secret_key 'k', token 't');

-- What could end a line, or a text, or begin another, has no place in any
-- option, whether it is set at first or changed, even for superusers.
CREATE FUNCTION pg_temp.spoiled(value text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format(form, value) FROM unnest(ARRAY[
		E'%s\r\nX-Forged: 1', E'%s\n', E'%s\r', E'\n%s', E'%s\tx', E'%s x', E'%s\x01', E'%s\x7f', '%sé', '%s直播', E'%s\u2028x', E'%s\u0085']) AS form
$$;
SELECT option, attacks, refused FROM (
	SELECT option, count(*) AS attacks,
		   count(*) FILTER (WHERE outcome(format('ALTER SERVER own OPTIONS (SET %s %L)', option, spoiled)) LIKE '22023 invalid value for option "' || option || '"%'
							AND outcome(format('CREATE SERVER other FOREIGN DATA WRAPPER tencent_cloud OPTIONS (%s %L)', option, spoiled))
								LIKE '22023 invalid value for option "' || option || '"%') AS refused
	FROM (VALUES ('endpoint', 'https://127.0.0.1:1'), ('endpoint', 'https://live'), ('region', 'r'), ('language', 'en-US'), ('requests_per_second', '1'),
		  ('proxy', 'http://127.0.0.1:1'), ('max_in_flight', '1'), ('in_doubt', 'hold'), ('credentials', 'user_mapping')) AS v (option, value),
		pg_temp.spoiled(value)
	GROUP BY option) AS o ORDER BY option COLLATE "C";
SELECT option, count(*), count(*) FILTER (WHERE outcome(format('ALTER USER MAPPING FOR regress_screenshot_app SERVER own OPTIONS (SET %s %L)', option, spoiled))
										  LIKE '22023 invalid value for option "' || option || '"%')
FROM unnest(ARRAY['secret_id', 'secret_key', 'token']) AS option, pg_temp.spoiled('x') GROUP BY option ORDER BY option COLLATE "C";

-- Other protocols, other ways to write a host, and credentials in URLs: what is
-- accepted is this machine, in a notation that libcurl reads as 127.0.0.1.
SELECT left(outcome(format('ALTER SERVER own OPTIONS (%s SET %s %L)', CASE option WHEN 'endpoint' THEN 'DROP proxy,' END, option, url)), 5), option, url
FROM (VALUES ('endpoint', ARRAY['ftp://127.0.0.1', 'file:///etc/passwd', 'file://localhost', 'gopher://127.0.0.1', 'ldap://127.0.0.1', 'ws://127.0.0.1',
								'scp://127.0.0.1', 'javascript:1', 'unix:/tmp/s', '//127.0.0.1', 'https:127.0.0.1',
								'https://u@127.0.0.1', 'https://u:p@127.0.0.1', 'https://:@127.0.0.1', 'https://127.0.0.1\@evil', 'https://127.0.0.1/@evil',
								'https://127.0.0.1?x', 'https://127.0.0.1#x', 'https://127.0.0.1/%0d%0aX-Forged:1', 'https://127.0.0.1%0d%0aX-Forged:1',
								'https://a%00b', 'https://a,b', 'https://a;b', 'https://a"b', 'https://127.0.0.1:65536',
								'https://[::1', 'http://127.0.0.1@evil', 'http://127.0.0.1.evil', 'http://0.0.0.0',
								'http://localhost.', 'http://LOCALHOST', 'http://169.254.169.254', 'http://[::ffff:10.0.0.1]', 'http://127.1',
								'http://2130706433', 'http://0x7f.1']),
			 ('proxy', ARRAY['socks5://127.0.0.1:1', 'socks5h://127.0.0.1:1', 'ftp://127.0.0.1:1', 'http://u:p@127.0.0.1:1', 'https://u@127.0.0.1:1'])) AS v (option, urls),
	unnest(urls) AS url
ORDER BY option, url COLLATE "C";

-- A pipe or a device that never ends is no file of certificates.
SELECT outcome(format('ALTER SERVER own OPTIONS (SET ca_file %L)', file)) FROM unnest(ARRAY['/dev/zero', '/dev/stdin', '/proc/self/fd', '/', '../x', '~/x']) AS file;

\pset format aligned
\pset tuples_only off
DROP SERVER own CASCADE;
