# What may happen to the database while requests fly: locks, truncation, deletion, triggers that raise errors,
# dropped objects, hostile settings.  The worker neither dies nor spins, and forgets no result that it has.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant CONNECTIONS => 20;

my $api  = LiveApi->new('--limit', 200);
my $node = ScreenshotTaskTest->start_new('main', max_connections => CONNECTIONS, 'screenshot_task.reconcile_grace' => '100ms',
	'screenshot_task.reconcile_spacing' => '300ms');
my @server = (requests_per_second => 200, request_timeout => '20s');

$node->add_server('tencent_live', $api, @server);
$node->safe_psql('postgres', insert_sql(stream_name => 'the first'));
ok($node->wait_for_table("status = 'created'"), 'the server is heard of');
my $worker = $node->worker_pid;

# The table is locked by somebody while answers come
fly('locked', 10);
my $lock = $node->begin('BEGIN; LOCK TABLE screenshot_task_request IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT');
ok(!$lock->end->{error}, 'the table is locked for three seconds');
ends_well('locked', 10);

# VACUUM FULL while requests fly, and a foreign key on the table
fly('vacuumed', 10);
$node->safe_psql('postgres', 'VACUUM FULL screenshot_task_request; REINDEX TABLE screenshot_task_request;'
	  . 'CREATE TABLE note (request_id bigint REFERENCES screenshot_task_request); INSERT INTO note SELECT id FROM screenshot_task_request');
ends_well('vacuumed', 10);
fails_with("DELETE FROM screenshot_task_request WHERE stream_name = 'vacuumed 1'", '23503');
$node->safe_psql('postgres', 'DROP TABLE note');

# A row is deleted, or the table truncated, in flight: the task exists, and its TaskId goes to the log.
my @gone = fly_until_told('deleted', 5);
$node->safe_psql('postgres', "DELETE FROM screenshot_task_request WHERE stream_name IN ('deleted 1', 'deleted 2')");
$api->go_on;
ends_well('deleted', 3, 3 .. 5);
is_logged($_) for @gone[0, 1];

# A row of a dump takes the place of one in flight: it is another request's, and held.  So is one that says that it was sent once more.
@gone = fly_until_told('replaced', 4);
$node->safe_psql('postgres', q{
	BEGIN;
	CREATE TEMP TABLE copy ON COMMIT DROP AS SELECT * FROM screenshot_task_request WHERE stream_name ~ '^replaced [123]';
	DELETE FROM screenshot_task_request WHERE stream_name ~ '^replaced [123]';
	INSERT INTO screenshot_task_request (id, stream_name, domain_name, app_name, end_time, template_id, start_time, requested_by, requested_at, status, attempts, stamp)
		OVERRIDING SYSTEM VALUE
		SELECT id, replace(stream_name, 'replaced', 'restored'), domain_name, app_name, end_time, template_id, start_time, requested_by, requested_at,
			'sending', attempts + (stream_name = 'replaced 2')::int, 815 FROM copy;
	UPDATE screenshot_task_request SET attempts = attempts + 1 WHERE stream_name = 'replaced 4';
	COMMIT});
$api->go_on;
is_logged($_) for @gone;
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name LIKE 'restored %' AND status = 'sending' AND task_id IS NULL AND origin = 0"),
	3, 'what was restored is as it was');
@gone = fly_until_told('truncated', 3);
$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
$api->go_on;
is_logged($_) for @gone;
# The same, and others get the ids of those in flight; their answers come together, or one after the other.
for my $anew ('anew together', 'anew in turn')
{
	@gone = fly_until_told("before $anew", 6);
	$node->safe_psql('postgres', "TRUNCATE screenshot_task_request; SELECT setval('screenshot_task_request_id_seq', $gone[0]{id}, false)");
	$node->safe_psql('postgres', insert_sql(stream_name => \"'$anew ' || i", rows => 6));
	ok($node->wait_for_table("status = 'sending' AND attempts = 1"), "$anew: requests are under way");
	is_deeply([ sort map { $_->{id} } $node->table ], [ sort map { $_->{id} } @gone ], "$anew: and have the ids of those that are");
	if ($anew =~ /together/)
	{
		kill 'STOP', $worker;
		$api->go_on;
		ok(wait_until(sub { (grep { $_->{stream_name} =~ /$anew/ } $api->ledger(event => 'create')) == 12 }), "$anew: all are answered");
		sleep 3;
		kill 'CONT', $worker;
	}
	else
	{
		$api->order(fault => 'delay=3', stream => "$anew *", times => 6);
		$api->go_on;
	}
	is_logged($_) for @gone;
	ends_well($anew, 6);
}
is($node->worker_pid, $worker, 'it is the same worker');

# A user's trigger raises an error for one row's result.
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.stream_name = TG_ARGV[0] AND NEW.status::text = TG_ARGV[1] THEN
			RAISE EXCEPTION 'not %', NEW.stream_name;
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION refuse('result 3', 'created')});
fly('result', 5);
ends_well('result', 4, 1, 2, 4, 5);
my $errors;
for my $round (1 .. 4)
{
	$node->safe_psql('postgres', insert_sql(stream_name => \"'after $round ' || i", rows => 5));
	ends_well("after $round", 5);
	$errors = raised('result 3') if $round == 2;
}
is(raised('result 3'), $errors, 'a result that cannot be written is set aside');
cmp_ok($errors, '<=', 5, 'after a few errors');
is($node->safe_psql('postgres', "SELECT status FROM screenshot_task_request WHERE stream_name = 'result 3'"), 'sending', 'its row is as it was');
$node->reload;
ok(wait_until(sub { raised('result 3') > $errors }), 'a reload has it tried again');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON screenshot_task_request');
$node->reload;
ends_well('result', 5);
is($node->worker_pid, $worker, 'it is the same worker');

# The server, its mapping, and a role are dropped while requests fly.
$node->safe_psql('postgres', 'CREATE ROLE app; GRANT INSERT ON screenshot_task_request TO app; GRANT USAGE ON FOREIGN SERVER tencent_live TO app');
fly('role', 5, 'SET ROLE app;');
$node->safe_psql('postgres', 'DROP OWNED BY app; DROP ROLE app');
ends_well('role', 5);
fly('mapping', 5);
$node->safe_psql('postgres', 'DROP USER MAPPING FOR PUBLIC SERVER tencent_live');
ends_well('mapping', 5);
$node->safe_psql('postgres', insert_sql(stream_name => 'no mapping 1'));
ok(wait_until(sub { $node->log_text =~ /screenshot tasks of role postgres for server "tencent_live" are paused for 5 s/ }), 'without a mapping it is paused');
$node->safe_psql('postgres', 'DROP SERVER tencent_live CASCADE');
$node->add_server('tencent_live', $api, @server);
ends_well('no mapping', 1);
fly('server', 5);
$node->safe_psql('postgres', 'DROP SERVER tencent_live CASCADE');
ends_well('server', 5);
$node->add_server('tencent_live', $api, @server);
fly('server again', 5);
ends_well('server again', 5);
is($node->worker_pid, $worker, 'it is the same worker');

# All connections are taken, and the worker has to be started.
my @sessions = map { $node->begin(insert_sql(stream_name => "crowd $_") . 'SELECT pg_sleep(3)') } 1 .. CONNECTIONS + 5;
ok(wait_until(sub { $node->log_text =~ /FATAL:  (?:sorry, too many clients already|remaining connection slots are reserved)/ }), 'there is no connection to be had');
kill 'TERM', $worker;
my $refused = grep { $_->end->{error} } @sessions;
cmp_ok($refused, '>=', 5, 'some sessions were refused');
ok($node->wait_for_table("status = 'created'"), 'all that were not refused are created');
is($api->ledger(event => 'create', stream_name => $_->{stream_name}), 1, "$_->{stream_name}: once") for $node->table("stream_name LIKE 'crowd %'");
is(scalar(grep { $_->{stream_name} =~ /^crowd/ } $api->ledger), CONNECTIONS + 5 - $refused, 'and no others');

# Settings of the database that would hurt
$worker = $node->worker_pid;
$node->safe_psql('postgres', join '', map { "ALTER DATABASE postgres SET $_;" } 'default_transaction_read_only = on', 'statement_timeout = 1',
	'lock_timeout = 1', 'idle_in_transaction_session_timeout = 1', 'synchronous_commit = off', 'session_replication_role = replica',
	"default_transaction_isolation = 'serializable'", 'search_path = nowhere', 'row_security = on', "bytea_output = 'escape'", "datestyle = 'German'",
	'transform_null_equals = on', "intervalstyle = 'iso_8601'");
kill 'TERM', $worker;
ok(wait_until(sub { my ($pid) = running(); defined $pid && $pid != $worker }), 'a new worker starts with them');
{
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0'
	  . ' -c idle_in_transaction_session_timeout=0 -c session_replication_role=origin -c search_path=public -c datestyle=ISO';
	fly('settings', 5);
	$lock = $node->begin('BEGIN; LOCK TABLE screenshot_task_request IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT');
	$lock->end;
	ends_well('settings', 5);
	$node->reload;
	$api->order(fault => 'error=InternalError,create', stream => 'settings again 1', action => 'CreateScreenshotTask');
	$node->safe_psql('postgres', 'ALTER SERVER tencent_live OPTIONS (SET request_timeout \'1s\');' . insert_sql(stream_name => 'settings again 1'));
	ends_well('settings again', 1);
	$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL; ALTER SERVER tencent_live OPTIONS (SET request_timeout \'20s\');');
}

# The extension stays where it is; its table goes only with it.
fails_with('CREATE SCHEMA elsewhere; ALTER EXTENSION screenshot_task SET SCHEMA elsewhere', '0A000');
fails_with('DROP TABLE screenshot_task_request CASCADE', '2BP01');
@gone = fly_until_told('dropped', 3);
$node->safe_psql('postgres', 'DROP EXTENSION screenshot_task CASCADE');
$api->go_on;
is_logged($_) for @gone;
ok(wait_until(sub { !running() }), 'without the extension there is no worker');
recreate();
@gone = fly_until_told('table', 3);
$node->safe_psql('postgres', 'ALTER EXTENSION screenshot_task DROP TABLE screenshot_task_request; DROP TABLE screenshot_task_request CASCADE');
$api->go_on;
is_logged($_) for @gone;
ok(wait_until(sub { !running() }), 'without the table there is no worker');
$node->safe_psql('postgres', 'DROP EXTENSION IF EXISTS screenshot_task CASCADE');
recreate();
fly('the last', 3);
ends_well('the last', 3);

# The extension goes, and a result is set aside.
$node->safe_psql('postgres', q{CREATE TRIGGER refuse BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION refuse('set aside 1', 'created')});
fly('set aside', 2);
ends_well('set aside', 1, 2);
ok(wait_until(sub { raised('set aside 1') >= 2 }), 'set aside: it is');
@gone = $node->table("stream_name = 'set aside 1'");
$node->safe_psql('postgres', 'DROP EXTENSION screenshot_task CASCADE');
$node->reload;
is_logged($_) for @gone;
ok(wait_until(sub { !running() }), 'set aside: and the worker is gone');
recreate();
fly('the very last', 3);
ends_well('the very last', 3);

# Rows that a trigger keeps from being claimed, by an error or by leaving them out, are in nobody's way.
$worker = $node->worker_pid;
$node->safe_psql('postgres', q{
	CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.stream_name = TG_ARGV[0] THEN
			RETURN NULL;
		END IF;
		IF NEW.stream_name = TG_ARGV[1] AND NEW.status = 'sending' THEN
			NEW.status := 'pending';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER leave_out BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION leave_out('claim 5', 'claim 6');
	CREATE TRIGGER refuse BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION refuse('claim 3', 'sending')});
$node->safe_psql('postgres', insert_sql(stream_name => \"'claim ' || i", rows => 7));
ends_well('claim', 4, 1, 2, 4, 7);
my %reason = ('claim 3' => 'not claim 3', 'claim 5' => 'A trigger suppressed the UPDATE.', 'claim 6' => 'trigger overwrote columns set by the worker in screenshot task request '
	  . $node->safe_psql('postgres', "SELECT id FROM screenshot_task_request WHERE stream_name = 'claim 6'"));
for my $stream (sort keys %reason)
{
	my ($row) = $node->table("stream_name = '$stream'");
	my $line = qr/could not update screenshot task request $row->{id}; skipping it for a minute\n.*DETAIL:  \Q$reason{$stream}\E\n.*HINT:  Check the triggers on screenshot_task_request\./;

	ok(wait_until(sub { $node->log_text =~ $line }), "$stream: the log says why it is skipped");
	is($row->{status}, 'pending', "$stream: is pending");
}
$node->safe_psql('postgres', insert_sql(stream_name => \"'claim ' || i + 7", rows => 2));
ends_well('claim', 2, 8, 9);
is($api->requests(stream_name => $_), 0, "$_: was not sent") for sort keys %reason;
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON screenshot_task_request; DROP TRIGGER leave_out ON screenshot_task_request');
$node->reload;
ends_well('claim', 9);
is($node->worker_pid, $worker, 'it is the same worker');

# A trigger gives a request another server, or another role, as it is claimed: it goes there, once it is claimed for that.
$node->add_server('spare', $api, @server);
$node->safe_psql('postgres', q{
	CREATE ROLE mover;
	GRANT USAGE ON FOREIGN SERVER tencent_live TO mover;
	CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.status = 'sending' AND NEW.stream_name = 'moved 1' THEN
			NEW.server := 'spare';
		ELSIF NEW.status = 'sending' AND NEW.stream_name = 'moved 2' THEN
			NEW.role := 'mover'::regrole;
		ELSIF NEW.status = 'sending' AND NEW.stream_name = 'moved nowhere' THEN
			NEW.role := NULL;
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER move BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION move()});
$node->safe_psql('postgres', insert_sql(stream_name => \"'moved ' || i", rows => 3) . insert_sql(stream_name => 'moved nowhere'));
ends_well('moved', 3);
is($node->safe_psql('postgres', "SELECT string_agg(server || ' ' || requested_by, ', ' ORDER BY stream_name) FROM screenshot_task_request WHERE stream_name ~ '^moved \\d'"),
	'spare postgres, tencent_live mover, tencent_live postgres', 'where the trigger said');
ok($node->wait_for_table("status = 'pending' AND role IS NULL", where => "stream_name = 'moved nowhere'"), 'what is nobody\'s is not sent');
is($api->requests(stream_name => 'moved nowhere'), 0, 'not at all');
$node->safe_psql('postgres', "DROP TRIGGER move ON screenshot_task_request; DELETE FROM screenshot_task_request WHERE stream_name = 'moved nowhere'");
is($node->worker_pid, $worker, 'it is the same worker');

# A parameter is missing, since a constraint is.
$node->safe_psql('postgres', 'ALTER TABLE screenshot_task_request ALTER stream_name DROP NOT NULL, ALTER template_id DROP NOT NULL; BEGIN;'
	  . insert_sql(reference => 'no stream') . insert_sql(reference => 'no template')
	  . "UPDATE screenshot_task_request SET stream_name = NULL WHERE reference = 'no stream'; UPDATE screenshot_task_request SET template_id = NULL WHERE reference = 'no template'; COMMIT");
ok($node->wait_for_table("status = 'failed'", where => "reference LIKE 'no %'"), 'a request that lacks a parameter fails');
is($node->safe_psql('postgres', "SELECT DISTINCT error_message FROM screenshot_task_request WHERE reference LIKE 'no %'"),
	'a parameter that must not be null is', 'and says why');
$node->safe_psql('postgres', "DELETE FROM screenshot_task_request WHERE reference LIKE 'no %';"
	  . 'ALTER TABLE screenshot_task_request ALTER stream_name SET NOT NULL, ALTER template_id SET NOT NULL');
is($node->worker_pid, $worker, 'it is the same worker');

# A row that no trigger lets be changed: one that is woken, one that was being sent when the worker was killed, one that has expired, and one in doubt
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.stream_name ~ '^stubborn' THEN
			RAISE EXCEPTION 'not %', NEW.stream_name;
		END IF;
		RETURN NEW;
	END $$});
$api->order(fault => 'hang', stream => 'stubborn sending', action => 'CreateScreenshotTask');
$api->order(fault => 'error=InternalError,create', stream => 'stubborn in doubt', action => 'CreateScreenshotTask');
$api->order(fault => 'error=LimitExceeded.MaximumRunningTask', stream => 'stubborn waiting', action => 'CreateScreenshotTask', times => 0);
$node->set('screenshot_task.reconcile_grace' => '10s');
$node->safe_psql('postgres', "ALTER SERVER tencent_live OPTIONS (SET request_timeout '5min');" . join '', map { insert_sql(stream_name => "stubborn $_") } 'sending', 'in doubt', 'waiting');
ok(wait_until(sub { (grep { $_->{status} eq 'sending' } $node->table("stream_name = 'stubborn sending'"))
	  && (grep { $_->{status} eq 'in_doubt' } $node->table("stream_name = 'stubborn in doubt'"))
	  && (grep { defined $_->{next_attempt_at} } $node->table("stream_name = 'stubborn waiting'")) }), 'three requests are where they are to be');
$node->safe_psql('postgres', "ALTER SERVER tencent_live OPTIONS (SET request_timeout '1s');"
	  . "UPDATE screenshot_task_request SET next_attempt_at = now() WHERE status = 'in_doubt';"
	  . 'CREATE TRIGGER refuse BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION refuse_all()');
kill 'TERM', $worker;
ok(wait_until(sub { raised('stubborn sending') + $node->log_text =~ /DETAIL:  not stubborn sending/ }), 'a worker starts, and cannot change what was being sent');
$node->set('screenshot_task.reconcile_grace' => '100ms');
$node->safe_psql('postgres', insert_sql(stream_name => 'beside 1'));
ends_well('beside', 1);
ok(wait_until(sub { $node->log_text =~ /DETAIL:  not $_/ }), "$_: is skipped") for 'stubborn waiting', 'stubborn in doubt';
my $worker_now = $node->worker_pid;
my @errors = map { raised($_) } 'stubborn sending', 'stubborn waiting', 'stubborn in doubt';
$node->safe_psql('postgres', insert_sql(stream_name => \"'beside ' || i + 1", rows => 3));
ends_well('beside', 3, 2 .. 4);
is_deeply([ map { raised($_) } 'stubborn sending', 'stubborn waiting', 'stubborn in doubt' ], \@errors, 'no loop of errors');
$api->clear_orders;
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON screenshot_task_request');
$node->reload;
ok($node->wait_for_table("status = 'created'", where => "stream_name ~ '^stubborn'"), 'without the trigger all are created');
is($api->ledger(stream_name => "stubborn $_"), 1, "stubborn $_: one task") for 'sending', 'in doubt', 'waiting';
is($node->worker_pid, $worker_now, 'it is the same worker');

# A trigger waits for a lock that somebody keeps: nobody else waits for it.
$node->safe_psql('postgres', q{
	ALTER SERVER tencent_live OPTIONS (SET request_timeout '20s');
	CREATE TABLE tenant (name text);
	CREATE FUNCTION lock_tenant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.stream_name ~ TG_ARGV[0] AND NEW.status::text = TG_ARGV[1] THEN
			LOCK TABLE public.tenant;
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER lock_1 BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION lock_tenant('^waiting claim', 'sending');
	CREATE TRIGGER lock_2 AFTER UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION lock_tenant('^waiting result', 'created')});
fly_until_told('waiting result', 5);
my $keeper = $node->begin('BEGIN; LOCK TABLE tenant; SELECT pg_sleep(600)');
ok($node->poll_query_until('template1', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'pg_sleep.600' AND wait_event = 'PgSleep'"), 'a lock is kept');
$api->go_on;
$node->safe_psql('postgres', insert_sql(stream_name => \"'waiting claim ' || i", rows => 5) . insert_sql(stream_name => \"'waiting no more ' || i", rows => 5));
ends_well('waiting no more', 5);
for my $stream (map { ("waiting claim $_", "waiting result $_") } 1 .. 5)
{
	my ($row) = $node->table("stream_name = '$stream'");
	is($row->{status}, $stream =~ /claim/ ? 'pending' : 'sending', "$stream: is as it was");
}
like($node->log_text, qr/ERROR:  canceling statement due to lock timeout/, 'the log says why');
$node->safe_psql('template1', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'pg_sleep.600' AND pid <> pg_backend_pid()");
$keeper->end;
$node->reload;
ends_well("waiting $_", 5) for 'claim', 'result';
$node->safe_psql('postgres', 'DROP TRIGGER lock_1 ON screenshot_task_request; DROP TRIGGER lock_2 ON screenshot_task_request');
is($node->worker_pid, $worker_now, 'it is the same worker');

# The trigger of a result as a constraint trigger, which would raise its error at commit
$node->safe_psql('postgres', q{
	CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON screenshot_task_request DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION refuse('commit 2', 'created')});
fly('commit', 5);
ends_well('commit', 4, 1, 3, 4, 5);
cmp_ok(raised('commit 2'), '<=', 5, 'after a few errors');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON screenshot_task_request');
$node->reload;
ends_well('commit', 5);

unlike($node->log_text, qr/PANIC|terminated by signal|exited with exit code [^01]/, 'nothing crashed');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# Send requests, whose answers take a second and a half from here, or what is said.
sub fly
{
	my ($what, $n, $before, $fault) = @_;

	$api->order(fault => $fault // 'delay=1.5', stream => "$what *", times => $n);
	$node->safe_psql('postgres', ($before // '') . insert_sql(stream_name => \"'$what ' || i", rows => $n));
	wait_until(sub { grep({ ($_->{stream_name} // '') =~ /^$what \d+$/ } $api->requests) >= $n }) or die "$what did not fly";
	return;
}

# Send requests that are answered only once the stand-in goes on.  Returns their rows.
sub fly_until_told
{
	my ($what, $n) = @_;

	fly($what, $n, undef, "until=told of $what");
	$api->pause;
	$api->tell("told of $what");
	return map { my $i = $_; $node->table("stream_name = '$what $i'") } 1 .. $n;
}

# See that rows are created, by one request each, and agree with the ledger.
sub ends_well
{
	my ($what, $n, @numbers) = @_;
	@numbers = 1 .. $n unless @numbers;
	my $list = join ',', map { "'$what $_'" } @numbers;

	ok($node->wait_for_table("status = 'created'", where => "stream_name IN ($list)"), "$what: created");
	my @rows = $node->table("stream_name IN ($list)");
	is_deeply([ sort map { "$_->{stream_name}: $_->{task_id}" } @rows ],
		[ sort map { "$_->{stream_name}: $_->{task_id}" } map { $api->ledger(stream_name => "$what $_") } @numbers ], "$what: the table is the ledger");
	is_deeply([ map { scalar $api->requests(action => 'CreateScreenshotTask', stream_name => "$what $_") } @numbers ], [ (1) x $n ], "$what: each was sent once");
	return;
}

# The TaskId of a row that is gone is in the log.
sub is_logged
{
	my ($row) = @_;
	my ($task) = $api->ledger(stream_name => $row->{stream_name});
	my $line = qr/screenshot task request $row->{id} no longer exists, but its task was created\n.*DETAIL:  The TaskId is $task->{task_id}\.\n.*HINT:  Use stop_screenshot_task\(\) to end the task\./;

	ok(wait_until(sub { $node->log_text =~ $line }), "$row->{stream_name}: the TaskId is in the log");
	return;
}

# How often the trigger has raised its error
sub raised
{
	my ($stream) = @_;

	return scalar(() = $node->log_text =~ /ERROR:  not $stream\n/g);
}

sub running
{
	return split /\n/, $node->safe_psql('template1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker' AND datname = 'postgres'");
}

sub recreate
{
	$node->safe_psql('postgres', 'CREATE EXTENSION screenshot_task');
	$node->add_server('tencent_live', $api, @server);
	return;
}

sub fails_with
{
	my ($sql, $sqlstate) = @_;

	is($node->try($sql)->{error}{sqlstate}, $sqlstate, $sql);
	return;
}
