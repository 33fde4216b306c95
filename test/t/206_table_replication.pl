# A subscriber of a table that has the trigger: requests are made and sent there, by the trigger and by enqueue, and an
# UPDATE that one of its triggers makes wakes the worker.  What comes by replication of the request table is held.  And
# ids go up by one, for every role.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', wal_level => 'logical', max_wal_senders => 4, max_replication_slots => 4, max_logical_replication_workers => 4);

$node->add_server('tencent_live', $api, requests_per_second => 200);
$node->safe_psql('postgres', q{
	CREATE DATABASE source;
	CREATE TABLE event (stream text PRIMARY KEY, change text);
	CREATE TRIGGER screenshots AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('stream_name=stream',
		'domain_name:=5000.live.push.com', 'app_name:=live', 'template_id:=20001', 'start_time:=2999-07-10 12:00Z', 'end_time:=2999-07-10 13:00Z', 'reference=stream');
	ALTER TABLE event ENABLE ALWAYS TRIGGER screenshots;
	CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN
		UPDATE screenshot_task_request SET start_time = now(), end_time = now() + interval '1 h', next_attempt_at = NULL
			WHERE reference = NEW.stream AND NEW.change = 'now';
		PERFORM enqueue_screenshot_task(NEW.stream || ' enqueued', '5000.live.push.com', 'live', now() + interval '1 h', 1) WHERE NEW.change = 'enqueue';
		RETURN NULL;
	END $$;
	CREATE TRIGGER change AFTER UPDATE ON event FOR EACH ROW EXECUTE FUNCTION change();
	ALTER TABLE event ENABLE ALWAYS TRIGGER change});
$node->safe_psql('source', q{
	CREATE EXTENSION screenshot_task;
	CREATE TABLE event (stream text PRIMARY KEY, change text);
	CREATE PUBLICATION p FOR TABLE event, screenshot_task_request;
	INSERT INTO event VALUES ('copied')});
$node->add_server('tencent_live', $api, dbname => 'source', requests_per_second => 200);
$node->safe_psql('source', q{SELECT pg_create_logical_replication_slot('s', 'pgoutput')});
$node->safe_psql('postgres', 'CREATE SUBSCRIPTION s CONNECTION ' . literal($node->connstr('source')) . ' PUBLICATION p WITH (create_slot = false)');

# The trigger, for what is copied at first and for what comes later; and no sweep that would find what nobody woke for
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM screenshot_task_request WHERE stream_name = 'copied'}), 'a row that is copied makes a request');
$node->safe_psql('source', q{INSERT INTO event VALUES ('applied'), ('other')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM screenshot_task_request WHERE stream_name IN ('applied', 'other')}), 'and so does one that is applied');
is($node->safe_psql('postgres', q{SELECT count(*) FROM screenshot_task_request WHERE origin <> 0 AND requested_by = 'postgres' AND role = 'postgres'::regrole AND status = 'pending' AND next_attempt_at IS NOT NULL}),
	3, 'of this database, and to be sent');

# An UPDATE by a trigger in the process that applies
is(scalar $api->ledger, 0, 'nothing is sent yet');
$node->safe_psql('source', q{UPDATE event SET change = 'now' WHERE stream <> 'other'});
ok($node->wait_for_table("status = 'created'", where => "stream_name IN ('copied', 'applied')"), 'what is changed there is sent');
$node->safe_psql('source', q{UPDATE event SET change = 'enqueue' WHERE stream = 'other'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM screenshot_task_request WHERE stream_name = 'other enqueued'}), 'what is enqueued there');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'other enqueued'"), 'is sent');

# A session of the same kind
is($node->try(q{SET session_replication_role = replica; SELECT enqueue_screenshot_task('in a session', '5000.live.push.com', 'live', now() + interval '1 h', 1)})->{error}, undef, 'a session that replicates enqueues');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'in a session'"), 'and that is sent');

# The request table itself
$node->safe_psql('source', 'ALTER SEQUENCE screenshot_task_request_id_seq RESTART 1000;' . insert_sql(stream_name => 'replicated')
	  . insert_sql(stream_name => 'replicated later', start_time => \"now() + interval '30 d'", end_time => \"now() + interval '30 d 1 h'"));
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM screenshot_task_request WHERE stream_name = 'replicated' AND status = 'created'}), 'a request of the source is replicated');
$node->safe_psql('source', q{UPDATE screenshot_task_request SET reference = 'changed', next_attempt_at = now() + interval '1 d' WHERE stream_name = 'replicated later'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM screenshot_task_request WHERE reference = 'changed' AND origin = 0}), 'and so is a change of one');
is($node->safe_psql('postgres', q{SELECT count(*) FROM screenshot_task_request WHERE stream_name LIKE 'replicated%' AND origin = 0}), 2, 'both are held');
is(scalar $api->ledger(stream_name => 'replicated'), 1, 'the source alone has sent one');
$node->safe_psql('source', q{UPDATE screenshot_task_request SET error_message = 'again' WHERE stream_name = 'replicated'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM screenshot_task_request WHERE error_message = 'again' AND origin = 0}), 'what is held stays so');
unlike($node->log_text, qr/ERROR: /, 'no process that replicates had an error');
$node->safe_psql('postgres', 'ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s');
$node->safe_psql('source', q{SELECT pg_drop_replication_slot('s')});

# Ids, by whatever way a row comes; what a role gives itself is not taken
$node->safe_psql('postgres', q{TRUNCATE screenshot_task_request RESTART IDENTITY; CREATE ROLE app LOGIN BYPASSRLS; GRANT INSERT, SELECT ON screenshot_task_request TO app; GRANT INSERT ON event TO app;
	GRANT USAGE ON FOREIGN SERVER tencent_live TO app});
my $columns = 'stream_name, domain_name, app_name, start_time, end_time, template_id';
my $values  = q{'s', 'd', 'a', '2999-07-10 12:00Z'::timestamptz, '2999-07-10 13:00Z'::timestamptz, 1};
my $result = $node->try("INSERT INTO screenshot_task_request ($columns) VALUES ($values), ($values);
	INSERT INTO screenshot_task_request ($columns) SELECT $values FROM generate_series(1, 3);
	SELECT enqueue_screenshot_task('s', 'd', 'a', '2999-07-10 13:00Z', 1, '2999-07-10 12:00Z');
	INSERT INTO event VALUES ('by the trigger');
	COPY screenshot_task_request ($columns) FROM stdin;
s\td\ta\t2999-07-10 12:00Z\t2999-07-10 13:00Z\t1
s\td\ta\t2999-07-10 12:00Z\t2999-07-10 13:00Z\t1
\\.
	DISCARD SEQUENCES;
	INSERT INTO screenshot_task_request (id, $columns) OVERRIDING SYSTEM VALUE VALUES (5000, $values);
	INSERT INTO screenshot_task_request ($columns) VALUES ($values);
	INSERT INTO screenshot_task_request (id, $columns) OVERRIDING SYSTEM VALUE VALUES (5000, $values)", user => 'app');
is($result->{error}, undef, 'a role inserts in every way') or diag explain $result->{error};
is($node->safe_psql('postgres', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM screenshot_task_request}), '1 2 3 4 5 6 7 8 9 10 11 12', 'ids go up by one');

is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
