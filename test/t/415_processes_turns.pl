# Databases take turns where there are more of them than slots for their workers: none starves, whether the others have
# work for minutes or none at all; and the log names the setting to raise, once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api = LiveApi->new;
# PostgreSQL's own logical replication launcher has one slot, ours another, and the third is for the workers.
my $node = ScreenshotTaskTest->start_new('main', max_worker_processes => 3, 'screenshot_task.sweep_interval' => '1h',
	'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '3s');
my @databases = ('postgres', map { "db$_" } 1 .. 4);
my $full = qr/LOG:  could not start a screenshot_task worker: all background worker slots are in use\n.*DETAIL:  The database with OID \d+ is waiting for a slot\.  Workers will be scheduled in turn\.\n.*HINT:  Raise "max_worker_processes"\.\n/;

for my $dbname (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $dbname") unless $dbname eq 'postgres';
	$node->safe_psql($dbname, 'CREATE EXTENSION IF NOT EXISTS screenshot_task');
	$node->add_server('tencent_live', $api, dbname => $dbname, requests_per_second => 5, request_timeout => '1s');
}

# Each in turn, the others being idle; twice, so that some have had a worker that has left
for my $round (1, 2)
{
	$node->safe_psql($_, insert_sql(stream_name => "$_, round $round")) for @databases;
	ok($node->wait_for_table("status = 'created'", dbname => $_), "$_, round $round: created") for @databases;
}
cmp_ok(workers(), '<=', 1, 'there is one slot');

# One has work for half a minute, another a request that goes in doubt, and is asked about twice with a pause between
$node->safe_psql('db1', insert_sql(rows => 150, stream_name => \"'long ' || i"));
ok(wait_until(sub { $api->requests(stream_name => 'long 10') || $api->requests(stream_name => 'long 20') }), 'one has much to do');
$node->safe_psql('db2', insert_sql(stream_name => 'fault:hang,times=1#lost') . insert_sql(stream_name => 'fault:hang,create#made'));
$node->safe_psql($_, insert_sql(stream_name => "$_, beside")) for 'db3', 'db4', 'postgres';
ok($node->wait_for_table("status = 'created'", dbname => $_, where => "stream_name ~ 'beside'"), "$_: gets its turn") for 'db3', 'db4', 'postgres';
cmp_ok($api->ledger(event => 'create') + 0, '<', 150, 'before the one that has much to do is through');
ok($node->wait_for_table("status = 'created'", dbname => $_), "$_: all are created in the end") for @databases;
for my $dbname (@databases)
{
	is_deeply([ map { $_->{task_id} } $node->table('true', dbname => $dbname) ],
		[ map { my @tasks = $api->ledger(stream_name => $_->{stream_name}); "@{[ map { $_->{task_id} } @tasks ]}" } $node->table('true', dbname => $dbname) ],
		"$dbname: one task for each request");
}
is($api->requests(action => 'CreateScreenshotTask', stream_name => $_->[0]), $_->[1], "$_->[0]: sent $_->[1] times")
	for [ 'fault:hang,times=1#lost', 2 ], [ 'fault:hang,create#made', 1 ];
is(scalar(grep { $_->{attempts} != 1 } $node->table('true', dbname => 'db1')), 0, 'nothing was in flight when its worker left');
is(scalar(() = $node->log_text =~ /$full/g), 1, 'the log names the setting, once');
unlike($node->log_text, qr/worker exited while|WARNING|PANIC|terminated by signal/, 'no worker left anything behind');

# A request that is not answered holds up the others for no longer than a turn; it is in doubt then.
$node->add_server('patient', $api, dbname => 'db1', request_timeout => '5min');
$node->safe_psql('db1', insert_sql(server => 'patient', stream_name => 'fault:hang,create#patient'));
$api->wait_for_requests(1, stream_name => 'fault:hang,create#patient') or die;
$node->safe_psql($_, insert_sql(stream_name => "$_, meanwhile")) for 'db3', 'db4';
ok($node->wait_for_table("status = 'created'", dbname => $_), "$_: gets its turn while a request of another is not answered") for 'db3', 'db4';
ok($node->wait_for_table("status = 'in_doubt'", dbname => 'db1', where => "server = 'patient'"), 'which is in doubt, and known to be');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub workers
{
	return $node->safe_psql('template1', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker'");
}
