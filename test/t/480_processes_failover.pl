# Fail-over: the primary is killed in the middle of a drain, and its synchronous standby promoted.  Every request
# that was committed becomes one task.  A worker never runs on a standby, be it one that was a primary.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use List::Util qw(min);
use Test::More;
use Time::HiRes qw(time);

use constant { ROWS => 150, DOUBTFUL => 10 };

my $api     = LiveApi->new('--limit', 100);
my @options = (requests_per_second => 100, request_timeout => '1s');
my $primary = ScreenshotTaskTest->new('primary');

$primary->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
$primary->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'screenshot_task'
screenshot_task.sweep_interval = '1h'
screenshot_task.reconcile_grace = '100ms'
screenshot_task.reconcile_spacing = '300ms'
max_worker_processes = 20
autovacuum = off
wal_log_hints = on
wal_keep_size = '256MB'
END
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION screenshot_task');
$primary->add_server('tencent_live', $api, @options);
$primary->backup('base');
my $standby = standby('standby', $primary, 'base');
$primary->set(synchronous_standby_names => '*');
$primary->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')") or die 'no synchronous standby';

# A standby has no worker, but a session on it may call.
is(processes($standby), '', 'on a standby there is no worker');
is(write_error($standby), '25006', 'a standby takes no requests');
for my $steer ('cancel_screenshot_task_request(1)', 'retry_screenshot_task_request(1)', "resolve_screenshot_task_request(1, 'task')",
	'adopt_screenshot_task_requests()')
{
	my $error = $standby->try("SELECT $steer")->{error};

	is($error->{sqlstate}, '55000', "a standby refuses $steer");
	is($error->{message}, 'cannot modify screenshot task requests during recovery', 'and why');
	is($error->{hint}, 'Connect to the primary server instead.', 'and where instead');
}
my $answer = $standby->try(call_sql(stream_name => 'called on the standby'));
is($answer->{rows}[0][0], ($api->ledger(stream_name => 'called on the standby'))[0]{task_id}, 'create_screenshot_task() works there');

# In the middle of a drain, some answers being spoiled, the primary and all its processes are killed.
$api->order(fault => 'hang,create', stream => 'drain *', times => DOUBTFUL / 2);
$api->order(fault => 'hang', stream => 'drain *', times => DOUBTFUL / 2);
$api->order(fault => 'delay=0.1', stream => 'drain *', times => 0);
my $half = ROWS / 2;
$primary->safe_psql('postgres', insert_sql(stream_name => \"'drain ' || i", rows => $half)
	  . insert_sql(stream_name => \"'drain ' || i + $half", rows => $half)
	  . 'BEGIN;' . insert_sql(stream_name => \"'never ' || i", rows => 5) . 'ROLLBACK');
# Requests that were made at the primary, by a session that is killed with it
my $cut = $primary->begin('BEGIN;' . insert_sql(stream_name => 'never committed') . 'SELECT pg_sleep(100); COMMIT');
ok(wait_until(sub { grep({ ($_->{stream_name} // '') =~ /^drain/ } $api->requests) > 20 }), 'the drain is under way');
kill9($primary);
$cut->end;
my $created = () = $api->ledger;
my $promoted_at = time;
$standby->promote;
cmp_ok($created, '<', ROWS, 'the primary was killed before the end');
my $worker = $standby->worker_pid;
ok($worker, 'the new primary has a worker');
ok($standby->wait_for_table("status = 'created'"), 'all requests are created');
cmp_ok(min(grep { $_ > $promoted_at } map { $_->{time} } $api->requests), '>=', $promoted_at + 1, 'the limit counts as used up by the former primary');
is($api->requests(outcome => 'RequestLimitExceeded'), 0, 'and the API refuses none');
agree($standby);
is_deeply([ grep { $_->{stream_name} =~ /^never/ } $api->ledger ], [], 'what was not committed was not sent');

# New requests, and the old primary started again as a standby of the new one
$standby->safe_psql('postgres', insert_sql(stream_name => \"'after ' || i", rows => 10));
$standby->wait_for_table("status = 'created'");
my $requests = $api->requests;
my $old = rewound($primary, $standby);
$standby->wait_for_catchup($old, 'replay', $standby->lsn('insert'));
is(processes($old), '', 'on the old primary, now a standby, there is no worker');
is($api->requests, $requests, 'it has sent nothing');
is($old->safe_psql('postgres', 'SELECT count(*) FROM screenshot_task_request'), $standby->safe_psql('postgres', 'SELECT count(*) FROM screenshot_task_request'),
	'it has the requests');

# Requests fly, and the standby sends none of them.
$standby->safe_psql('postgres', insert_sql(stream_name => \"'with both ' || i", rows => 20));
ok($standby->wait_for_table("status = 'created'"), 'the new primary goes on');
is(processes($old), '', 'the standby still has no worker');
agree($standby);

# Promoted in its turn, after an orderly end
$standby->wait_for_catchup($old, 'replay', $standby->lsn('insert'));
$standby->stop('fast');
$old->promote;
$old->safe_psql('postgres', insert_sql(stream_name => \"'third ' || i", rows => 5));
ok($old->wait_for_table("status = 'created'"), 'promoted, it has a worker that sends');
agree($old);
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# A standby of a node, from a backup
sub standby
{
	my ($name, $of, $backup) = @_;
	my $node = ScreenshotTaskTest->new($name);

	$node->init_from_backup($of, $backup, has_streaming => 1);
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->start;
	return $node;
}

# A node that was killed, as a standby of the one that was promoted instead
sub rewound
{
	my ($node, $source) = @_;
	my $conf = $node->data_dir . '/postgresql.conf';
	my $text = PostgreSQL::Test::Utils::slurp_file($conf);

	PostgreSQL::Test::Utils::system_or_bail('pg_rewind', '--target-pgdata', $node->data_dir, '--source-server', $source->connstr('postgres'));
	unlink $conf;
	PostgreSQL::Test::Utils::append_to_file($conf, "$text\nsynchronous_standby_names = ''\n");
	$node->enable_streaming($source);
	$node->start;
	return $node;
}

sub processes
{
	my ($node) = @_;

	return $node->safe_psql('postgres', "SELECT string_agg(backend_type, ',') FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker'");
}

sub write_error { return $_[0]->try(insert_sql())->{error}{sqlstate} }

# Kill all processes of a server at once.
sub kill9
{
	my ($node) = @_;
	my @pids = split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'screenshot_task %'");

	kill 'STOP', $node->{_pid};
	kill 'KILL', @pids;
	$node->kill9;
	return;
}

# The table and the ledger: one task for each request.
sub agree
{
	my ($node) = @_;
	my %tasks;

	push @{ $tasks{ $_->{stream_name} } }, $_->{task_id} for $api->ledger;
	delete $tasks{'called on the standby'};
	my %rows;
	push @{ $rows{ $_->{stream_name} } }, $_->{task_id} for $node->table;
	is_deeply(\%rows, \%tasks, 'one task for each request: the table is the ledger');
	return;
}
