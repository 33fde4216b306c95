# A role may keep a request of its own locked for as long as it likes, in whatever state.  Nobody else waits for it, the
# worker does not spin, and the request goes on as soon as it is free.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.sweep_interval' => '1h', 'screenshot_task.reconcile_grace' => '100ms',
	'screenshot_task.reconcile_spacing' => '300ms');

$node->add_server('tencent_live', $api, request_timeout => '3s');
$node->safe_psql('postgres', join ';', map { "CREATE ROLE $_; GRANT INSERT ON screenshot_task_request TO $_; GRANT USAGE ON FOREIGN SERVER tencent_live TO $_" } 'app', 'mallory');
$node->safe_psql('postgres', insert_sql(stream_name => 'the first'));
$node->wait_for_table("status = 'created'") or die;

# Waiting, and due in a moment
mallory(stream_name => 'waiting', start_time => \"now() + interval '6 d 1 s'", end_time => \"now() + interval '6 d 1 h'");
my $session = locked('waiting');
is_in_nobodys_way('waiting');
$session->();
ends_created('waiting');

# Ready
$node->set('screenshot_task.enabled' => 'off');
mallory(stream_name => 'ready');
$session = locked('ready');
$node->set('screenshot_task.enabled' => 'on');
is_in_nobodys_way('ready');
$session->();
ends_created('ready');

# Ready, beside one of the same role that can be claimed
$node->set('screenshot_task.enabled' => 'off');
mallory(stream_name => 'ready and locked');
$session = locked('ready and locked');
mallory(stream_name => 'ready and free');
$node->set('screenshot_task.enabled' => 'on');
ends_created('ready and free');
$session->();
ends_created('ready and locked');

# Being sent, when its answer comes
mallory(stream_name => 'fault:delay=1#sending');
$api->wait_for_requests(1, stream_name => 'fault:delay=1#sending');
$session = locked('fault:delay=1#sending');
is_in_nobodys_way('sending');
$session->();
ends_created('fault:delay=1#sending');

# The same, of more than the server has room for: it is the role's room that is used up, and not that of others.
$node->add_server('narrow', $api, max_in_flight => 4);
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER narrow TO mallory, app');
mallory(stream_name => 'narrow, the first', server => 'narrow');
ends_created('narrow, the first');
$api->order(fault => 'delay=1', stream => 'narrow', times => 4);
mallory(stream_name => 'narrow', server => 'narrow', rows => 4);
$api->wait_for_requests(4, stream_name => 'narrow');
$session = locked('narrow');
mallory(stream_name => 'narrow, and more', server => 'narrow', rows => 6);
is_in_nobodys_way('narrow');
$node->safe_psql('postgres', 'SET ROLE app;' . insert_sql(stream_name => 'narrow, of another', server => 'narrow', rows => 6));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'narrow, of another'"), 'narrow: the same server serves others');
# What was claimed before it was seen that the answers could not be written has been sent.
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'narrow, and more' AND status = 'pending'"), '>=', 2, 'narrow: no more are sent');
$session->();
ok($node->wait_for_table("status = 'created'", where => "server = 'narrow'"), 'narrow: all are created once they are free');

# The same, of hundreds and of several servers: a role may have half as many as there may be of all.
my $wide = LiveApi->new('--limit', 1000);
for my $server (map { "wide$_" } 1 .. 6)
{
	$node->add_server($server, $wide, max_in_flight => 125, request_timeout => '60s', requests_per_second => 1000);
	$node->safe_psql('postgres', "GRANT USAGE ON FOREIGN SERVER $server TO mallory");
}
$wide->order(fault => 'delay=1', stream => 'wide', times => 0);
mallory(stream_name => 'wide', server => \"'wide' || 1 + i % 6", rows => 1000);
my $locking = $node->begin("SET ROLE mallory; SET client_min_messages = error; DO \$\$ BEGIN LOOP
		PERFORM cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE stream_name = 'wide' AND status = 'sending';
		PERFORM pg_sleep(0.1);
	END LOOP; END \$\$");
ok($node->poll_query_until('postgres', "SELECT count(*) > 450 FROM screenshot_task_request WHERE stream_name = 'wide' AND status = 'sending'"), 'wide: hundreds are locked as they are sent');
sleep 5;
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'wide' AND status = 'sending'"), '<', 650, 'wide: no more than about half of what there may be');
is_in_nobodys_way('wide');
$api->order(fault => 'error=InternalError', stream => 'wide, and in doubt', action => 'CreateScreenshotTask');
$node->safe_psql('postgres', 'SET ROLE app;' . insert_sql(stream_name => 'wide, and in doubt'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'wide, and in doubt'"), 'wide: the request of another is found out about');
$node->safe_psql('template1', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^DO' AND pid <> pg_backend_pid()");
$locking->end;
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'wide'"), 'wide: all are created once they are free');
is(scalar $wide->ledger(event => 'create', stream_name => 'wide'), 1000, 'wide: one task each');
$node->safe_psql('postgres', "DROP SERVER wide$_ CASCADE") for 1 .. 6;

# Being sent, when its worker is killed
mallory(stream_name => 'fault:hang,create#orphan');
$api->wait_for_requests(1, stream_name => 'fault:hang,create#orphan');
my $worker = $node->worker_pid;
$session = locked('fault:hang,create#orphan');
kill 'TERM', $worker;
ok(wait_until(sub { my $pid = $node->worker_pid; $pid && $pid != $worker }), 'another worker starts');
is_in_nobodys_way('orphan');
is(($node->table("stream_name ~ 'orphan'"))[0]{status}, 'sending', 'orphan: is as it was');
$session->();
ends_created('fault:hang,create#orphan');

# The same, free again when the worker's next transaction fails for another server's sake
$node->add_server('bad', $api);
mallory(stream_name => 'fault:hang,create#orphan of two');
$api->wait_for_requests(1, stream_name => 'fault:hang,create#orphan of two');
$worker = $node->worker_pid;
my $holding = $node->begin("BEGIN; SELECT FROM screenshot_task_request WHERE stream_name = 'fault:hang,create#orphan of two' FOR UPDATE;"
	  . 'SELECT pg_sleep(10); COMMIT; SELECT pg_reload_conf()');
$node->poll_query_until('template1', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'pg_sleep.10' AND wait_event = 'PgSleep'") or die;
kill 'TERM', $worker;
ok(wait_until(sub { my $pid = $node->worker_pid; $pid && $pid != $worker }), 'orphan of two: another worker starts');
$node->safe_psql('postgres', insert_sql(stream_name => 'of a bad server', server => 'bad') . 'DROP USER MAPPING FOR PUBLIC SERVER bad');
is_deeply($holding->end->{error}, undef, 'orphan of two: is let go');
ends_created('fault:hang,create#orphan of two');
$node->safe_psql('postgres', "DELETE FROM screenshot_task_request WHERE server = 'bad'; DROP SERVER bad");

# Refused by the account's limit, so that it is to be sent again
mallory(stream_name => 'fault:delay=1,error=RequestLimitExceeded,times=1#refused');
$api->wait_for_requests(1, stream_name => 'fault:delay=1,error=RequestLimitExceeded,times=1#refused');
$session = locked('fault:delay=1,error=RequestLimitExceeded,times=1#refused');
is_in_nobodys_way('refused');
$session->();
ends_created('fault:delay=1,error=RequestLimitExceeded,times=1#refused');

# In doubt
$api->order(fault => 'error=InternalError', stream => 'doubtful', action => 'CreateScreenshotTask');
$node->set('screenshot_task.reconcile_grace' => '1s');
mallory(stream_name => 'doubtful');
ok(wait_until(sub { ($node->table("stream_name = 'doubtful'"))[0]{status} eq 'in_doubt' }), 'doubtful: is in doubt');
$session = locked('doubtful');
ok($node->poll_query_until('postgres', "SELECT now() > next_attempt_at + interval '1 s' FROM screenshot_task_request WHERE stream_name = 'doubtful'"), 'doubtful: is due');
is_in_nobodys_way('doubtful and due');
is(scalar $api->requests(stream_name => 'doubtful', action => 'DescribeScreenshotTask'), 0, 'doubtful: is not asked about while it is locked');
$session->();
ends_created('doubtful');

# The whole table, for longer than a request may take: what is answered meanwhile is taken, and written afterwards.
$node->safe_psql('postgres', "ALTER SERVER tencent_live OPTIONS (SET request_timeout '3s')");
$node->safe_psql('postgres', 'SET ROLE app;' . insert_sql(stream_name => \"'fault:delay=1#table ' || i", rows => 3));
ok(wait_until(sub { grep({ ($_->{stream_name} // '') =~ /#table/ } $api->requests) == 3 }), 'table: requests are under way');
ok(!$node->begin('BEGIN; LOCK TABLE screenshot_task_request IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(5); COMMIT')->end->{error}, 'table: is locked for five seconds');
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name ~ '#table'"), 'table: they are created at once afterwards');
unlike($node->log_text, qr/#table.*in doubt/, 'table: none was in doubt');

# A worker that cannot get at its table is in nobody's way: not in that of a command that wants its database alone.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION screenshot_task');
$node->add_server('tencent_live', $api, dbname => 'other');
$node->safe_psql('other', insert_sql(stream_name => 'elsewhere'));
ok($node->wait_for_table("status = 'created'", dbname => 'other'), 'another database has a worker');
my $holder = $node->begin('BEGIN; LOCK TABLE screenshot_task_request; SELECT pg_sleep(600)', dbname => 'other');
ok(wait_until(sub { $node->safe_psql('template1', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'other' AND wait_event = 'PgSleep'") == 1 }), 'its table is locked');
is_deeply($node->try("SET statement_timeout = '60s'; DROP DATABASE other WITH (FORCE)", dbname => 'template1')->{error}, undef, 'it is dropped all the same');
$holder->end;

unlike($node->log_text, qr/PANIC|terminated by signal/, 'nothing crashed');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub mallory
{
	$node->safe_psql('postgres', 'SET ROLE mallory;' . insert_sql(@_));
	return;
}

# Lock a request of mallory's; returns how to let it go.
sub locked
{
	my ($stream) = @_;
	my $pid;
	my $holder = $node->begin("SET ROLE mallory; BEGIN; SET LOCAL client_min_messages = error;"
		  . "SELECT cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE stream_name = '$stream'; SELECT pg_sleep(600)");

	$node->poll_query_until('template1', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'pg_sleep.600' AND wait_event = 'PgSleep'") or die;
	return sub {
		$node->safe_psql('template1', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'pg_sleep.600' AND pid <> pg_backend_pid()");
		$holder->end;
	};
}

# Requests of others are created meanwhile, and the worker does not go round and round.
sub is_in_nobodys_way
{
	my ($what) = @_;

	$node->safe_psql('postgres', 'SET ROLE app;' . insert_sql(stream_name => \"'beside $what ' || i", rows => 5));
	ok($node->wait_for_table("status = 'created'", where => "stream_name ~ '^beside $what '"), "$what: others are created meanwhile");
	sleep 2;
	cmp_ok($node->transactions_a_second(3), '<', 20, "$what: the worker does not spin");
	return;
}

sub ends_created
{
	my ($stream) = @_;

	ok($node->wait_for_table("status = 'created'", where => "stream_name = '$stream'"), "$stream: is created once it is free");
	is($api->ledger(stream_name => $stream), 1, "$stream: one task");
	return;
}
