--
-- Templates: what is checked before anything is sent.  No server has the name
-- "nowhere", which is looked at after that.
--
CREATE FUNCTION pg_temp.creation(given text) RETURNS text LANGUAGE sql AS $$
	SELECT outcome('SELECT create_screenshot_template(' || concat_ws(', ', string_agg(name || ' => ' || value, ', '), nullif(given, '')) || ')')
	FROM (VALUES ('name', $q$'a_name-1'$q$),
				 ('cos_app_id', '1250000000'),
				 ('cos_bucket', $q$'pictures'$q$),
				 ('cos_region', $q$'ap-guangzhou'$q$),
				 ('server', $q$'nowhere'$q$)) AS good (name, value)
	WHERE given !~ ('(^| )' || name || ' =>')
$$;

-- These are good.
SELECT given, pg_temp.creation(given) FROM unnest(ARRAY[
	'', $$name => repeat('x', 255)$$, $$name => 'Größe_截图'$$, 'snapshot_interval => 2', 'snapshot_interval => 300', 'width => 3000, height => 2000, porn_flag => 1',
	$$cos_bucket => 'a-1250000001'$$, $$cos_bucket => '1250000000'$$, $$cos_prefix => '/{Year}', cos_file_name => '{StreamID}{Ext}', description => repeat('x', 1024)$$])
	WITH ORDINALITY AS good (given, number) ORDER BY number;

-- These are not.
SELECT given, pg_temp.creation(given) FROM unnest(ARRAY[
	'name => NULL', $$name => ''$$, $$name => repeat('x', 256)$$, $$name => repeat('截', 86)$$, $$name => 'a name'$$, $$name => 'a"b'$$,
	'cos_app_id => NULL', 'cos_app_id => 0', 'cos_app_id => -1',
	'cos_bucket => NULL', $$cos_bucket => ''$$, $$cos_bucket => 'pictures-1250000000'$$, $$cos_bucket => 'Pictures'$$, $$cos_bucket => '-a'$$, $$cos_bucket => 'a-'$$,
	$$cos_bucket => 'https://pictures.example.com'$$, $$cos_bucket => repeat('x', 61)$$,
	'cos_region => NULL', $$cos_region => ''$$, $$cos_region => 'Guangzhou'$$, $$cos_region => repeat('x', 64)$$,
	'snapshot_interval => NULL', 'snapshot_interval => 1', 'snapshot_interval => 301', 'snapshot_interval => -2147483648',
	'width => NULL', 'width => -1', 'width => 3001', 'height => NULL', 'height => -1', 'height => 2001',
	'porn_flag => NULL', 'porn_flag => 2', 'porn_flag => -1',
	$$cos_prefix => ''$$, $$cos_prefix => repeat('x', 1025)$$, $$cos_file_name => ''$$, $$cos_file_name => repeat('x', 1025)$$,
	$$description => ''$$, $$description => repeat('x', 1025)$$, $$description => 'of 10 seconds'$$, 'server => NULL'])
	WITH ORDINALITY AS bad (given, number) ORDER BY number;

SELECT id, outcome(format('SELECT delete_screenshot_template(%s, %L)', id, 'nowhere')) FROM unnest(ARRAY['NULL', '0', '-1', '20001']) AS id;
SELECT outcome('SELECT delete_screenshot_template(20001, NULL)'), outcome('SELECT describe_screenshot_templates(NULL)'),
	outcome($$SELECT describe_screenshot_templates('nowhere')$$);
