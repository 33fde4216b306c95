# A commit of the worker's that waits for a synchronous standby takes no wake-up with it: what is committed meanwhile is
# sent as soon as the wait is over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', wal_level => 'replica', max_wal_senders => 4, 'screenshot_task.sweep_interval' => '1h');
my $folder = PostgreSQL::Test::Utils::tempdir;

$node->add_server('tencent_live', $api);
$node->safe_psql('postgres', insert_sql(stream_name => 'before'));
$node->wait_for_table("status = 'created'") or die;

$node->safe_psql('postgres', insert_sql(stream_name => 'fault:delay=6#first'));
$api->wait_for_requests(1, stream_name => 'fault:delay=6#first') or die;
$node->set(synchronous_standby_names => 'standby');
$node->poll_query_until('postgres', "SELECT current_setting('synchronous_standby_names') = 'standby'") or die;
ok($node->poll_query_until('postgres', "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker'"), 'the commit of a result waits for a standby');
insert_at_once('second');
sleep 1;    # for the worker to be woken, and not to see it

my $standby = LiveApi::spawn(
	[ 'pg_receivewal', '--synchronous', '--no-loop', '-D', $folder, '-d', $node->connstr . ' application_name=standby' ], "$folder/out", "$folder/err");
ok($node->wait_for_table("status = 'created'"), 'with a standby, both are created');
is($api->ledger(stream_name => $_), 1, "$_: one task") for 'fault:delay=6#first', 'second';
$node->set(synchronous_standby_names => '');
LiveApi::end_process('TERM', $standby);
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub insert_at_once
{
	my ($stream) = @_;

	$node->safe_psql('postgres', "SET synchronous_commit = local;" . insert_sql(stream_name => $stream));
	return;
}
