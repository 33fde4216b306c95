# What a process waits for shows in pg_stat_activity: by names of the extension's own where PostgreSQL, from 17 on, lets
# extensions have them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api   = LiveApi->new('--metadata');
my $node  = ScreenshotTaskTest->start_new('main');
my $named = $node->pg_version >= 17;

$node->add_server('tencent_live', $api);
$node->add_server('slow', $api, requests_per_second => 1, account => [ 'AKIDSLOW', 'secretKeyOfSLOW' ]);
$node->add_server('role', $api, account => undef, credentials => 'role', metadata_endpoint => $api->metadata_endpoint);

waits('Launcher', "backend_type = 'screenshot_task launcher'");
$node->safe_psql('postgres', insert_sql());
ok($node->wait_for_table("status = 'created'"), 'the worker works');
waits('Worker', "backend_type = 'screenshot_task worker'");

# Sessions: for an answer, for a slot, for the credentials of the machine's role, and for those that another fetches
$api->order(fault => 'hang', stream => 'hangs');
waits_while('Call', call_sql(stream_name => 'hangs'));
waits_while('Permit', call_sql(server => 'slow') x 100);
$api->set_metadata(delay => 600);
my $fetches = $node->begin(call_sql(server => 'role', stream_name => 'fetches') x 100);
waits('Role', "query ~ 'fetches'");
waits_while('Role', call_sql(server => 'role', stream_name => 'awaits') x 100);
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'fetches' AND pid <> pg_backend_pid()");
$fetches->end;

# A command that wants a database alone, whose worker is slow to leave
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other',    'CREATE EXTENSION screenshot_task');
my $worker = $node->worker_pid('other');
kill 'STOP', $worker;
my $drop = $node->begin('DROP DATABASE other');
waits('StepAside', "query = 'DROP DATABASE other'");
kill 'CONT', $worker;
is_deeply($drop->end->{error}, undef, 'it leaves');

# A worker that begins, and finds its table locked
$worker = $node->worker_pid;
my $lock = $node->begin('BEGIN; LOCK TABLE screenshot_task_request; SELECT pg_sleep(600)');
$node->poll_query_until('template1', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'") or die;
kill 'TERM', $worker;
waits('Locked', "backend_type = 'screenshot_task worker' AND pid <> $worker");
$node->safe_psql('template1', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
$lock->end;
waits('Worker', "backend_type = 'screenshot_task worker'");

is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# Some process of those waits, or will
sub waits
{
	my ($what, $which) = @_;
	my $name = $named ? "ScreenshotTask$what" : 'Extension';

	ok($node->poll_query_until('template1',
			"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $which AND pid <> pg_backend_pid()"
			  . " AND wait_event_type = 'Extension' AND wait_event = '$name')"),
		"$name, while $which");
	return;
}

# A session that runs SQL waits, and is ended.
sub waits_while
{
	my ($what, $sql) = @_;
	my $session = $node->begin("SET application_name = 'waits for $what';\n$sql");
	my $which   = "application_name = 'waits for $what'";

	waits($what, $which);
	$node->safe_psql('template1', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $which");
	$session->end;
	return;
}
