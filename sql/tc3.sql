--
-- Signatures, against the vendor's examples and some that were computed
-- independently
--
CREATE FUNCTION tc3_sign(method text, query text, content_type text, host text,
						 action text, service text, body text, signed_at bigint,
						 secret_id text, secret_key text,
						 OUT canonical_hash text, OUT signature text)
	AS '$libdir/screenshot_task', 'screenshot_task_tc3' LANGUAGE C;

CREATE TABLE vector (
	name text, method text, query text, content_type text, host text, action text,
	service text, body text, signed_at bigint, secret_key text,
	canonical_hash text, signature text);
INSERT INTO vector VALUES
	('A', 'POST', '', 'application/json; charset=utf-8', 'cvm.tencentcloudapi.com', NULL, 'cvm',
	 '{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}',
	 1551113065, 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE',
	 '5ffe6a04c0664d6b969fab9a13bdab201d63ee709638e2749d62a09ca18d7031',
	 '72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168'),
	('B', 'POST', '', 'application/json; charset=utf-8', 'cvm.tencentcloudapi.com', 'DescribeInstances', 'cvm',
	 '{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}',
	 1551113065, repeat('*', 32),
	 '7019a55be8395899b900fb5564e4200d984910f34794a27cb3fb7d10ff6a1e84',
	 '10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f'),
	('D', 'GET', 'Limit=10&Offset=0', 'application/x-www-form-urlencoded', 'cvm.tencentcloudapi.com', NULL, 'cvm',
	 NULL, 1539084154, 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE',
	 '91c9c192c14460df6c1ffc69e34e6c5e90708de2a6d282cccf957dbf1aa7f3a7',
	 '5da7a33f6993f0614b047e5df4582db9e9bf4672ba50567dba16c6ccf174c474'),
	('live', 'POST', '', 'application/json', 'live.tencentcloudapi.com', NULL, 'live',
	 '{"AppName":"live","DomainName":"5000.live.push.com","StreamName":"livetest","StartTime":1589889600,"EndTime":1589904000,"TemplateId":0}',
	 1551113065, 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE',
	 'e1a0617faf2b5d32cbf7150087c85d473e0be2ca87b6b58b77be6274b049c851',
	 'cd2191105881730325c025d06de9e8410f531b505da80c2a231ffaa2d00c1ecd'),
	('live, action signed', 'POST', '', 'application/json; charset=utf-8', 'live.tencentcloudapi.com', 'CreateScreenshotTask', 'live',
	 '{"AppName":"live","DomainName":"5000.live.push.com","StreamName":"livetest","StartTime":1589889600,"EndTime":1589904000,"TemplateId":0}',
	 1551113065, 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE',
	 '18cf755d315c6393d6a8c62d27921ba72a6f48e46652b7fd28406364f8c2b237',
	 '277e145fabfe5cf9e0d16c7b740ae995c2d27df4dec120427a8876b8903afe18');
SELECT name, s.canonical_hash = v.canonical_hash AS hash_right, s.signature = v.signature AS signature_right
FROM vector AS v,
	tc3_sign(method, query, content_type, host, action, service, body, signed_at, 'AKIDEXAMPLE', secret_key) AS s;

-- The key of a day and a key pair is kept: a change of either makes another,
-- and the way back the old one.  (The id has no part in a signature.)
SELECT n, v.signed_at, left(s.signature, 16) AS signature
FROM (VALUES
	(1, 1551113065, 'AKIDEXAMPLE', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE'),
	(2, 1551113066, 'AKIDEXAMPLE', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE'),
	(3, 1551199465, 'AKIDEXAMPLE', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE'), -- a day later
	(4, 1551113065, 'AKIDEXAMPLE', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE'), -- as 1
	(5, 1551139199, 'AKIDEXAMPLE', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE'), -- 23:59:59 UTC
	(6, 1551139200, 'AKIDEXAMPLE', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE'),
	(7, 1551113065, 'AKIDEXAMPLE', 'another'),
	(8, 1551113065, 'AKIDEXAMPL', 'Eanother'),
	(9, 1551113065, 'another', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE'), -- as 1
	(10, 1551113065, 'AKIDEXAMPLE', 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE')) AS v (n, signed_at, secret_id, secret_key),
	vector AS a,
	tc3_sign(method, query, content_type, host, action, service, body, v.signed_at, secret_id, v.secret_key) AS s
WHERE name = 'A' ORDER BY n;

-- Header values are signed trimmed and in lower case, a GET without its body.
SELECT s.signature = v.signature AS same
FROM vector AS v,
	tc3_sign(method, query, ' Application/JSON; charset=UTF-8	', 'CVM.TencentCloudAPI.com ', action, service, body, signed_at, 'id', secret_key) AS s
WHERE name = 'A';
SELECT s.signature = v.signature AS same
FROM vector AS v,
	tc3_sign(method, query, content_type, host, action, service, 'a body', signed_at, 'id', secret_key) AS s
WHERE name = 'D';

-- What cannot be signed is refused, in words that hold no secret.
SELECT what, outcome(format('SELECT tc3_sign(%L, %L, %L, %L, %L, %L, %L, %L, %L, %L)',
							'POST', query, type, host, action, service, '{}', signed_at, id, key))
FROM (VALUES
	('as long as may be', repeat('h', 319), repeat('t', 127), repeat('a', 127), repeat('q', 511), 'live', 253402300799, repeat('i', 511), repeat('k', 511)),
	('no id', 'host', 'type', 'action', '', 'live', 0, '', 'key'),
	('no key', 'host', 'type', 'action', '', 'live', 0, 'id', ''),
	('long id', 'host', 'type', 'action', '', 'live', 0, repeat('i', 512), 'key'),
	('long key', 'host', 'type', 'action', '', 'live', 0, 'id', repeat('k', 512)),
	('long host', repeat('h', 320), 'type', 'action', '', 'live', 0, 'id', 'key'),
	('long type', 'host', repeat('t', 128), 'action', '', 'live', 0, 'id', 'key'),
	('long action', 'host', 'type', repeat('a', 128), '', 'live', 0, 'id', 'key'),
	('long query', 'host', 'type', 'action', repeat('q', 512), 'live', 0, 'id', 'key'),
	('long service', 'host', 'type', 'action', '', repeat('s', 1000), 0, 'id', 'key'),
	('year 10000', 'host', 'type', 'action', '', 'live', 253402300800, 'id', 'key'),
	('beyond all years', 'host', 'type', 'action', '', 'live', 9223372036854775807, 'id', 'key'))
	AS wrong (what, host, type, action, query, service, signed_at, id, key);

DROP FUNCTION tc3_sign;
DROP TABLE vector;
